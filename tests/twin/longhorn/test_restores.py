"""Restores: equal bytes, within the limits, and how they fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from labkit.twin.kube.door import ApiError

VOLUMES, BACKUPS = "volumes.longhorn.io", "backups.longhorn.io"


def go(work: Any) -> None:
    asyncio.run(work)


def done(lab: Any, name: str) -> bool:
    status = lab.volume(name)
    return bool(status.get("restoreInitiated")) and not status["restoreRequired"] and status["state"] == "detached"


async def backed_up(lab: Any) -> tuple[str, str, str]:
    """Return an app's volume, the URL of its backup and the checksum of what is in it."""
    volume = await lab.app("one")
    await lab.target()
    checksum = lab.longhorn.apps.view()[volume]["checksum"]
    backup = await lab.backup(volume)
    return volume, lab.status(BACKUPS, backup)["url"], checksum


def test_a_restore_step_by_step(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            _, url, checksum = await backed_up(lab)
            lab.longhorn.apps.write_all()
            made = lab.make("back", fromBackup=url, size="4194304")
            assert made["spec"]["size"] == str(64 << 20)
            assert made["metadata"]["labels"]["backup-target"] == "default"
            await lab.until(lambda: lab.condition("back", "Restore").get("reason") == "RestoreInProgress")
            assert lab.volume("back")["restoreRequired"] is True
            with pytest.raises(ApiError, match="being restored"):
                lab.api.delete(BACKUPS, url.partition("backup=")[2].partition("&")[0], "longhorn-system")

            def progress() -> list[int]:
                engine = lab.status("engines.longhorn.io", "back-e-0")
                return [one["progress"] for one in (engine.get("restoreStatus") or {}).values()]

            await lab.until(lambda: len(progress()) == 3)
            await lab.until(lambda: done(lab, "back"))
            assert lab.volume("back")["robustness"] == "unknown"
            assert lab.longhorn.apps.view()["back"]["checksum"] == checksum
            history = lab.volume("back")["kubernetesStatus"]
            assert (history["pvcName"], history["pvName"]) == ("one-data", "")
            assert history["lastPVCRefAt"]

    go(work())


def test_the_limit_of_each_node(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, nodes=2) as lab:
            limit = "concurrent-volume-backup-restore-per-node-limit"
            _, url, _ = await backed_up(lab)
            lab.hub.patch("settings.longhorn.io", limit, {"value": "0"})
            names = [f"back-{number}" for number in range(5)]
            for name in names:
                lab.make(name, fromBackup=url, numberOfReplicas=1)
            await lab.clock.sleep(30)
            assert not any(done(lab, name) for name in names)
            lab.hub.patch("settings.longhorn.io", limit, {"value": "1"})
            most = 0
            while not all(done(lab, name) for name in names):
                running_now = [n for n in names if lab.condition(n, "Restore").get("reason") == "RestoreInProgress"]
                most = max(most, len(running_now))
                await asyncio.sleep(0.002)
            assert most == 2

    go(work())


@pytest.mark.parametrize("fault", ["backup-corrupt", "nas-unreachable"])
def test_a_restore_that_fails(running: Any, tmp_path: Path, fault: str) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            _, url, _ = await backed_up(lab)
            if fault == "backup-corrupt":
                await lab.fault(fault)
            lab.make("back", fromBackup=url)
            if fault == "nas-unreachable":
                await lab.fault(fault)
            await lab.until(lambda: lab.volume("back").get("robustness") == "faulted")
            said = lab.condition("back", "Restore")
            assert (said["status"], said["reason"]) == ("False", "RestoreFailure")
            assert said["message"] == "All replica restore failed and the volume became Faulted"
            assert lab.volume("back")["restoreRequired"] is True
            await lab.clock.sleep(60)
            assert lab.volume("back")["robustness"] == "faulted"
            lab.api.delete(VOLUMES, "back", "longhorn-system")
            await lab.until(lambda: lab.api.get(VOLUMES, "back", "longhorn-system") is None)

    go(work())


def test_a_slow_longhorn(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, nodes=1) as lab:
            await lab.fault("longhorn-slow:20")
            lab.make("one", numberOfReplicas=1)
            await lab.clock.sleep(8)
            assert lab.volume("one").get("state") == "creating"
            await lab.clear("longhorn-slow")
            await lab.until(lambda: lab.volume("one").get("state") == "detached")

    go(work())


def test_short_of_replicas_a_restore_ends_only_when_that_is_allowed(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, nodes=2) as lab:
            _, url, checksum = await backed_up(lab)
            allowed = "allow-volume-creation-with-degraded-availability"
            lab.hub.patch("settings.longhorn.io", allowed, {"value": "false"})
            lab.make("back", fromBackup=url, numberOfReplicas=3)
            await lab.until(lambda: lab.condition("back", "Scheduled").get("reason") == "ReplicaSchedulingFailure")
            await lab.clock.sleep(60)
            assert not done(lab, "back")
            lab.hub.patch("settings.longhorn.io", allowed, {"value": "true"})
            await lab.until(lambda: done(lab, "back"))
            assert lab.longhorn.apps.view()["back"]["checksum"] == checksum

    go(work())


def test_a_restored_volume_can_be_grown_and_keeps_its_files(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            _, url, checksum = await backed_up(lab)
            lab.make("back", fromBackup=url)
            await lab.until(lambda: done(lab, "back"))
            lab.api.patch(VOLUMES, "back", {"spec": {"size": str(128 << 20)}}, "longhorn-system")
            await lab.until(lambda: lab.hub.head("back").stat().st_size == 128 << 20)
            assert lab.longhorn.apps.view()["back"]["checksum"] == checksum

    go(work())
