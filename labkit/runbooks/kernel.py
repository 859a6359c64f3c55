"""How headless runs talk to their kernel: over sockets of this user, never over TCP."""

from __future__ import annotations

from jupyter_client.manager import AsyncKernelManager


class SocketKernelManager(AsyncKernelManager):
    """Start kernels on Unix sockets, which other users of the machine cannot reach."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{"transport": "ipc", **options})

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command; what the kernel says of its own end is no news to whoever runs a runbook."""
        words: list[str] = super().format_kernel_cmd([*(extra_arguments or []), "--log-level=CRITICAL"])
        return words
