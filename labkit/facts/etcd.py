"""What there is of etcd: snapshots and where they lie, what the servers hold, an earlier restore, the API's objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import Field

from labkit.facts.guests import TokenState
from labkit.facts.proxmox import Fact

LOCAL = "local"
"""The place of a snapshot that lies on this machine."""
S3 = "s3"
NEWEST, NEW = "newest", "new"
"""Words in place of a snapshot's name: the newest there is; one that is saved first."""
UNDO = "before-restore"
"""What the names of the snapshots begin with that a restore saves first."""
SLACK = timedelta(seconds=2)
"""A snapshot takes a moment: what was made around its time may be in it or not."""


class Place(Fact):
    """Where a snapshot lies: a server's name, `local`, or `s3`; its path there and its size in bytes."""

    where: str
    path: str
    size: int = 0


class Snapshot(Fact):
    """One snapshot of etcd, wherever copies of it lie."""

    name: str
    created: datetime
    places: tuple[Place, ...] = ()
    token: TokenState = TokenState.UNKNOWN
    """How the token that it was made with compares with the lab's, by hash."""
    examined: bool = False
    """Whether all of it was read."""
    problem: str = ""
    """Why it cannot be restored, when it was examined; empty when it is whole."""
    version: str = ""
    """The version of k3s that its nodes ran."""

    @property
    def size(self) -> int:
        """Its bytes."""
        return max((place.size for place in self.places), default=0)

    @property
    def off_node(self) -> bool:
        """Whether a copy lies elsewhere than on a server."""
        return any(place.where in (LOCAL, S3) for place in self.places)

    @property
    def usable(self) -> bool:
        """Whether nothing is known that speaks against it."""
        return not self.problem and self.token is not TokenState.OTHER

    def at(self, where: str) -> Place | None:
        """Where it lies on a server, or locally."""
        return next((place for place in self.places if place.where == where), None)


class Restore(Fact):
    """A restore or reset that labkit has begun, as it stands noted on the server that it began on."""

    id: str
    """When it began, as a name: 20261123T151348Z."""
    server: str
    snapshot: str = ""
    """The snapshot's name; empty for a reset that kept the server's own data."""
    created: datetime | None = None
    """When that snapshot was made."""
    stage: Literal["prepared", "reset", "finished"] = "prepared"
    reset_at: datetime | None = None
    """When etcd began anew, by the server's clock."""
    finished_at: datetime | None = None
    servers: tuple[str, ...] = ()
    """The other servers, whose data of the time before gives way."""
    rejoined: tuple[str, ...] = ()
    """Those of them that are members again."""

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.stage == "finished"

    @property
    def left(self) -> tuple[str, ...]:
        """The servers that have not rejoined."""
        return tuple(name for name in self.servers if name not in self.rejoined)

    def __str__(self) -> str:
        return f"the restore of {self.snapshot}" if self.snapshot else "the reset to one member"


class ServerEtcd(Fact):
    """One server's part in a restore."""

    name: str
    mark: str = ""
    """The id of the restore for which its old data was set aside."""
    aside: tuple[str, ...] = ()
    """Copies of the database that lie aside."""
    size: int = 0
    """Bytes of its database."""


class ObjectRow(Fact):
    """One object of the API, of the kinds that a person would miss."""

    kind: str
    namespace: str = ""
    name: str
    uid: str = ""
    created: datetime

    @property
    def key(self) -> tuple[str, str, str]:
        """What stays the same when it is made anew."""
        return self.kind, self.namespace, self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class EtcdFacts(Fact):
    """Everything that a restore of etcd looks at, beside the guests and the API."""

    servers: tuple[ServerEtcd, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    """The newest first."""
    restore: Restore | None = None
    """The last one."""
    objects: tuple[ObjectRow, ...] | None = None
    """What is in the API; None when it does not answer."""
    before: tuple[ObjectRow, ...] | None = None
    """What was in the API before the last restore; None when it did not answer then."""
    answers: dict[str, bool] = Field(default_factory=dict)
    """Whether each server's own API has the object that tells of the last restore."""
    alive: tuple[str, ...] = ()
    """The nodes that have renewed their lease since the last restore."""
    read_at: datetime

    def server(self, name: str) -> ServerEtcd:
        """The record of a server; an empty one when it was not asked."""
        return next((server for server in self.servers if server.name == name), ServerEtcd(name=name))

    def snapshot(self, name: str) -> Snapshot | None:
        """The snapshot of that name, or None."""
        return next((snapshot for snapshot in self.snapshots if snapshot.name == name), None)

    def made_after(self, moment: datetime) -> tuple[ObjectRow, ...]:
        """The objects in the API that a snapshot of that moment does not hold."""
        return tuple(row for row in self.objects or () if row.created > moment + SLACK)


def candidates(snapshots: Iterable[Snapshot], wanted: str, as_of: datetime | None) -> tuple[Snapshot, ...]:
    """Return the snapshots that fit what was asked for, the best first.

    Args:
        snapshots: all that there are.
        wanted: a name, the path of a file here, `newest`, or empty for the newest at or before `as_of`.
        as_of: the moment that the state is wanted of.
    """
    rows = sorted(snapshots, key=lambda snapshot: (-snapshot.created.timestamp(), snapshot.name))
    if wanted and wanted not in (NEWEST, NEW):
        name, is_path = wanted.rpartition("/")[2], "/" in wanted
        return tuple(row for row in rows if row.name == name and (row.at(LOCAL) or not is_path))
    if as_of is not None:
        return tuple(row for row in rows if row.created <= as_of)
    return tuple(row for row in rows if not row.name.startswith(f"{UNDO}-"))


def parse_when(text: str) -> datetime | None:
    """Read a moment, in UTC when it has no zone; None when it is empty or none."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def lost(before: Sequence[ObjectRow], now: Sequence[ObjectRow], moment: datetime) -> tuple[ObjectRow, ...]:
    """Return what was made after the moment of a snapshot and has not come again since it was restored."""
    there = {row.key for row in now}
    return tuple(row for row in before if row.created > moment + SLACK and row.key not in there)
