"""How headless runs talk to their kernel: over sockets of this user, never over TCP."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager


class SocketKernelManager(AsyncKernelManager):
    """Start kernels on Unix sockets in a folder of their own, which other users of the machine cannot enter.

    Left to itself, jupyter_client makes its sockets in the folder that it is started from, under names that the
    next run from there would use as well.
    """

    def __init__(self, **options: object) -> None:
        folder = tempfile.mkdtemp(prefix="labkit-kernel-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        own = {"transport": "ipc", "connection_file": str(Path(folder, "kernel.json"))}
        super().__init__(**{**own, **options})

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command; what the kernel says of its own end is no news to whoever runs a runbook."""
        words: list[str] = super().format_kernel_cmd([*(extra_arguments or []), "--log-level=CRITICAL"])
        return words
