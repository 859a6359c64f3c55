"""BackupTargets and BackupVolumes: looked up on the NAS, at their poll interval and when asked."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import (
    is_deleting,
    labels_of,
    name_of,
    owner_reference,
    spec_of,
    status_of,
    uid_of,
)
from labkit.twin.kube.door import Object
from labkit.twin.longhorn.hub import Hub
from labkit.twin.longhorn.names import (
    BACKUP_VOLUME_LABEL,
    BACKUP_VOLUMES,
    BACKUPS,
    DEFAULT,
    NAMESPACE,
    ONLY_OBJECT,
    TARGET_LABEL,
    TARGETS,
    backup_volume_name,
)
from labkit.twin.longhorn.parts import set_condition
from labkit.twin.longhorn.requests import Requests
from labkit.twin.longhorn.store import MIB, BackupStore, StoreError
from labkit.twin.longhorn.systembackups import sync_system_backups
from labkit.twin.nas.exports import NfsError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Targets(Controller):
    """Keep each BackupTarget's availability and the BackupVolumes of its store; keys are (namespace, name)."""

    name = "longhorn-backup-target"
    watches = (TARGETS,)

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub
        self._requests = Requests()
        self._polls: dict[str, float] = {}
        hub.on_faults.append(self._look)

    async def _look(self) -> None:
        for target in self.hub.list(TARGETS):
            self._polls.pop(uid_of(target), None)
            self.queue.add((NAMESPACE, name_of(target)))

    async def reconcile(self, key: tuple[str, str]) -> float | None:
        """Look at one target if that is due; return when it will be polled."""
        target = self.hub.get(TARGETS, key[1])
        if target is None:
            return None
        url = str(spec_of(target).get("backupTargetURL") or "")
        if is_deleting(target) or not url:
            self._forget(key[1])
            if is_deleting(target):
                self.hub.let_go(TARGETS, target)
            else:
                self._unavailable(target, "backup target URL is empty")
            return None
        interval = seconds(str(spec_of(target).get("pollInterval") or "0"))
        left = self._polls.get(uid_of(target), 0.0) - self.time()
        if not self._requests.is_due(target) and (left > 0 or not interval):
            return left if interval else None
        self._requests.answer(target)
        self._polls[uid_of(target)] = self.time() + interval
        await self.hub.sleep(self.hub.pace.sync)
        await self._sync(target, url)
        return interval or None

    async def _sync(self, target: Object, url: str) -> None:
        """Say first that the target is there, then list what is on it."""
        name = name_of(target)
        try:
            folder = self.hub.nas.mount(url)
        except NfsError as exc:
            self._unavailable(target, str(exc))
            return
        now = self.now()
        conditions = set_condition(status_of(target).get("conditions"), "Unavailable", "False", now)
        self.hub.status(TARGETS, name, {"available": True, "conditions": conditions, "ownerID": self.hub.free_node()})
        await self.hub.sleep(self.hub.pace.sync)
        store = BackupStore(folder)
        volumes = await self.hub.work(store.volumes)
        self._reconcile_volumes(name, volumes)
        if name == DEFAULT:
            sync_system_backups(self.hub, folder)
        if self.hub.get(TARGETS, name) is not None:
            self.hub.status(TARGETS, name, {"lastSyncedAt": self.hub.synced()})

    def _unavailable(self, target: Object, text: str) -> None:
        found = status_of(target).get("conditions")
        conditions = set_condition(found, "Unavailable", "True", self.now(), "Unavailable", text)
        self.hub.status(TARGETS, name_of(target), {"available": False, "conditions": conditions})

    def _reconcile_volumes(self, target: str, there: list[str]) -> None:
        known = {spec_of(v)["volumeName"]: v for v in self.hub.list(BACKUP_VOLUMES, **{TARGET_LABEL: target})}
        for volume in set(known) - set(there):
            forget_backup_volume(self.hub, known[volume])
        now = self.now()
        for volume in there:
            if volume not in known:
                make_backup_volume(self.hub, target, volume)
            elif not is_deleting(known[volume]):
                self.hub.patch(BACKUP_VOLUMES, name_of(known[volume]), {"spec": {"syncRequestedAt": now}})

    def _forget(self, target: str) -> None:
        """Drop everything of a target from the cluster; the NAS keeps it."""
        for volume in self.hub.list(BACKUP_VOLUMES, **{TARGET_LABEL: target}):
            forget_backup_volume(self.hub, volume)


