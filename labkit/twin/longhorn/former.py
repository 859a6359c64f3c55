"""Backups of a lab that is gone, as its Longhorn would have left them: real files in a real store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from labkit.twin.controllers.objects import labels_of, name_of, namespace_of, quantity, spec_of
from labkit.twin.kube.door import Object
from labkit.twin.longhorn.contents import pack, tree_checksum
from labkit.twin.longhorn.names import ACCESS_LABEL, GROUP_PREFIX, JOB_INFO, KUBERNETES_STATUS
from labkit.twin.longhorn.past import Past
from labkit.twin.longhorn.store import MIB, BackupStore, ReadBlock, StoredVolume
from labkit.twin.longhorn.trees import first_tree, identity, written_on
from labkit.twin.seed import Seed

_DAYS, _HOUR = 3, 3
_BLOCK = 2 * MIB


@dataclass(frozen=True)
class Former:
    """A lab as it was: its claims, the moment of its end, and when each claim was backed up before it."""

    claims: tuple[Object, ...]
    seed: Seed
    end: datetime
    moments: Callable[[Object, datetime], list[datetime]] = lambda _claim, end: nights(end)

    def leave(self, store: BackupStore, past: Past) -> None:
        """Write a backup for each of the last moments, with data written before each and after the last."""
        lost = {}
        for claim in self.claims:
            volume = self.volume_of(claim)
            instance = self.seed.uuid("app", volume)
            files: Mapping[str, bytes] = first_tree(self.seed, instance, _size(claim), **_told(claim))
            for number, taken in enumerate(self.moments(claim, self.end)):
                files = written_on(self.seed, files)
                name = f"backup-{self.seed.hex('backup', volume, number, length=16)}"
                self._back_up(store, claim, name, taken, files)
                past.note_backup(volume, name, taken, files)
            files = written_on(self.seed, files)
            told = identity(files)
            lost[volume] = {
                "namespace": namespace_of(claim), "claim": name_of(claim), "instance": told["instance"],
                "writes": told["writes"], "files": len(files), "bytes": sum(len(data) for data in files.values()),
                "checksum": tree_checksum(files), "mounted": True, "from_backup": "",
            }  # fmt: skip
        past.note_end(lost)

    def volume_of(self, claim: Object) -> str:
        """Return the volume of a claim: the one that Git pins, else one whose name was made up then."""
        pinned = str(spec_of(claim).get("volumeName") or "")
        return pinned or f"pvc-{self.seed.uuid('volume', namespace_of(claim), name_of(claim))}"

    def _back_up(
        self, store: BackupStore, claim: Object, name: str, taken: datetime, files: Mapping[str, bytes]
    ) -> None:
        volume, labels = self.volume_of(claim), _labels(claim, self.volume_of(claim))
        stored = StoredVolume(volume, _size(claim), labels=labels,
                              storage_class=str(spec_of(claim).get("storageClassName") or "longhorn"))  # fmt: skip
        store.write_backup(
            stored, name, _reader(pack(files)), started=taken, finished=taken + timedelta(seconds=20), labels=labels,
            snapshot=self.seed.uuid("snapshot", name),
        )  # fmt: skip


def nights(end: datetime) -> list[datetime]:
    """Return the moments of the last nightly backups before an end, the oldest first."""
    last = end.replace(hour=_HOUR, minute=0, second=0, microsecond=0)
    last = last if last < end else last - timedelta(days=1)
    return [last - timedelta(days=back) for back in reversed(range(_DAYS))]


def _size(claim: Object) -> int:
    wanted = int(quantity(spec_of(claim)["resources"]["requests"]["storage"]))
    return -(-wanted // _BLOCK) * _BLOCK


def _told(claim: Object) -> dict[str, str]:
    name = name_of(claim)
    return {"app": name.partition("-")[0], "namespace": namespace_of(claim), "claim": name}


def _labels(claim: Object, volume: str) -> dict[str, str]:
    app = name_of(claim).partition("-")[0]
    status: dict[str, Any] = {
        "pvName": volume, "pvStatus": "Bound", "namespace": namespace_of(claim), "pvcName": name_of(claim),
        "lastPVCRefAt": "", "lastPodRefAt": "",
        "workloadsStatus": [{"podName": f"{app}-0", "podStatus": "Running", "workloadName": app,
                             "workloadType": "ReplicaSet"}],
    }  # fmt: skip
    groups = [key.removeprefix(GROUP_PREFIX) for key in labels_of(claim) if key.startswith(GROUP_PREFIX)]
    mode = "rwx" if "ReadWriteMany" in spec_of(claim)["accessModes"] else "rwo"
    return {
        JOB_INFO: "{}", KUBERNETES_STATUS: json.dumps(status, separators=(",", ":")),
        "RecurringJob": "backup-often" if "often" in groups else "backup-daily", ACCESS_LABEL: mode,
    }  # fmt: skip


def _reader(data: bytes) -> ReadBlock:
    """Read blocks of a volume whose first bytes are these, and that was never written behind them."""

    def read(offset: int, length: int) -> bytes | None:
        return data[offset : offset + length].ljust(length, b"\0") if offset < len(data) else None

    return read
