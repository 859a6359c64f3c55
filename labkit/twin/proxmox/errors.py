"""Errors as Proxmox answers them, and as its tasks end."""

from __future__ import annotations

from collections.abc import Mapping


class PveError(Exception):
    """An answer that is no success: status, message, and for a 400 a message per parameter."""

    def __init__(self, status: int, message: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = dict(errors or {})


class TaskError(Exception):
    """The end of a task with this text in place of OK."""


class TaskVanishedError(Exception):
    """The end of a task whose worker died without a word."""


def parameter_error(**fields: str) -> PveError:
    """Return the 400 that names parameters."""
    return PveError(400, "Parameter verification failed.", fields)


def no_config(node: str, vmid: int) -> PveError:
    """Return the answer for a VM that is not on a node."""
    return PveError(500, f"Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist")


def lock_timeout(vmid: int) -> PveError:
    """Return the answer when the lock of a configuration was not free in time."""
    return PveError(500, f"can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout")
