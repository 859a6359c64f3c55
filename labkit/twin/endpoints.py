"""Where the lab's addresses are on loopback: each `host:port` has a port here that is its own for good.

A port is held by a bound socket that never listens, so a connection to something that is down is refused, as
on a real LAN, and nothing else on this machine can take the port meanwhile.
"""

from __future__ import annotations

import socket
from pathlib import Path

from labkit.twin.state import write_json

LOOPBACK = "127.0.0.1"


class Endpoints:
    """Hand out ports on loopback and keep the file that says which is whose."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: dict[str, socket.socket] = {}

    def reserve(self, *names: str) -> None:
        """Hold a port for each `host:port` that has none yet, and write the file."""
        missing = [name for name in names if name not in self._held]
        for name in missing:
            self._held[name] = _bound(0)
        if missing or not self._file.exists():
            write_json(self._file, {name: f"{LOOPBACK}:{self.port(name)}" for name in self._held})

    def port(self, name: str) -> int:
        """Return the port of a reserved `host:port`."""
        return int(self._held[name].getsockname()[1])

    def port_of(self, name: str) -> int | None:
        """Return the port of a `host:port`, None when nobody has reserved it."""
        return self.port(name) if name in self._held else None

    def listen(self, name: str) -> socket.socket:
        """Return a listening socket for a `host:port`, reserved now if it was not; the caller closes it."""
        self.reserve(name)
        listener = _bound(self.port(name))
        listener.listen(128)
        listener.setblocking(False)
        return listener


def _bound(port: int) -> socket.socket:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((LOOPBACK, port))
    return held
