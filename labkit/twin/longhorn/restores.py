"""Restoring volumes from backups: one after another within the limit of each node, with real bytes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import is_deleting, is_true, name_of, spec_of, status_of
from labkit.twin.kube.door import Event, Object
from labkit.twin.longhorn.hub import Hub, is_attached, is_restore_failed, is_restoring, size_of
from labkit.twin.longhorn.names import (
    ATTACHMENTS,
    BACKUPS,
    ENGINES,
    KUBERNETES_STATUS,
    REPLICAS,
    VOLUMES,
    engine_name,
)
from labkit.twin.longhorn.parts import set_condition
from labkit.twin.longhorn.store import MIB, BackupStore, StoreError
from labkit.twin.longhorn.urls import read_backup_url
from labkit.twin.nas.exports import NfsError

TICKET = "volume-restore-controller"
_FAILED = "All replica restore failed and the volume became Faulted"
_STEPS = 5


class Restores(Controller):
    """Restore the volumes that are to be restored; keys are names."""

    name = "longhorn-restore"
    watches = (VOLUMES,)
    width = 64

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub

    def keys(self, event: Event) -> list[str]:
        """Map a volume to itself while it has a restore before it."""
        return [name_of(event.object)] if is_restoring(event.object) else []

    async def reconcile(self, key: str) -> float | None:
        """Have one volume attached for its restore, then restore it."""
        volume = self.hub.get(VOLUMES, key)
        if volume is None or is_deleting(volume) or not is_restoring(volume) or is_restore_failed(volume):
            return None
        ident = f"{TICKET}-{key}"
        attachment = self.hub.get(ATTACHMENTS, key)
        if attachment is None or status_of(volume).get("state") in ("", "creating"):
            return self.hub.pace.create
        if ident not in (spec_of(attachment).get("attachmentTickets") or {}):
            node = self._free_node()
            if not node:
                return self.hub.pace.retry
            self.hub.ticket(key, ident, TICKET, node, frontend=False)
            return None
        if is_attached(volume):
            await self._restore(volume)
            self.hub.end_ticket(key, ident)
        return None

    def _free_node(self) -> str:
        """Return the node with the fewest restores that may have one more; "" when all have enough."""
        limit = self.hub.settings.number("concurrent-volume-backup-restore-per-node-limit")
        count: Counter[str] = Counter()
        for attachment in self.hub.list(ATTACHMENTS):
            for ticket in (spec_of(attachment).get("attachmentTickets") or {}).values():
                count[ticket["nodeID"]] += ticket.get("type") == TICKET
        ready = sorted(name_of(n) for n in self.hub.nodes() if is_true(n, "Ready"))
        free = [name for name in ready if count[name] < limit]
        return min(free, key=lambda name: count[name], default="")

    async def _restore(self, volume: Object) -> None:
        name = name_of(volume)
        target, backup, source = read_backup_url(spec_of(volume)["fromBackup"])
        self._condition(name, "True", "RestoreInProgress", "")
        self.hub.patch(ENGINES, engine_name(name), {"spec": {"requestedBackupRestore": backup, "backupVolume": source}})
        self.hub.on_restore(name, backup)
        try:
            await self._copy(volume, target, source, backup)
        except (StoreError, NfsError, OSError, KeyError) as exc:
            self._fail(name, backup, f"{exc}")
            return
        if self.hub.get(VOLUMES, name) is not None:
            self._complete(name, backup)

    async def _copy(self, volume: Object, target: str, source: str, backup: str) -> None:
        """Write the blocks of a backup to the volume's bytes, in steps that show."""
        name, head = name_of(volume), self.hub.head(name_of(volume))
        if head is None:
            raise StoreError(f"volume {name}: no replica can be written")
        head = self.hub.images.clear(head.parent.name, size_of(volume))
        store = BackupStore(self.hub.nas.mount(target))
        config = await self.hub.work(store.backup_config, source, backup)
        entries = config.get("Blocks") or []
        if not config["CreatedTime"]:
            raise StoreError(f"backup {backup} is still in progress")
        self._progress(name, backup, 0)
        await self.hub.sleep(self.hub.pace.restore)
        block = int((config.get("Parameters") or {}).get("backup-block-size") or 2 * MIB)
        step = max(1, -(-len(entries) // _STEPS))
        for first in range(0, len(entries), step):
            part = entries[first : first + step]
            store = BackupStore(self.hub.nas.mount(target))
            await self.hub.work(_write_blocks, store, source, config, part, head)
            await self.hub.sleep(self.hub.pace.restore_per_mib * len(part) * block / MIB)
            if self.hub.get(VOLUMES, name) is None:
                return
            self._progress(name, backup, min(99, 100 * (first + len(part)) // len(entries)))

    def _progress(self, name: str, backup: str, progress: int, error: str = "", state: str = "in_progress") -> None:
        """Show in the engine how far each replica is."""
        engine = self.hub.engine(name)
        if engine is None:
            return
        url = spec_of(self.hub.get(VOLUMES, name) or {}).get("fromBackup", "")
        one = {
            "backupURL": url, "currentRestoringBackup": backup if state == "in_progress" else "", "error": error,
            "filename": "", "isRestoring": state == "in_progress", "progress": progress, "state": state,
            "lastRestored": backup if state == "complete" else "",
        }  # fmt: skip
        addresses = spec_of(engine).get("replicaAddressMap") or {}
        found = {f"tcp://{address}": one for address in addresses.values()}
        self.hub.status(ENGINES, engine_name(name), {"restoreStatus": found})

    def _complete(self, name: str, backup: str) -> None:
        self._progress(name, backup, 100, state="complete")
        self.hub.status(ENGINES, engine_name(name), {"lastRestoredBackup": backup})
        self._condition(name, "False", "", "")
        status: dict[str, Any] = {"restoreRequired": False, "lastBackup": backup}
        found = self.hub.get(BACKUPS, backup)
        if found is not None:
            status["lastBackupAt"] = status_of(found).get("snapshotCreatedAt", "")
            status |= _former_claim(found)
        self.hub.status(VOLUMES, name, status)

    def _fail(self, name: str, backup: str, error: str) -> None:
        """Have all replicas fail, as they do when none of them could be restored."""
        self.log.warning("restore of %s: %s", name, error)
        if self.hub.get(VOLUMES, name) is None:
            return
        self._progress(name, backup, 0, error=error, state="error")
        now = self.hub.now()
        self._condition(name, "False", "RestoreFailure", _FAILED)
        for replica in self.hub.replicas(name):
            self.hub.patch(REPLICAS, name_of(replica), {"spec": {"failedAt": now, "lastFailedAt": now}})
        self.hub.status(VOLUMES, name, {"robustness": "faulted"})

    def _condition(self, name: str, state: str, reason: str, message: str) -> None:
        volume = self.hub.get(VOLUMES, name)
        if volume is not None:
            found = status_of(volume).get("conditions")
            wanted = set_condition(found, "Restore", state, self.now(), reason, message)
            self.hub.status(VOLUMES, name, {"conditions": wanted})


def _write_blocks(
    store: BackupStore, volume: str, config: dict[str, Any], entries: list[dict[str, Any]], head: Path
) -> None:
    with head.open("r+b") as file:
        for entry in entries:
            file.seek(entry["Offset"])
            file.write(store.read_block(volume, config, entry["BlockChecksum"]))


def _former_claim(backup: Object) -> dict[str, Any]:
    """Return the Kubernetes status of a restored volume: what the backup's label says, as history."""
    text = (status_of(backup).get("labels") or {}).get(KUBERNETES_STATUS)
    if not text:
        return {}
    when = status_of(backup).get("snapshotCreatedAt", "")
    found = {**json.loads(text), "pvName": "", "pvStatus": "", "lastPVCRefAt": when}
    if found.get("workloadsStatus"):
        found["lastPodRefAt"] = when
    return {"kubernetesStatus": found}
