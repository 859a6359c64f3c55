"""Look into an extracted ext2, ext3 or ext4 image with debugfs, without mounting it and without root."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import StepFailed
from labkit.process import run_program
from labkit.systems.backupstore.access import bad_option

_SECONDS = 600
_EXT_MAGIC_AT = 1024 + 56
_SBIN = os.pathsep.join(["/usr/sbin", "/sbin", "/usr/local/sbin"])
_TYPES = {0o04: "folder", 0o10: "file", 0o12: "link", 0o02: "device", 0o06: "device", 0o01: "pipe", 0o14: "socket"}


@dataclass(frozen=True)
class FileEntry:
    """One entry of a folder in an image; `size` in bytes, `mode` as in `stat`."""

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int


def content_of(image: Path) -> str:
    """Say what an image holds by its first bytes: ext, xfs, btrfs, luks, partitions, or unknown.

    Raises:
        InputError: it can't be read.
    """
    try:
        with image.open("rb") as file:
            head = file.read((64 << 10) + 128)
    except OSError as exc:
        raise bad_option(str(image), "an image that can be read", exc.strerror or str(exc)) from exc
    signs = {
        "luks": head[:6] == b"LUKS\xba\xbe",
        "ext": head[_EXT_MAGIC_AT : _EXT_MAGIC_AT + 2] == b"\x53\xef",
        "xfs": head[:4] == b"XFSB",
        "btrfs": head[0x10040:0x10048] == b"_BHRfS_M",
        "partitions": head[510:512] == b"\x55\xaa",
    }
    return next((name for name, is_it in signs.items() if is_it), "unknown")


def list_files(image: Path, folder: str = "/") -> tuple[FileEntry, ...]:
    """List a folder in an image, sorted by name.

    Raises:
        InputError: the image holds no ext file system, or has no such folder.
        StepFailed: debugfs is missing or fails.
    """
    text = _debugfs(image, f"ls -p {_quoted(folder)}", folder)
    entries = (_entry(line) for line in text.split("\n") if line.startswith("/"))
    return tuple(sorted((e for e in entries if e and e.name not in {".", ".."}), key=lambda e: e.name))


def read_file(image: Path, path: str, out: Path) -> int:
    """Copy a file out of an image to a new file; returns its size in bytes.

    Raises:
        InputError: `out` exists, or the image holds no such file.
        StepFailed: debugfs is missing or fails.
    """
    if out.exists():
        raise bad_option(str(out), "a new file", "one that exists", "name another")
    about = _debugfs(image, f"stat {_quoted(path)}", path)
    if "Type: regular" not in about:
        raise bad_option(path, "a plain file", "something else", "list it without --out")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        _debugfs(image, f"dump {_quoted(path)} {_quoted(str(part))}", path)
        size = part.stat().st_size
        part.rename(out)
    except OSError as exc:
        raise StepFailed(f"{out}: expected to write it, got: {exc.strerror}") from exc
    finally:
        part.unlink(missing_ok=True)
    return size


def _entry(line: str) -> FileEntry | None:
    """Read `/inode/mode/uid/gid/name/size/`; a deleted entry has inode 0."""
    fields = line.split("/")
    if len(fields) < 8 or fields[1] == "0":
        return None
    mode = int(fields[2], 8)
    kind = _TYPES.get(mode >> 12, "unknown")
    return FileEntry(fields[5], kind, mode & 0o7777, int(fields[3]), int(fields[4]), int(fields[6] or 0))


def _debugfs(image: Path, request: str, path: str) -> str:
    found = content_of(image)
    if found != "ext":
        raise bad_option(str(image), "an image with an ext2, ext3 or ext4 file system", *_other(found))
    program = shutil.which("debugfs") or shutil.which("debugfs", path=_SBIN)
    if program is None:
        raise StepFailed(
            f"{image}: expected the program debugfs to look into it, got none",
            next_step="install the package e2fsprogs, or mount the image read-only: mount -o ro,loop",
        )
    done = run_program([program, "-R", request, image], timeout=_SECONDS)
    # debugfs ends with status 0 whatever happens; besides its banner, what it says there is an error.
    said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if not line.startswith("debugfs ")]
    if said:
        raise bad_option(f"{image}: {path}", "something that the image holds", " ".join(said))
    return done.text


def _other(found: str) -> tuple[str, str]:
    words = {
        "luks": ("LUKS ciphertext", "open it with cryptsetup and the volume's key first"),
        "xfs": ("an XFS file system", "mount it read-only: mount -o ro,loop,norecovery"),
        "btrfs": ("a Btrfs file system", "mount it read-only: mount -o ro,loop"),
        "partitions": ("a partition table", "attach it with losetup --partscan --read-only"),
    }
    return words.get(found, ("none that is known", "an application may use the device without a file system"))


def _quoted(path: str) -> str:
    if "\n" in path or "\0" in path:
        raise bad_option("PATH", "a path without line breaks", repr(path))
    doubled = path.replace('"', '""')
    return f'"{doubled}"'
