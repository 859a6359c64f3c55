"""Snapshots of etcd: files on a server, and the ETCDSnapshotFile of each in the API."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from labkit.cron import parse_cron
from labkit.twin.k3s import places
from labkit.twin.k3s.crds import SNAPSHOT_FILES
from labkit.twin.k3s.data import token_hash, write_snapshot
from labkit.twin.k3s.errors import Fatal
from labkit.twin.kube.door import Object

if TYPE_CHECKING:
    from labkit.twin.guests.guest import Guest
    from labkit.twin.k3s.cluster import Cluster
    from labkit.twin.k3s.server import Server
    from labkit.twin.k3s.settings import Settings

SCHEDULED = "etcd-snapshot"
ON_DEMAND = "on-demand"
_SCHEDULE, _KEEP = "0 */12 * * *", 5
_NODE_LABEL = "etcd.k3s.cattle.io/snapshot-storage-node"
_HASH_NOTE = "etcd.k3s.cattle.io/snapshot-token-hash"


@dataclass(frozen=True)
class Snapshot:
    """One file: its name, where it is, its size in bytes, and when it was made."""

    name: str
    path: str
    size: int
    created: float

    @property
    def location(self) -> str:
        """The URL of the file."""
        return f"file://{self.path}"

    @property
    def date(self) -> str:
        """When it was made, as k3s writes it."""
        return datetime.fromtimestamp(int(self.created), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def folder_of(settings: Settings) -> str:
    """Return the folder of a server's snapshots."""
    return settings.one("etcd-snapshot-dir", places.SNAPSHOTS).rstrip("/")


def list_snapshots(guest: Guest, folder: str) -> list[Snapshot]:
    """Return the snapshots in a folder, in order of their names."""
    if not guest.files.is_dir(folder):
        return []
    files = sorted(path for path in guest.files.locate(folder).iterdir() if path.is_file())
    return [
        Snapshot(p.name, f"{folder}/{p.name}", p.stat().st_size, _moment(p.name) or p.stat().st_mtime) for p in files
    ]


def save_snapshot(server: Server, settings: Settings, prefix: str, *, moment: float | None = None) -> Snapshot:
    """Save a snapshot on a running server, and tell the API of it; raise Fatal when etcd does not answer."""
    cluster, guest = server.cluster, server.guest
    if cluster is None or not cluster.serves:
        raise Fatal("failed to save snapshot: context deadline exceeded")
    if not cluster.etcd:
        raise Fatal("etcd datastore disabled")
    folder, compress = folder_of(settings), settings.on("etcd-snapshot-compress")
    number, ending = int(guest.now() if moment is None else moment), ".zip" if compress else ""
    while guest.files.exists(f"{folder}/{prefix}-{server.name}-{number}{ending}"):
        number += 1
    name = f"{prefix}-{server.name}-{number}{ending}"
    guest.files.check_room(folder)
    packed = name.removesuffix(ending) if compress else ""
    data = write_snapshot(cluster.content(), password=cluster.password, compress=packed)
    guest.files.put(f"{folder}/{name}", data, mode=0o600)
    saved = next(found for found in list_snapshots(guest, folder) if found.name == name)
    _tell(cluster, saved, server.name)
    return saved


def tell_snapshots(server: Server) -> None:
    """Bring the objects of a server's snapshots in line with its files, as k3s does at its start.

    Whose token a file that is only found was made with is not known.
    """
    cluster, found = server.cluster, list_snapshots(server.guest, folder_of(server.settings))
    if cluster is None or not cluster.serves:
        return
    names = {_object_name(snapshot, server.name): snapshot for snapshot in found}
    for item in cluster.api.list(SNAPSHOT_FILES, labels={_NODE_LABEL: server.name}):
        if names.pop(item["metadata"]["name"], None) is None:
            cluster.api.delete(SNAPSHOT_FILES, item["metadata"]["name"])
    for snapshot in names.values():
        _tell(cluster, snapshot, server.name, hashed=False)