class BackupVolumes(Controller):
    """Read volume.cfg and the list of backups for each BackupVolume; keys are (namespace, name)."""

    name = "longhorn-backup-volume"
    watches = (BACKUP_VOLUMES,)
    width = 16

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub
        self._requests = Requests()

    async def reconcile(self, key: tuple[str, str]) -> None:
        """Bring one BackupVolume up to date, or remove it with its data."""
        found = self.hub.get(BACKUP_VOLUMES, key[1])
        if found is None:
            return
        if is_deleting(found):
            await self._end(found)
        elif self._requests.is_due(found):
            self._requests.answer(found)
            await self.hub.sleep(self.hub.pace.sync)
            await self._sync(found)

    async def _sync(self, found: Object) -> None:
        folder = store_of(self.hub, found)
        volume = spec_of(found)["volumeName"]
        if folder is None:
            return
        store = BackupStore(folder)
        names: list[str] = await self.hub.work(store.backups, volume)
        known = {name_of(b): b for b in self.hub.list(BACKUPS, **_labels(found))}
        for name in sorted(set(known) - set(names)):
            state = status_of(known[name]).get("state")
            if state not in ("", None, "Pending", "InProgress", "Error"):
                forget_backup(self.hub, known[name])
        for name in sorted(set(names) - set(known)):
            self.hub.create(BACKUPS, name, {"labels": None, "snapshotName": ""}, labels=_labels(found),
                            ownerReferences=[owner_reference(found)])  # fmt: skip
        status = await self._status(store, volume)
        last = status.get("lastBackupName")
        if last in known:
            self.hub.patch(BACKUPS, last, {"spec": {"syncRequestedAt": self.now()}})
        if self.hub.get(BACKUP_VOLUMES, name_of(found)) is not None:
            self.hub.status(BACKUP_VOLUMES, name_of(found), status)

    async def _status(self, store: BackupStore, volume: str) -> dict[str, Any]:
        try:
            config = await self.hub.work(store.volume_config, volume)
            changed = (store.folder(volume) / "volume.cfg").stat().st_mtime
        except (StoreError, OSError) as exc:
            return {"messages": {"error": str(exc)}, "lastSyncedAt": self.hub.synced()}
        moment = datetime.fromtimestamp(int(changed), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "lastBackupName": config.get("LastBackupName", ""), "lastBackupAt": config.get("LastBackupAt", ""),
            "size": str(config.get("Size", "0")), "labels": config.get("Labels"),
            "dataStored": str(int(config.get("BlockCount") or 0) * 2 * MIB), "lastModificationTime": moment,
            "createdAt": config.get("CreatedTime", ""), "messages": None, "backingImageName": "",
            "backingImageChecksum": "", "storageClassName": _plain(config.get("StorageClassName")),
            "lastSyncedAt": self.hub.synced(), "ownerID": self.hub.free_node(),
        }  # fmt: skip

    async def _end(self, found: Object) -> None:
        """Remove a BackupVolume: with all data on the NAS, unless the label says that only the object goes."""
        only_object = ONLY_OBJECT in labels_of(found)
        folder = store_of(self.hub, found)
        for backup in self.hub.list(BACKUPS, **_labels(found)):
            forget_backup(self.hub, backup, only_object=True)
        if folder is not None and not only_object:
            await self.hub.work(_delete_volume, BackupStore(folder), spec_of(found)["volumeName"])
        self.hub.let_go(BACKUP_VOLUMES, found)


def make_backup_volume(hub: Hub, target: str, volume: str) -> Object:
    """Create the BackupVolume of a volume, or return the one that is there."""
    for found in hub.list(BACKUP_VOLUMES, **{TARGET_LABEL: target, BACKUP_VOLUME_LABEL: volume}):
        return found
    name = backup_volume_name(volume, target, hub.version, hub.chance("backup volume", volume))
    spec = {"backupTargetName": target, "volumeName": volume}
    return hub.create(BACKUP_VOLUMES, name, spec)


def forget_backup_volume(hub: Hub, found: Object) -> None:
    """Drop a BackupVolume and its Backups from the cluster; the data stays."""
    hub.patch(BACKUP_VOLUMES, name_of(found), {"metadata": {"labels": {ONLY_OBJECT: "true"}}})
    for backup in hub.list(BACKUPS, **_labels(found)):
        forget_backup(hub, backup)
    hub.api.delete(BACKUP_VOLUMES, name_of(found), NAMESPACE)


def forget_backup(hub: Hub, backup: Object, *, only_object: bool = True) -> None:
    """Drop a Backup from the cluster, by default without its data."""
    if only_object:
        hub.patch(BACKUPS, name_of(backup), {"metadata": {"labels": {ONLY_OBJECT: "true"}}})
    if not is_deleting(backup):
        hub.api.delete(BACKUPS, name_of(backup), NAMESPACE)


def store_of(hub: Hub, obj: Object) -> Path | None:
    """Return the folder of the target that an object's label names; None when it cannot be reached."""
    target = hub.get(TARGETS, labels_of(obj).get(TARGET_LABEL, DEFAULT))
    url = str(spec_of(target or {}).get("backupTargetURL") or "")
    try:
        return hub.nas.mount(url) if url else None
    except NfsError:
        return None


def seconds(text: str) -> float:
    """Read a duration as Go writes it, such as `5m0s`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _labels(found: Object) -> dict[str, str]:
    spec = spec_of(found)
    return {BACKUP_VOLUME_LABEL: spec["volumeName"], TARGET_LABEL: spec.get("backupTargetName") or DEFAULT}


def _delete_volume(store: BackupStore, volume: str) -> None:
    if store.folder(volume).exists():
        store.delete_volume(volume)


def _plain(text: Any) -> str:
    """Read a field of volume.cfg that is quoted twice."""
    return str(text or "").strip('"')
