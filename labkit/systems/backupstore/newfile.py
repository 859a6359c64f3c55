"""A file that is whole when it has its name, or does not have it at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.errors import StepFailed
from labkit.systems.backupstore.access import bad_option


@contextmanager
def new_file(image: Path, *, force: bool) -> Iterator[int]:
    """Give a file beside the image that takes its name at the end, when all went well, and is removed otherwise.

    Raises:
        InputError: a file of that name came meanwhile, and `force` is not set.
        StepFailed: it can't be written.
    """
    try:
        fd, name = tempfile.mkstemp(prefix=f"{image.name}.", suffix=".part", dir=image.parent)
    except OSError as exc:
        raise StepFailed(f"{image}: expected to write it, got: {exc.strerror}") from exc
    part = Path(name)
    try:
        try:
            yield fd
        finally:
            os.close(fd)
        _take_name(part, image, force=force)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise StepFailed(f"{image}: expected to write it, got: {exc.strerror or exc}") from exc
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(image.parent)


def _take_name(part: Path, image: Path, *, force: bool) -> None:
    if force:
        part.replace(image)
        return
    try:
        os.link(part, image)  # unlike a rename, never over a file that came meanwhile
    except FileExistsError as exc:
        raise bad_option(str(image), "a new file", "one that came meanwhile", "name another") from exc
    except OSError as exc:
        if exc.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            raise
        part.rename(image)  # a file system without links
        return
    part.unlink()


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
