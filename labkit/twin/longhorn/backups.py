"""Backups: taken from snapshots, read back from the NAS, and deleted with their data."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import is_deleting, labels_of, name_of, owner_reference, spec_of, status_of, uid_of
from labkit.twin.kube.door import Object
from labkit.twin.longhorn.hub import Hub, is_attached, is_restoring, size_of
from labkit.twin.longhorn.images import allocated, block_reader
from labkit.twin.longhorn.names import (
    BACKUP_VOLUME_LABEL,
    BACKUP_VOLUMES,
    BACKUPS,
    DEFAULT,
    ENGINES,
    JOB_INFO,
    ONLY_OBJECT,
    SNAPSHOTS,
    TARGET_LABEL,
    TARGETS,
    VOLUMES,
    engine_name,
)
from labkit.twin.longhorn.requests import Requests
from labkit.twin.longhorn.store import MIB, BackupStore, StoredVolume, StoreError
from labkit.twin.longhorn.targets import make_backup_volume, store_of
from labkit.twin.longhorn.urls import backup_url
from labkit.twin.nas.exports import NfsError

TICKET = "backup-controller"
_PATIENCE = 300.0
_STEPS = (25, 50, 75)
_BROKEN_OFF = "the backup was broken off: its manager was restarted"


class BackupFailed(Exception):  # it becomes a state, no error of ours
    """Why a backup could not be taken."""


class Backups(Controller):
    """Take, sync and delete backups; keys are (namespace, name)."""

    name = "longhorn-backup"
    watches = (BACKUPS,)
    width = 64

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub
        self._requests = Requests()
        self._last: dict[str, datetime] = {}
        hub.on_faults.append(self.corrupt)

    async def reconcile(self, key: tuple[str, str]) -> None:
        """Bring one backup on."""
        found = self.hub.get(BACKUPS, key[1])
        if found is None:
            return
        state = status_of(found).get("state") or ""
        if is_deleting(found):
            await self._end(found)
        elif spec_of(found).get("snapshotName") and state in ("", "Pending"):
            await self._take(found)
        elif spec_of(found).get("snapshotName") and state == "InProgress":
            self._set(key[1], state="Error", error=_BROKEN_OFF)
        elif state != "Error" and self._requests.is_due(found):
            self._requests.answer(found)
            await self._read(found)

    async def _take(self, found: Object) -> None:
        name = name_of(found)
        ticket = f"{TICKET}-{name}"
        self._set(name, state="Pending", progress=0, backupTargetName=labels_of(found)[TARGET_LABEL])
        try:
            self._adopt(found)
            await self._wait_for_snapshot(spec_of(found)["snapshotName"])
            volume = await self._wait_for_volume(labels_of(found)[BACKUP_VOLUME_LABEL], ticket)
            await self._write(self.hub.get(BACKUPS, name) or found, volume)
        except (BackupFailed, StoreError, NfsError, OSError) as exc:
            if self.hub.get(BACKUPS, name) is not None:
                self._set(name, state="Error", error=str(exc))
        finally:
            self.hub.end_ticket(labels_of(found)[BACKUP_VOLUME_LABEL], ticket)

    def _adopt(self, found: Object) -> None:
        """Have the BackupVolume own the backup."""
        labels = labels_of(found)
        owner = make_backup_volume(self.hub, labels[TARGET_LABEL], labels[BACKUP_VOLUME_LABEL])
        if not found["metadata"].get("ownerReferences"):
            self.hub.patch(BACKUPS, name_of(found), {"metadata": {"ownerReferences": [owner_reference(owner)]}})

    async def _wait_for_snapshot(self, snapshot: str) -> None:
        for _ in range(int(_PATIENCE)):
            found = self.hub.get(SNAPSHOTS, snapshot)
            if found is None:
                raise BackupFailed(f'snapshot.longhorn.io "{snapshot}" not found')
            if status_of(found).get("readyToUse"):
                return
            await self.clock.sleep(1.0)
        raise BackupFailed(f"snapshot {snapshot} is not ready to use")

    async def _wait_for_volume(self, name: str, ticket: str) -> Object:
        for turn in range(int(_PATIENCE)):
            found = self.hub.get(VOLUMES, name)
            if found is None:
                raise BackupFailed(f"volume {name} is not there")
            if is_attached(found) and not is_restoring(found):
                return found
            if turn == 0:
                self.hub.ticket(name, ticket, TICKET, self.hub.free_node())
            await self.clock.sleep(1.0)
        raise BackupFailed(f"volume {name} could not be attached for its backup")

    async def _write(self, found: Object, volume: Object) -> None:
        """Write the blocks of the snapshot to the NAS."""
        name, source = name_of(found), name_of(volume)
        head = self.hub.head(source)
        if head is None:
            raise BackupFailed(f"no replica of volume {source} answers")
        file = self.hub.images.snapshot(head.parent.name, spec_of(found)["snapshotName"])
        self._check(file, source)
        stored, labels = self._stored(volume), self._labels(found)
        started = self._moment(source)
        store = BackupStore(self._mount(found))
        await self.hub.work(store.begin_backup, stored, name, started)
        await self._show(found, source, file)
        store = BackupStore(self._mount(found))
        finished = max(started, self._clock_time())
        await self.hub.work(lambda: store.write_backup(
            stored, name, block_reader(file), started=started, finished=finished, labels=labels,
            snapshot=spec_of(found)["snapshotName"], mode=spec_of(found).get("backupMode") or "incremental",
        ))  # fmt: skip
        await self._read(found)
        self._completed(found, source)
        self.hub.on_backup(source, name, file, started)
        await self.corrupt()

    def _check(self, file: Path, volume: str) -> None:
        if not file.exists():
            raise BackupFailed(f"cannot find snapshot {file.stem} of volume {volume}")

    async def _show(self, found: Object, volume: str, file: Path) -> None:
        """Let the time of the transfer pass, and show how far it is."""
        mib = allocated(file) / MIB
        span = self.hub.pace.backup + self.hub.pace.backup_per_mib * mib
        for progress in (0, *_STEPS):
            if self.hub.get(BACKUPS, name_of(found)) is None:
                raise BackupFailed("the backup was deleted")
            self._set(name_of(found), state="InProgress", progress=progress)
            if self.hub.engine(volume) is not None:
                one = {"backupURL": "", "error": "", "progress": progress, "replicaAddress": "",
                       "snapshotName": spec_of(found)["snapshotName"], "state": "in_progress"}  # fmt: skip
                self.hub.status(ENGINES, engine_name(volume), {"backupStatus": {name_of(found): one}})
            await self.hub.sleep(span / (len(_STEPS) + 1))

    def _completed(self, found: Object, volume: str) -> None:
        labels = labels_of(found)
        state = status_of(self.hub.get(BACKUPS, name_of(found)) or found)
        if self.hub.get(VOLUMES, volume) is not None:
            self.hub.status(VOLUMES, volume, {
                "lastBackup": name_of(found), "lastBackupAt": state.get("snapshotCreatedAt", ""),
            })  # fmt: skip
            self.hub.status(ENGINES, engine_name(volume), {"backupStatus": {name_of(found): None}})
        chosen = {BACKUP_VOLUME_LABEL: volume, TARGET_LABEL: labels[TARGET_LABEL]}
        for owner in self.hub.list(BACKUP_VOLUMES, **chosen):
            self.hub.patch(BACKUP_VOLUMES, name_of(owner), {"spec": {"syncRequestedAt": self.hub.synced()}})

    def _stored(self, volume: Object) -> StoredVolume:
        spec = spec_of(volume)
        named = (status_of(volume).get("kubernetesStatus") or {}).get("pvName")
        pv = self.hub.api.get("persistentvolumes", named) if named else None
        return StoredVolume(
            name_of(volume), size_of(volume), block_size=int(spec.get("backupBlockSize") or 2 * MIB),
            compression=spec.get("backupCompressionMethod") or "lz4", data_engine=spec.get("dataEngine", "v1"),
            storage_class=str(spec_of(pv or {}).get("storageClassName") or ""),
        )  # fmt: skip

    def _labels(self, found: Object) -> dict[str, str]:
        return {JOB_INFO: "{}", **(spec_of(found).get("labels") or {})}

    def _mount(self, found: Object) -> Path:
        target = self.hub.get(TARGETS, labels_of(found)[TARGET_LABEL])
        return self.hub.nas.mount(str(spec_of(target or {}).get("backupTargetURL") or ""))

    def _clock_time(self) -> datetime:
        return datetime.fromtimestamp(int(self.clock.now()), UTC)

    def _moment(self, volume: str) -> datetime:
        """Return when a backup begins: later than the one before it, in whole seconds as the store has them."""
        now, last = self._clock_time(), self._last.get(volume)
        self._last[volume] = now if last is None else max(now, last + timedelta(seconds=1))
        return self._last[volume]

    async def _read(self, found: Object) -> None:
        """Take a complete backup's figures from its file on the NAS; others are left as they are."""
        folder, name = store_of(self.hub, found), name_of(found)
        if folder is None:
            return
        volume, target = labels_of(found)[BACKUP_VOLUME_LABEL], labels_of(found).get(TARGET_LABEL, DEFAULT)
        store = BackupStore(folder)
        try:
            config = await self.hub.work(store.backup_config, volume, name)
            whole = await self.hub.work(store.volume_config, volume)
        except StoreError as exc:
            self.log.warning("cannot inspect %s: %s", name, exc)
            return
        url = str(spec_of(self.hub.get(TARGETS, target) or {}).get("backupTargetURL") or "")
        if config.get("CreatedTime") and self.hub.get(BACKUPS, name) is not None:
            self._set(name, **_figures(config, whole), url=backup_url(url, name, volume), backupTargetName=target,
                      lastSyncedAt=self.hub.synced())  # fmt: skip

    async def _end(self, found: Object) -> None:
        """Delete a backup: on the NAS too, unless the label says that only the object goes."""
        folder, name = store_of(self.hub, found), name_of(found)
        if folder is not None and ONLY_OBJECT not in labels_of(found):
            self._set(name, state="Deleting")
            await self.hub.sleep(self.hub.pace.sync)
            await self.hub.work(_delete, BackupStore(folder), labels_of(found).get(BACKUP_VOLUME_LABEL, ""), name)
        left = self.hub.get(BACKUPS, name)
        if left is not None and uid_of(left) == uid_of(found):
            self.hub.let_go(BACKUPS, left)

    async def corrupt(self) -> None:
        """Carry out the fault `backup-corrupt`, once there is a backup for it."""
        for given in self.hub.faults.arguments("backup-corrupt"):
            done = False
            for folder in self.hub.nas.places.values():
                done |= flip_newest(BackupStore(folder), given[0] if given else "", self._claims())
            if done:
                self.hub.faults.strike("backup-corrupt", *given)

    def _claims(self) -> dict[str, str]:
        """Return the claim of each volume."""
        found = self.hub.list(VOLUMES)
        return {name_of(v): (status_of(v).get("kubernetesStatus") or {}).get("pvcName", "") for v in found}

    def _set(self, name: str, **status: Any) -> None:
        self.hub.status(BACKUPS, name, status)


