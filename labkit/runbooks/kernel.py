"""How headless runs talk to their kernel: over sockets of this user, never over TCP."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager

_MOST_BYTES = 107
"""How long the path of a Unix socket may be on Linux, in bytes."""
_PREFIX = "labkit-kernel-"
_LONGEST_NAME = len(f"/{_PREFIX}01234567/kernel-ipc-5")


class SocketKernelManager(AsyncKernelManager):
    """Start kernels on Unix sockets in a folder of their own, which other users of the machine cannot enter.

    Left to itself, jupyter_client makes its sockets in the folder that it is started from, under names that the
    next run from there would use as well.
    """

    def __init__(self, **options: object) -> None:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=_short_folder())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        own = {"transport": "ipc", "connection_file": str(Path(folder, "kernel.json"))}
        super().__init__(**{**own, **options})

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command; what the kernel says of its own end is no news to whoever runs a runbook."""
        words: list[str] = super().format_kernel_cmd([*(extra_arguments or []), "--log-level=CRITICAL"])
        return words


def _short_folder() -> str:
    """Return the folder for temporary files, or `/tmp` where its path leaves no room for a socket's name."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) + _LONGEST_NAME <= _MOST_BYTES else "/tmp"  # noqa: S108  # mkdtemp's own 0700 folder goes in it
