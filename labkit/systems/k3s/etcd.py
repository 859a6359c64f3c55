"""Read what a restore of etcd looks at: snapshots wherever they lie, what the servers noted, the API's objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from labkit.errors import LabError, SystemDown
from labkit.facts.etcd import LOCAL, NEW, S3, EtcdFacts, Place, Restore, ServerEtcd, Snapshot, candidates, parse_when
from labkit.facts.guests import TokenState
from labkit.lab import Lab, Machine
from labkit.lab.models import resolve_machine
from labkit.systems import ssh
from labkit.systems.access import Access
from labkit.systems.guests import DATA, DATABASE, lab_token
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.inventory import EVIDENCE, read_objects
from labkit.systems.k3s.record import parse_mark, parse_record, read_before, read_note
from labkit.systems.k3s.snapshotfile import compare_hash, examine, token_hash
from labkit.systems.kubernetes import Cluster, KubeError
from labkit.systems.ssh import Shell

UPLOADS = "/var/lib/labkit/etcd-snapshots"
"""Where a snapshot is brought to on a server that does not have it."""
_FILES = "/apis/k3s.cattle.io/v1/etcdsnapshotfiles"
_HASH = "etcd.k3s.cattle.io/snapshot-token-hash"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_RECENT = timedelta(days=1)
_MOST = 5
"""So many snapshots are read whole, until one is good."""
_READING = 1800.0


@dataclass
class _Seen:
    """What one server showed."""

    server: ServerEtcd
    files: list[tuple[Place, float]] = field(default_factory=list)
    note: dict[str, Any] = field(default_factory=dict)


def snapshot_folder(lab: Lab) -> str:
    """Return the folder in which k3s keeps its snapshots."""
    return str(lab.k3s.config.get("etcd-snapshot-dir") or f"{DATA}/server/db/snapshots").rstrip("/")


def local_folder(access: Access) -> Path:
    """Return the folder on this machine with copies of snapshots."""
    return access.state / "snapshots"


def read_etcd(lab: Lab, access: Access, *, snapshot: str = "", restore_as_of: str = "") -> EtcdFacts:
    """Return the snapshots and what the servers noted of an earlier restore; a server that is away is no error.

    Args:
        lab: what is wanted.
        access: how the guests and the API are reached.
        snapshot: the snapshot that is asked for: a name, a path here, `newest` or `new`; it is read whole.
        restore_as_of: the moment that the state is asked of, in UTC.
    """
    with ThreadPoolExecutor(max_workers=len(lab.servers)) as pool:
        seen = list(pool.map(lambda machine: _read_server(lab, access, machine), lab.servers))
    restore = _last(seen)
    facts = EtcdFacts(
        servers=tuple(one.server for one in seen), restore=restore, read_at=datetime.now(UTC), **_ask_api(lab, access)
    )
    files = [file for one in seen for file in one.files] + list(_local_files(access, snapshot))
    snapshots = _merge(files, facts.snapshots)
    wanted = _wanted(facts, snapshots, snapshot, parse_when(restore_as_of))
    found = _examine(lab, access, snapshots, wanted)
    return facts.model_copy(update={"snapshots": found, **_look_back(lab, access, restore)})


def _read_server(lab: Lab, access: Access, machine: Machine) -> _Seen:
    try:
        with ssh.connect(lab, access, machine) as shell:
            note = read_note(shell)
            aside = [
                f"{DATA}/server/{name}" for name in _list(shell, f"{DATA}/server") if name.startswith("db-before-")
            ]
            files = [file for folder in (snapshot_folder(lab), UPLOADS) for file in _snapshots(shell, folder)]
            size = shell.run(("du", "-sb", "--", DATABASE), sudo=True, check=False).text.split()
            bytes_there = int(size[0]) if size and size[0].isdecimal() else 0
            server = ServerEtcd(name=machine.name, mark=parse_mark(note), aside=tuple(aside), size=bytes_there)
            return _Seen(server, files, note)
    except LabError:
        return _Seen(ServerEtcd(name=machine.name))


def _list(shell: Shell, folder: str) -> list[str]:
    return shell.run(("ls", "--", folder), sudo=True, check=False).text.splitlines()


def _snapshots(shell: Shell, folder: str) -> list[tuple[Place, float]]:
    """The files in a folder with the time that they were changed; k3s writes to `.part` first."""
    paths = [f"{folder}/{name}" for name in _list(shell, folder) if not name.endswith(".part")]
    if not paths:
        return []
    text = shell.run(("stat", "-c", "%s|%Y|%F|%n", "--", *paths), sudo=True, check=False).text
    rows = (line.split("|", 3) for line in text.splitlines() if line.count("|") >= 3)
    return [
        (Place(where=shell.name, path=path, size=int(size)), float(changed))
        for size, changed, kind, path in rows
        if kind.startswith("regular")
    ]


def _local_files(access: Access, asked: str) -> Iterator[tuple[Place, float]]:
    folder = local_folder(access)
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    if "/" in asked:
        paths = [access.path(asked), *paths]
    for path in dict.fromkeys(path for path in paths if path.is_file()):
        status = path.stat()
        yield Place(where=LOCAL, path=str(path), size=status.st_size), status.st_mtime


def _last(seen: Iterable[_Seen]) -> Restore | None:
    """The last restore that any server has the record of."""
    records = [record for one in seen if (record := parse_record(one.note)) is not None]
    return max(records, key=lambda record: record.id, default=None)


def _ask_api(lab: Lab, access: Access) -> dict[str, Any]:
    """The objects in the API, and what it knows of snapshots; nothing when it does not answer."""
    with suppress(SystemDown, KubeError):
        cluster = open_cluster(lab, access)
        token = lab_token(lab, access)
        known = tuple(_parse_file(item, token) for item in cluster.items(_FILES))
        return {"objects": read_objects(cluster), "snapshots": known}
    return {}


def _parse_file(item: Mapping[str, Any], token: str | None) -> Snapshot:
    """A snapshot as an ETCDSnapshotFile tells of it; its place counts only when it is in S3."""
    spec, status = item.get("spec") or {}, item.get("status") or {}
    location, size = str(spec.get("location") or ""), str(status.get("size") or "0")
    made = str((item["metadata"].get("annotations") or {}).get(_HASH) or "")
    place = Place(where=S3, path=location, size=int(size) if size.isdecimal() else 0)
    return Snapshot(
        name=str(spec.get("snapshotName")),
        created=parse_when(str(status.get("creationTime") or "")) or datetime.fromtimestamp(0, UTC),
        places=(place,) if location.startswith("s3://") else (),
        token=compare_hash((made,) if made else (), token),
        problem=str((status.get("error") or {}).get("message") or ""),
    )


def _merge(files: Iterable[tuple[Place, float]], known: Iterable[Snapshot]) -> tuple[Snapshot, ...]:
    """One record for each snapshot, with all its places, the newest first."""
    told = {snapshot.name: snapshot for snapshot in known}
    found = {(one.name, one.size): one for one in told.values() if one.places}
    for place, changed in files:
        name = place.path.rpartition("/")[2]
        about = told.get(name)
        new = Snapshot(name=name, created=_created(name, changed))
        if about is not None:
            new = new.model_copy(update={"token": about.token, "problem": about.problem})
        old = found.get((name, place.size), new)
        found[name, place.size] = old.model_copy(update={"places": (*old.places, place)})
    return tuple(sorted(found.values(), key=lambda one: (-one.created.timestamp(), one.name)))


def _created(name: str, changed: float) -> datetime:
    """When a snapshot was made: its name ends with that."""
    match = re.search(r"-(\d{10})(?:\.zip)?$", name)
    return datetime.fromtimestamp(float(match[1]) if match else changed, UTC)


def _wanted(
    facts: EtcdFacts, snapshots: tuple[Snapshot, ...], asked: str, as_of: datetime | None
) -> tuple[Snapshot, ...]:
    """The snapshots of which one will be restored, the best first; none when there is no need for any."""
    last = facts.restore
    if last is not None and not last.finished:
        return candidates(snapshots, last.snapshot, None) if last.snapshot else ()
    if asked == NEW or (not asked and as_of is None and any(server.size for server in facts.servers)):
        return ()
    return candidates(snapshots, asked, as_of)


def _examine(
    lab: Lab, access: Access, snapshots: tuple[Snapshot, ...], wanted: tuple[Snapshot, ...]
) -> tuple[Snapshot, ...]:
    """Read the wanted snapshots whole, one after the other, until one is good."""
    token, done = lab_token(lab, access), {}
    for snapshot in wanted[:_MOST]:
        looked = _look(lab, access, snapshot, token)
        done[snapshot] = looked
        if looked.usable:
            break
    return tuple(done.get(snapshot, snapshot) for snapshot in snapshots)


def _look(lab: Lab, access: Access, snapshot: Snapshot, token: str | None) -> Snapshot:
    problem = "it lies in S3 only"
    for place in snapshot.places:
        if place.where == S3:
            continue
        try:
            contents = examine(fetch(lab, access, place))
        except (LabError, OSError) as exc:
            problem = f"it cannot be read at {place.where}: {exc}"
            continue
        state = compare_hash(contents.hashes, token)
        return snapshot.model_copy(
            update={
                "examined": True,
                "problem": contents.problem,
                "version": contents.version,
                "token": snapshot.token if state is TokenState.UNKNOWN else state,
                "places": (place, *(one for one in snapshot.places if one != place)),
            }
        )
    return snapshot.model_copy(update={"examined": True, "problem": problem})


def fetch(lab: Lab, access: Access, place: Place) -> bytes:
    """Return the bytes of a snapshot from where it lies."""
    if place.where == LOCAL:
        return Path(place.path).read_bytes()
    with ssh.connect(lab, access, resolve_machine(lab, place.where)) as shell:
        return shell.run(("cat", "--", place.path), sudo=True, timeout=_READING).stdout


def _look_back(lab: Lab, access: Access, restore: Restore | None) -> dict[str, Any]:
    """How the cluster stands after a restore of late."""
    if restore is None or restore.stage == "prepared" or _is_long_ago(restore):
        return {}
    found: dict[str, Any] = {}
    with suppress(LabError), ssh.connect(lab, access, resolve_machine(lab, restore.server)) as shell:
        found["before"] = read_before(shell, restore.id)
    with suppress(LabError):
        cluster = open_cluster(lab, access)
        found["alive"] = read_alive(cluster, restore)
        found["answers"] = {server.name: knows_restore(access, server, cluster, restore.id) for server in lab.servers}
    return found


def _is_long_ago(restore: Restore) -> bool:
    return restore.finished_at is not None and datetime.now(UTC) - restore.finished_at > _RECENT


def read_alive(cluster: Cluster, restore: Restore) -> tuple[str, ...]:
    """Return the nodes whose kubelet has reported since etcd began anew."""
    names = []
    for lease in cluster.items(_LEASES):
        renewed = parse_when(str((lease.get("spec") or {}).get("renewTime") or ""))
        if renewed is not None and restore.reset_at is not None and renewed > restore.reset_at:
            names.append(str(lease["metadata"]["name"]))
    return tuple(sorted(names))


def knows_restore(access: Access, server: Machine, cluster: Cluster, ident: str) -> bool:
    """Whether a server's own API has the evidence of a restore: then its etcd is the restored one."""
    namespace, name = EVIDENCE
    try:
        with Cluster(access, [str(server.address)], cluster.credentials) as own:
            found = own.find(f"/api/v1/namespaces/{namespace}/configmaps/{name}") or {}
    except LabError:
        return False
    return bool((found.get("data") or {}).get("id") == ident)


__all__ = ["fetch", "knows_restore", "local_folder", "read_alive", "read_etcd", "snapshot_folder", "token_hash"]