def _figures(config: dict[str, Any], volume: dict[str, Any]) -> dict[str, Any]:
    labels = {key: value for key, value in (config.get("Labels") or {}).items() if key != JOB_INFO}
    return {
        "state": "Completed", "progress": 100, "size": str(config.get("Size", "0")), "labels": labels or None,
        "volumeSize": str(volume.get("Size", "0")), "volumeName": config["VolumeName"],
        "volumeCreated": volume.get("CreatedTime", ""), "volumeBackingImageName": "",
        "snapshotName": config.get("SnapshotName", ""), "snapshotCreatedAt": config.get("SnapshotCreatedAt", ""),
        "backupCreatedAt": config["CreatedTime"], "compressionMethod": config.get("CompressionMethod") or "gzip",
        "newlyUploadDataSize": str(config.get("NewlyUploadedDataSize") or "0"),
        "reUploadedDataSize": str(config.get("ReUploadedDataSize") or "0"), "messages": None, "error": "",
    }  # fmt: skip


def _delete(store: BackupStore, volume: str, backup: str) -> None:
    if volume and store.backup_path(volume, backup).exists():
        store.delete_backup(volume, backup)


def flip_newest(store: BackupStore, volume: str, claims: dict[str, str]) -> bool:
    """Flip a byte in a block that only the newest backup of a volume (or claim, or of all) names, if there is one."""
    done = False
    for name in store.volumes():
        if volume and volume not in (name, claims.get(name)):
            continue
        newest = store.volume_config(name).get("LastBackupName")
        if not newest:
            continue
        others = [b for b in store.backups(name) if b != newest]
        mine = _blocks(store, name, newest)
        shared = {block for other in others for block in _blocks(store, name, other)}
        chosen = [block for block in mine if block not in shared] or mine
        if chosen:
            _flip(store.block_path(name, chosen[-1]))
            done = True
    return done


def _blocks(store: BackupStore, volume: str, backup: str) -> list[str]:
    return [entry["BlockChecksum"] for entry in store.backup_config(volume, backup).get("Blocks") or ()]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(len(data)).randrange(len(data) // 2, len(data))] ^= 0xFF  # noqa: S311  # no secret
    path.write_bytes(bytes(data))