def _tell(cluster: Cluster, snapshot: Snapshot, node: str, *, hashed: bool = True) -> None:
    item = _object(snapshot, node, cluster)
    if not hashed:
        del item["metadata"]["annotations"]
    cluster.api.create(SNAPSHOT_FILES, item)
    state = {"creationTime": snapshot.date, "readyToUse": True, "size": str(snapshot.size)}
    cluster.api.patch(SNAPSHOT_FILES, _object_name(snapshot, node), {"status": state}, subresource="status")


def delete_snapshot(server: Server, settings: Settings, name: str) -> bool:
    """Delete a snapshot by its name; return whether it was there."""
    path = f"{folder_of(settings)}/{name}"
    if not server.guest.files.exists(path):
        return False
    gone = next(found for found in list_snapshots(server.guest, folder_of(settings)) if found.name == name)
    server.guest.files.remove(path)
    if server.cluster is not None and server.cluster.serves:
        server.cluster.api.delete(SNAPSHOT_FILES, _object_name(gone, server.name))
    return True


def prune_snapshots(server: Server, settings: Settings, prefix: str, keep: int) -> list[str]:
    """Delete the oldest snapshots with a prefix beyond a number; return their names."""
    start = f"{prefix}-{server.name}-"
    ours = [s for s in list_snapshots(server.guest, folder_of(settings)) if s.name.startswith(start)]
    doomed = sorted(ours, key=lambda s: s.created)[: max(len(ours) - keep, 0)]
    return [snapshot.name for snapshot in doomed if delete_snapshot(server, settings, snapshot.name)]


async def keep_schedule(server: Server) -> None:
    """Save snapshots at the dates that the settings schedule."""
    settings = server.settings
    if settings.on("etcd-disable-snapshots"):
        return
    schedule = parse_cron(settings.one("etcd-snapshot-schedule-cron", _SCHEDULE))
    while (due := schedule.after(server.guest.now())) is not None:
        await server.system.world.clock.sleep_to(due - server.guest.clock_offset)
        if server.cluster is not None and server.cluster.serves:
            save_snapshot(server, settings, SCHEDULED)
            keep = int(settings.one("etcd-snapshot-retention", str(_KEEP)))
            prune_snapshots(server, settings, SCHEDULED, keep)


def _moment(name: str) -> float | None:
    number = name.removesuffix(".zip").rpartition("-")[2]
    return float(number) if number.isdecimal() else None


def _object_name(snapshot: Snapshot, node: str) -> str:
    digest = hashlib.sha256(f"{node}-{snapshot.location}".encode()).hexdigest()[:6]
    return f"local-{snapshot.name.lower()}-{digest}"


def _object(snapshot: Snapshot, node: str, cluster: Cluster) -> Object:
    metadata = {
        "name": _object_name(snapshot, node), "labels": {_NODE_LABEL: node},
        "annotations": {_HASH_NOTE: token_hash(cluster.password)},
    }  # fmt: skip
    spec = {"location": snapshot.location, "nodeName": node, "snapshotName": snapshot.name}
    return {"apiVersion": "k3s.cattle.io/v1", "kind": "ETCDSnapshotFile", "metadata": metadata, "spec": spec}


def show_table(snapshots: list[Snapshot]) -> str:
    """Return what `k3s etcd-snapshot ls` prints."""
    width = max([4, *(len(s.name) for s in snapshots)]) + 1
    place = max([8, *(len(s.location) for s in snapshots)]) + 1
    rows = [("Name", "Location", "Size", "Created"), *((s.name, s.location, str(s.size), s.date) for s in snapshots)]
    return "\n".join(f"{a:<{width}}{b:<{place}}{c:<8} {d}" for a, b, c, d in rows)


def show_json(snapshots: list[Snapshot], node: str, cluster: Cluster) -> str:
    """Return what `k3s etcd-snapshot ls -o json` prints."""
    items = [
        {**_object(s, node, cluster), "status": {"creationTime": s.date, "readyToUse": True, "size": str(s.size)}}
        for s in snapshots
    ]
    return json.dumps(
        {"apiVersion": "k3s.cattle.io/v1", "items": items, "kind": "ETCDSnapshotFileList", "metadata": {}}
    )
