"""What ails Longhorn and the NAS."""

from __future__ import annotations

from labkit.twin.ailments.ailment import Ailment, ailment, step

_LONGHORN = "longhorn-system"

OF_STORAGE: tuple[Ailment, ...] = (
    ailment("nas-pool-degraded", "nas.pool-online", "pool {pool}",
            step("nas", rows="pools", merge={"status": "DEGRADED", "healthy": False,
                                             "status_detail": "One or more devices could not be used"})),
    ailment("nas-pool-fills", "nas.pool-room", "pool {pool}",
            step("nas", rows="pools", merge={"allocated": 27 * 10**12, "free": 5 * 10**12})),
    ailment("nas-scrub-errors", "nas.scrub", "pool {pool}", step("nas", rows="pools", merge={"scan": {"errors": 2}})),
    ailment("nas-dataset-locked", "nas.dataset-locked", "dataset {pool}/pictures",
            step("nas", rows="datasets", at=-1, merge={"locked": True})),
    ailment("nas-quota-reached", "nas.dataset-quota", "dataset {pool}/documents",
            step("nas", rows="datasets", at=-2, merge={"quota": {"parsed": 430 * 10**9}})),
    ailment("nas-alert", "nas.alerts", "alert SMARTFailedSelfTest",
            step("nas", rows="alerts", add={
                "uuid": "a-1", "id": "a-1", "source": "smart", "klass": "SMARTFailedSelfTest", "level": "CRITICAL",
                "formatted": "sdb", "text": "Device /dev/sdb: self-test failed", "args": {}, "node": "Controller A",
                "key": "[]", "datetime": None, "last_occurrence": None, "dismissed": False, "one_shot": False,
                "mail": None,
            })),
    ailment("nas-disk-warm", "nas.disk-warm", "disk sdb",
            step("nas", rows="disks", at=1, merge={"temperature": 58})),
    ailment("nas-no-snapshots", "nas.snapshots", "dataset {dataset}", step("nas", rows="snapshots", clear=True)),
    ailment("nas-snapshot-task-fails", "nas.snapshot-task", "snapshot task of {dataset}",
            step("nas", rows="snapshot_tasks", merge={"state": {"state": "ERROR", "error": "no space left"}})),
    ailment("nas-replication-holds", "nas.replication", "replication {dataset} - vault",
            step("nas", rows="replications", merge={"state": {"state": "HOLD", "reason": "the target is offline"}})),
    ailment("nas-export-gone", "nas.export-apps", "export /mnt/{pool}/documents",
            step("nas", rows="shares", at=2, merge={"enabled": False})),
    ailment("nas-key-ends", "nas.api-key", "API key labkit",
            step("nas", rows="keys", merge={"expires_at": {"$date": 1}})),
    ailment("volume-short-of-replicas", "longhorn.volume-degraded", "volume {volume1} ({claim1})",
            step("fault", name="volume-degraded:{volume1}")),
    ailment("longhorn-node-off", "longhorn.node", "node {agent1}",
            step("object", resource="nodes.longhorn.io", namespace=_LONGHORN, name="{agent1}",
                 merge={"spec": {"allowScheduling": False}})),
    ailment("backup-target-not-polled", "longhorn.backup-target", "backup target default",
            step("object", resource="backuptargets.longhorn.io", namespace=_LONGHORN, name="default",
                 merge={"spec": {"pollInterval": "0s"}})),
    ailment("volume-of-nobody", "longhorn.orphan-volume", "volume pvc-forgotten",
            step("make", resource="volumes.longhorn.io", object={
                "apiVersion": "longhorn.io/v1beta2", "kind": "Volume",
                "metadata": {"name": "pvc-forgotten", "namespace": _LONGHORN},
                "spec": {"size": "1073741824", "numberOfReplicas": 1, "frontend": "blockdev", "accessMode": "rwo",
                         "dataEngine": "v1"},
            })),
    ailment("drill-interrupted", "labkit.leftovers", "Namespace labkit-drill-0123456789ab",
            step("make", resource="namespaces", object={
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "labkit-drill-0123456789ab", "labels": {"labkit.io/drill": "default.gone"}},
            })),
)  # fmt: skip
