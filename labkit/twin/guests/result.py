"""What a command in a guest left."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Result:
    """Exit status and the two streams."""

    status: int = 0
    out: bytes = b""
    err: bytes = b""


def say(text: str, status: int = 0) -> Result:
    """Return a result that wrote a line to standard output."""
    return Result(status, f"{text}\n".encode() if text else b"")


def complain(text: str, status: int = 1) -> Result:
    """Return a result that wrote a line to standard error and failed."""
    return Result(status, b"", f"{text}\n".encode())
