"""JSON-RPC errors as TrueNAS gives them."""

from __future__ import annotations

import errno
from typing import Any


class RpcError(Exception):
    """An answer that is no result: code, message and data of the error object."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    def view(self) -> dict[str, Any]:
        """Return the error object."""
        found = {"code": self.code, "message": str(self)}
        return found if self.data is None else {**found, "data": self.data}


def call_error(name: str, reason: str, *, kind: str = "CallError") -> RpcError:
    """Build the error of a method that failed; `name` is that of an errno, or TrueNAS' own ENOTAUTHENTICATED."""
    number = {"ENOTAUTHENTICATED": 207}.get(name) or getattr(errno, name)
    data = {"error": number, "errname": name, "reason": f"[{name}] {reason}", "extra": None,
            "trace": {"class": kind, "frames": [], "formatted": "", "repr": f"<{kind}>"}}  # fmt: skip
    return RpcError(-32001, "Method call error", data)


def invalid_params(attribute: str, message: str) -> RpcError:
    """Build the error of a call whose parameters are wrong."""
    reason = f"[EINVAL] {attribute}: {message}"
    data = {"error": errno.EINVAL, "errname": "EINVAL", "reason": reason, "trace": None,
            "extra": [[attribute, message, errno.EINVAL]]}  # fmt: skip
    return RpcError(-32602, "Invalid params", data)


def no_match() -> RpcError:
    """Build the error of `get: true` when nothing matches."""
    return call_error("ENOENT", "MatchNotFound", kind="MatchNotFound")
