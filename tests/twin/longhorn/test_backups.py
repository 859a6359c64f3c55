"""Backups: taken from running apps, read by labkit's own reader, synced, retained, deleted, damaged."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from labkit.systems.backupstore.access import open_folder
from labkit.systems.backupstore.catalog import read_catalog
from labkit.systems.backupstore.extract import extract_backup
from labkit.systems.backupstore.verify import verify_volume
from labkit.twin.kube.door import ApiError
from labkit.twin.longhorn.contents import read_tree, tree_checksum
from labkit.twin.longhorn.names import backup_volume_name, volume_name

BACKUPS, BACKUP_VOLUMES, TARGETS = "backups.longhorn.io", "backupvolumes.longhorn.io", "backuptargets.longhorn.io"
URL = "nfs://nas.lan:/mnt/tank/backups"
NAMESPACE = "longhorn-system"


def go(work: Any) -> None:
    asyncio.run(work)


def entry_of(lab: Any, volume: str) -> tuple[Any, Any]:
    store = open_folder(lab.nas.places[URL])
    return store, next(v for v in read_catalog(store).volumes if v.name == volume)


def names(lab: Any, resource: str) -> list[str]:
    return [o["metadata"]["name"] for o in lab.hub.list(resource)]


@pytest.mark.parametrize(("version", "method"), [("1.9.2", "gzip"), ("1.10.2", "lz4"), ("1.10.2", "none")])
def test_a_chain_of_backups_reads_back(running: Any, tmp_path: Path, version: str, method: str) -> None:
    async def work() -> None:
        async with running(tmp_path, version=version, settings={"backup-compression-method": method}) as lab:
            volume = await lab.app("one")
            await lab.target()
            first = lab.longhorn.apps.view()[volume]
            one = await lab.backup(volume)
            second = lab.longhorn.apps.write_all()[volume]
            assert second["checksum"] != first["checksum"]
            two = await lab.backup(volume)
            store, entry = entry_of(lab, volume)
            assert [c.name for c in entry.complete] == [one, two]
            assert verify_volume(store, entry).damages == ()
            for name, wanted in ((one, first), (two, second)):
                target = tmp_path / f"{name}.raw"
                extract_backup(store, entry, name, target)
                assert tree_checksum(read_tree(target)) == wanted["checksum"]
            assert entry.pvc.namespace == "default"
            assert entry.pvc.name == "one-data"
            status = lab.status(BACKUPS, two)
            assert status["url"] == f"{URL}?backup={two}&volume={volume}"
            assert status["compressionMethod"] == method
            assert status["volumeSize"] == str(64 << 20)
            assert int(status["newlyUploadDataSize"]) < int(lab.status(BACKUPS, one)["newlyUploadDataSize"])
            assert set(status["labels"]) == {"KubernetesStatus", "longhorn.io/volume-access-mode"}
            assert json.loads(status["labels"]["KubernetesStatus"])["pvcName"] == "one-data"
            assert lab.store.volume_config(volume)["StorageClassName"] == '"longhorn"'
            assert lab.volume(volume)["lastBackup"] == two
            (owner,) = lab.hub.list(BACKUP_VOLUMES)
            assert owner["metadata"]["name"].startswith(f"{volume}-")
            await lab.until(lambda: lab.status(BACKUP_VOLUMES, owner["metadata"]["name"])["lastBackupName"] == two)

    go(work())


def test_names_of_backup_volumes() -> None:
    assert backup_volume_name("pvc-1", "default", "1.10.2", "0" * 8) == "pvc-1-5e6cec46"
    assert backup_volume_name("pvc-1", "default", "1.9.0", "12345678") == "pvc-1-12345678"
    assert len(volume_name("restore-pvc-" + "0" * 36)) == 40


def test_backups_of_a_detached_volume_and_by_hand(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            await lab.target()
            lab.make("bare")
            await lab.until(lambda: lab.volume("bare").get("state") == "detached")
            lab.longhorn.apps.put("bare", {"a": b"1"})
            name = await lab.backup("bare")
            await lab.until(lambda: lab.volume("bare")["state"] == "detached")
            assert "KubernetesStatus" not in lab.status(BACKUPS, name)["labels"]
            for labels, said in (
                ({}, "missing label"),
                ({"backup-volume": "bare", "backup-target": "x"}, "cannot find"),
            ):
                with pytest.raises(ApiError, match=said):
                    lab.hub.create(BACKUPS, "backup-1", {"snapshotName": "s"}, labels=labels)
            labels = {"backup-volume": "bare", "backup-target": "default"}
            lab.hub.create(BACKUPS, "backup-2", {"snapshotName": "none"}, labels=labels)
            await lab.until(lambda: lab.status(BACKUPS, "backup-2").get("state") == "Error")
            assert "not found" in lab.status(BACKUPS, "backup-2")["error"]

    go(work())


def test_deleting_a_backup_deletes_its_data_unless_labelled(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            volume = await lab.app("one")
            await lab.target()
            made = []
            for _ in range(3):
                lab.longhorn.apps.write_all()
                made.append(await lab.backup(volume))
            lab.api.delete(BACKUPS, made[0], NAMESPACE)
            await lab.until(lambda: lab.store.backups(volume) == sorted(made[1:]))
            only = {"metadata": {"labels": {"longhorn.io/delete-custom-resource-only": "true"}}}
            lab.hub.patch(BACKUPS, made[1], only)
            lab.api.delete(BACKUPS, made[1], NAMESPACE)
            await lab.until(lambda: names(lab, BACKUPS) == [made[2]])
            assert lab.store.backups(volume) == sorted(made[1:])
            (owner,) = names(lab, BACKUP_VOLUMES)
            lab.hub.patch(BACKUP_VOLUMES, owner, {"spec": {"syncRequestedAt": lab.hub.synced()}})
            await lab.until(lambda: lab.status(BACKUPS, made[1]).get("state") == "Completed")
            assert lab.get(BACKUPS, made[1])["spec"]["snapshotName"] == ""
            lab.api.delete(BACKUP_VOLUMES, owner, NAMESPACE)
            await lab.until(lambda: lab.store.volumes() == [])
            await lab.until(lambda: names(lab, BACKUPS) == [])

    go(work())


def test_a_new_cluster_finds_everything_in_a_chain_of_syncs(running: Any, tmp_path: Path) -> None:
    async def first() -> list[str]:
        async with running(tmp_path) as lab:
            volume = await lab.app("one")
            await lab.target()
            return [volume, await lab.backup(volume)]

    volume, backup = asyncio.run(first())

    async def second() -> None:
        async with running(tmp_path, nodes=1) as lab:
            await lab.target()
            await lab.until(lambda: lab.status(BACKUPS, backup).get("state") == "Completed")
            status = lab.status(BACKUPS, backup)
            assert status["volumeName"] == volume
            assert status["lastSyncedAt"]

    go(second())


def test_an_empty_or_unreachable_export_and_no_target(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            volume = await lab.app("one")
            await lab.target()
            name = await lab.backup(volume)
            await lab.fault("nfs-empty:400")
            await lab.until(lambda: not names(lab, BACKUPS))
            assert lab.store.backups(volume) == [name]
            await lab.clear("nfs-empty")
            await lab.until(lambda: lab.status(BACKUPS, name).get("state") == "Completed")
            await lab.fault("nas-unreachable")
            await lab.target(available=False)
            said = lab.status(TARGETS, "default")["conditions"][0]
            assert (said["type"], said["status"], said["reason"]) == ("Unavailable", "True", "Unavailable")
            assert "timed out" in said["message"]
            with pytest.raises(ApiError, match="not available"):
                lab.longhorn.actions.backup(volume, "some")
            await lab.clear("nas-unreachable")
            await lab.target()
            lab.hub.patch(TARGETS, "default", {"spec": {"backupTargetURL": ""}})
            await lab.until(lambda: not names(lab, BACKUP_VOLUMES))
            assert lab.store.backups(volume) == [name]

    go(work())


def test_corruption_is_found_and_the_one_before_is_good(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            volume = await lab.app("one")
            await lab.target()
            one = await lab.backup(volume)
            lab.longhorn.apps.write_all()
            two = await lab.backup(volume)
            await lab.fault("backup-corrupt:one-data")
            assert lab.faults.active() == []
            report = verify_volume(*entry_of(lab, volume))
            assert report.restorable == (one,)
            assert report.lost == (two,)

    go(work())


def test_recurring_jobs(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            chosen = {"recurring-job.longhorn.io/source": "enabled", "recurring-job-group.longhorn.io/often": "enabled"}
            often = await lab.app("one", labels=chosen)
            daily = await lab.app("two")
            await lab.target()
            await lab.until(lambda: lab.get("volumes.longhorn.io", often)["metadata"]["labels"].get(
                "recurring-job-group.longhorn.io/often"))  # fmt: skip
            assert (
                "recurring-job-group.longhorn.io/default"
                not in lab.get("volumes.longhorn.io", often)["metadata"]["labels"]
            )
            for name, group in (("backup-daily", "default"), ("backup-often", "often")):
                lab.hub.create("recurringjobs.longhorn.io", name, {
                    "task": "backup", "cron": "0 3 * * *", "retain": 2, "concurrency": 2, "groups": [group],
                }, finalizers=[])  # fmt: skip
            await lab.until(lambda: lab.api.get("cronjobs.batch", "backup-often", NAMESPACE))
            cron = lab.get("cronjobs.batch", "backup-often")
            assert cron["spec"]["schedule"] == "0 3 * * *"
            for number in range(3):
                lab.api.create("jobs.batch", {
                    "apiVersion": "batch/v1", "kind": "Job", "spec": cron["spec"]["jobTemplate"]["spec"],
                    "metadata": {"name": f"run-{number}", "namespace": NAMESPACE,
                                 "labels": cron["spec"]["jobTemplate"]["metadata"]["labels"]},
                })  # fmt: skip
                await lab.until(lambda number=number: lab.status("recurringjobs.longhorn.io", "backup-often").get(
                    "executionCount") == number + 1)  # fmt: skip
            await lab.until(lambda: len(lab.store.backups(often)) == 2)
            assert daily not in lab.store.volumes()
            newest = lab.store.volume_config(often)["LastBackupName"]
            labels = lab.store.backup_config(often, newest)["Labels"]
            assert labels["RecurringJob"] == "backup-often"
            assert json.loads(labels["VolumeRecurringJobInfo"])["backup-often"]["fromGroup"] == ["often"]
            assert "VolumeRecurringJobInfo" not in lab.status(BACKUPS, newest)["labels"]
            assert len(lab.hub.list("snapshots.longhorn.io")) == 1
            with pytest.raises(ApiError, match="invalid cron"):
                lab.hub.create("recurringjobs.longhorn.io", "bad", {"task": "backup", "cron": "often"})

    go(work())


def test_system_backups(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, nodes=1) as lab:
            await lab.target()
            lab.hub.create("systembackups.longhorn.io", "weekly", {"volumeBackupPolicy": "disabled"}, finalizers=[])
            await lab.until(lambda: lab.status("systembackups.longhorn.io", "weekly").get("state") == "Ready")
            place = lab.nas.places[URL] / "backupstore" / "system-backups" / "v1.10.2" / "weekly"
            assert (place / "system-backup.cfg").exists()
            lab.api.delete("systembackups.longhorn.io", "weekly", NAMESPACE)
            await lab.until(lambda: not place.exists())

    go(work())
