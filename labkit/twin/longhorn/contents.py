"""What is on a volume: a small file tree as a tar archive from the first byte on, and its checksum.

The archive is written the same way every time, so that equal trees are equal bytes; `tar -tf` reads the raw image.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from labkit.errors import LabError

Tree = Mapping[str, bytes]


class ContentError(LabError):
    """Say that a volume does not hold what can be read."""


def write_tree(image: Path, files: Tree) -> None:
    """Replace everything on a volume by a tree; the rest of the image becomes a hole."""
    data, size = pack(files), image.stat().st_size
    if len(data) > size:
        raise ContentError(f"{image.parent.name}: expected at most {size} bytes, got files of {len(data)}")
    with image.open("r+b") as file:
        file.truncate(0)
        file.truncate(size)
        file.write(data)


def read_tree(image: Path) -> dict[str, bytes]:
    """Return the files of a volume by path; {} for one that was never written; raise ContentError."""
    if is_blank(image):
        return {}
    try:
        with tarfile.open(image, "r:") as archive:
            members = [member for member in archive.getmembers() if member.isfile()]
            return {member.name: _read(archive, member) for member in members}
    except tarfile.TarError as exc:
        raise ContentError(f"{image.parent.name}: expected a file tree, got none: {exc}") from exc


def is_blank(image: Path) -> bool:
    """Tell whether a volume was never written (its first block is zeros)."""
    with image.open("rb") as file:
        return not file.read(tarfile.BLOCKSIZE).strip(b"\0")


def tree_checksum(files: Tree) -> str:
    """Return the SHA-256 of a tree: over `sha256  path` of each file, sorted by path, as sha256sum writes it."""
    return hashlib.sha256(checksum_lines(files).encode()).hexdigest()


def checksum_lines(files: Tree) -> str:
    """Return a line of `sha256  ./path` for each file, sorted by path."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  ./{name}\n" for name, data in sorted(files.items()))


def checksum(image: Path) -> str:
    """Return the checksum of the tree on a volume; raise ContentError."""
    return tree_checksum(read_tree(image))


def range_checksum(image: Path, words: Iterable[str]) -> str:
    """Return the SHA-256 of those parts of an image that words such as `0:4194304` name, one behind the other."""
    found = hashlib.sha256()
    with image.open("rb") as file:
        for match in filter(None, (re.fullmatch(r"(\d+):(\d+)", word) for word in words)):
            file.seek(int(match[1]))
            found.update(file.read(int(match[2])))
    return found.hexdigest()


def pack(files: Tree) -> bytes:
    """Return a tree as a tar archive, sorted, without owners and dates."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""
