"""What Proxmox answers when it says no, and what each answer means for the next step."""

from __future__ import annotations

import re
from enum import StrEnum

from labkit.errors import LabError, StepFailed, SystemDown


class Trouble(StrEnum):
    """What kind of no an answer is; it decides what may be tried next."""

    BUSY = "busy"
    """Nothing was done; the same call works in a moment."""
    LOCKED = "locked"
    """An operation holds the VM; wait for its end."""
    UNKNOWN = "unknown"
    """It may or may not have been done: look first."""
    TAKEN = "taken"
    """The VMID is in use."""
    GONE = "gone"
    """The VM is not, or no longer, on that host."""
    AWAY = "away"
    """The host cannot be reached by the others."""
    QUORUM = "quorum"
    """The cluster takes no writes."""
    FULL = "full"
    """No room on the storage."""
    DENIED = "denied"
    """The token lacks a privilege."""
    LOGIN = "login"
    """The token is not known, or its secret is wrong."""
    SILENT = "silent"
    """The guest agent does not answer."""
    OTHER = "other"


_BY_TEXT: tuple[tuple[str, Trouble], ...] = (
    (r"no quorum", Trouble.QUORUM),
    (r"can't lock file|got lock (request )?timeout|got lock timeout|unable to (acquire|get) lock", Trouble.BUSY),
    (r"VM is locked|CT is locked", Trouble.LOCKED),
    (r"got no worker upid|starting worker failed|start worker failed|interrupted by signal", Trouble.UNKNOWN),
    (r"unexpected status", Trouble.UNKNOWN),
    (r"config file already exists|VM \d+ already exists|already exists on node", Trouble.TAKEN),
    (r"[Nn]o space left|not enough (free )?space|insufficient free space|out of space", Trouble.FULL),
    (r"free space in thin pool .* reached threshold", Trouble.FULL),
    (r"unable to find configuration file|Configuration file .* does not exist", Trouble.GONE),
    (r"guest agent is not running|No QEMU guest agent|guest-ping|qmp command 'guest", Trouble.SILENT),
    (r"Permission check failed|only root can", Trouble.DENIED),
    (r"[Nn]o route to host|[Cc]onnection refused|hostname lookup", Trouble.AWAY),
)  # fmt: skip
_BY_STATUS = {401: Trouble.LOGIN, 403: Trouble.DENIED, 595: Trouble.AWAY, 502: Trouble.UNKNOWN, 504: Trouble.UNKNOWN}

_NEXT = {
    Trouble.BUSY: "another operation holds a lock; run again in a moment",
    Trouble.LOCKED: "wait for that operation (Tasks of the VM); after a crash: `qm unlock VMID` on its host",
    Trouble.UNKNOWN: "run again: it looks at what is there before it goes on",
    Trouble.TAKEN: "run again, or give the VM another vmid in the lab file",
    Trouble.GONE: "it was moved or removed meanwhile: run again",
    Trouble.AWAY: "bring that host back (`pvecm status` on another one), then run again",
    Trouble.QUORUM: "bring hosts back until `pvecm status` says Quorate: Yes, then run again",
    Trouble.FULL: "free room on that storage (`pvesm status`), or use another one in the lab file; then run again",
    Trouble.DENIED: "grant the privilege named above; the runbook preflight shows the commands",
    Trouble.LOGIN: "check the token's id, its secret and its expiry (Datacenter > Permissions > API Tokens)",
    Trouble.SILENT: "look at the VM's console; the template needs qemu-guest-agent installed and enabled",
    Trouble.OTHER: "see the task's log in Proxmox, then run again",
}
_LOCK = re.compile(r"(?:VM|CT) is locked \((\S+?)\)")


def classify(reason: str, status: int = 0) -> Trouble:
    """Return what kind of no an answer is, by its text (which says more) or its HTTP status."""
    for pattern, trouble in _BY_TEXT:
        if re.search(pattern, reason):
            return trouble
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Trouble.UNKNOWN if status > 595 else Trouble.OTHER


class ProxmoxError(StepFailed):
    """Report a call or a task that Proxmox refused or failed.

    Attributes:
        status: the HTTP status; 0 when the task failed or the connection broke.
        reason: the status line and the body of the answer, or the task's exit status.
        trouble: what kind of no it is.
    """

    def __init__(self, what: str, reason: str, *, status: int = 0, trouble: Trouble | None = None) -> None:
        self.status = status
        self.reason = reason
        self.trouble = classify(reason, status) if trouble is None else trouble
        code = f" (HTTP {status})" if status else ""
        super().__init__(f"{what}: Proxmox said: {reason}{code}", next_step=_NEXT[self.trouble])

    @property
    def lock(self) -> str:
        """The lock that an operation holds on the VM; empty when it is none."""
        match = _LOCK.search(self.reason)
        return match[1] if match else ""


def explain(exc: ProxmoxError, doing: str) -> LabError:
    """Return the error for people: what was being done, what was expected, what Proxmox said, what to do next."""
    kind: type[LabError] = SystemDown if exc.trouble in (Trouble.LOGIN, Trouble.AWAY) else StepFailed
    return kind(f"{doing}: expected it done, got: {exc.reason}", next_step=exc.next_step)
