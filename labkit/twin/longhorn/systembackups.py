"""SystemBackups, as far as a lab looks at them: taken, listed from the NAS, removed with their data."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import is_deleting, labels_of, name_of, spec_of, status_of
from labkit.twin.kube.door import Object
from labkit.twin.longhorn.hub import Hub
from labkit.twin.longhorn.names import DEFAULT, NAMESPACE, ONLY_OBJECT, SYSTEM_BACKUPS, TARGETS, VOLUMES
from labkit.twin.nas.exports import NfsError

VERSION_LABEL = "longhorn.io/version"
_FOLDER = Path("backupstore") / "system-backups"


class SystemBackups(Controller):
    """Take and remove SystemBackups; keys are (namespace, name)."""

    name = "longhorn-system-backup"
    watches = (SYSTEM_BACKUPS,)

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub

    async def reconcile(self, key: tuple[str, str]) -> None:
        """Bring one SystemBackup on."""
        found = self.hub.get(SYSTEM_BACKUPS, key[1])
        if found is None:
            return
        place = self._place(found)
        if is_deleting(found):
            if place is not None and ONLY_OBJECT not in labels_of(found):
                await self.hub.work(shutil.rmtree, place, True)  # ignore_errors
            self.hub.let_go(SYSTEM_BACKUPS, found)
        elif not status_of(found).get("state"):
            await self._take(found, place)

    def _place(self, found: Object) -> Path | None:
        target = self.hub.get(TARGETS, DEFAULT)
        url = str(spec_of(target or {}).get("backupTargetURL") or "")
        version = labels_of(found).get(VERSION_LABEL, f"v{self.hub.version}")
        try:
            return self.hub.nas.mount(url) / _FOLDER / version / name_of(found) if url else None
        except NfsError:
            return None

    async def _take(self, found: Object, place: Path | None) -> None:
        name, version = name_of(found), f"v{self.hub.version}"
        if VERSION_LABEL in labels_of(found):  # it came from the NAS
            self.hub.status(SYSTEM_BACKUPS, name, self._ready(version))
            return
        self.hub.patch(SYSTEM_BACKUPS, name, {"metadata": {"labels": {VERSION_LABEL: version}, "finalizers": [
            "longhorn.io"]}})  # fmt: skip
        for state in ("Generating", "Uploading"):
            self.hub.status(SYSTEM_BACKUPS, name, {"state": state})
            await self.hub.sleep(self.hub.pace.backup)
        if place is None:
            self.hub.status(SYSTEM_BACKUPS, name, {"state": "Error"})
            return
        volumes = [{"name": name_of(v), "spec": spec_of(v)} for v in self.hub.list(VOLUMES)]
        config = {"name": name, "longhornVersion": version, "backupTargetURL": "", "createdAt": self.now()}
        await self.hub.work(_write, place, config, json.dumps(volumes, sort_keys=True))
        self.hub.status(SYSTEM_BACKUPS, name, self._ready(version))

    def _ready(self, version: str) -> dict[str, str]:
        return {"state": "Ready", "version": version, "managerImage": self.hub.manager_image, "createdAt": self.now(),
                "lastSyncedAt": self.hub.synced(), "ownerID": self.hub.free_node()}  # fmt: skip


def sync_system_backups(hub: Hub, folder: Path) -> None:
    """Have a SystemBackup for each that is on the NAS, and none that is not."""
    there = {path.parent.name: path.parent.parent.name for path in folder.glob(f"{_FOLDER}/*/*/system-backup.cfg")}
    known = {name_of(found): found for found in hub.list(SYSTEM_BACKUPS)}
    for name, version in there.items():
        if name not in known:
            hub.create(SYSTEM_BACKUPS, name, {}, labels={VERSION_LABEL: version})
    for name, found in known.items():
        if name not in there and status_of(found).get("state") == "Ready":
            hub.patch(SYSTEM_BACKUPS, name, {"metadata": {"labels": {ONLY_OBJECT: "true"}}})
            hub.api.delete(SYSTEM_BACKUPS, name, NAMESPACE)


def _write(place: Path, config: dict[str, str], volumes: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place / "system-backup.zip", "w") as archive:
        archive.writestr("longhorn/volumes.json", volumes)
    (place / "system-backup.cfg").write_text(json.dumps(config))
