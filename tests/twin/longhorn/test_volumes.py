"""Volumes: created, attached, short of replicas, without nodes, rebuilt, deleted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from labkit.twin.kube.door import ApiError

VOLUMES, NODES = "volumes.longhorn.io", "nodes.longhorn.io"
FAST = {"replica-replenishment-wait-interval": 60}


def go(work: Any) -> None:
    asyncio.run(work)


@pytest.mark.parametrize("version", ["1.9.2", "1.10.2"])
def test_a_volume_from_its_creation_to_its_end(running: Any, tmp_path: Path, version: str) -> None:
    async def work() -> None:
        async with running(tmp_path, version=version) as lab:
            made = lab.make("one")
            assert made["spec"]["image"] == f"longhornio/longhorn-engine:v{version}"
            assert made["metadata"]["labels"]["longhornvolume"] == "one"
            assert made["metadata"]["labels"]["recurring-job-group.longhorn.io/default"] == "enabled"
            assert ("backupBlockSize" in made["spec"]) is (version == "1.10.2")
            await lab.until(lambda: lab.volume("one").get("state") == "detached")
            assert lab.volume("one")["robustness"] == "unknown"
            assert lab.condition("one", "Scheduled")["status"] == "True"
            assert sorted(r["spec"]["nodeID"] for r in lab.replicas("one")) == ["n1", "n2", "n3"]
            lab.attach("one", "n2")
            await lab.attached("one")
            assert lab.volume("one")["currentNodeID"] == "n2"
            engine = lab.get("engines.longhorn.io", "one-e-0")
            assert engine["status"]["endpoint"] == "/dev/longhorn/one"
            assert set(engine["status"]["replicaModeMap"].values()) == {"RW"}
            ticket = lab.status("volumeattachments.longhorn.io", "one")["attachmentTicketStatuses"]["test"]
            assert ticket["satisfied"] is True
            lab.hub.end_ticket("one", "test")
            await lab.until(lambda: lab.volume("one")["state"] == "detached")
            folder = lab.hub.head("one").parent
            lab.api.delete(VOLUMES, "one", "longhorn-system")
            await lab.until(lambda: lab.api.get(VOLUMES, "one", "longhorn-system") is None)
            assert not lab.replicas("one")
            assert lab.hub.engine("one") is None
            assert not folder.exists()

    go(work())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"frontend": None}, "invalid volume frontend specified"),
        ({"size": "10Gi"}, "cannot decode"),
        ({"size": 1073741824}, "spec.size"),
        ({"numberOfReplicas": 40}, "must be between 1 to 20"),
        ({"fromBackup": "nfs://nas.lan:/mnt/tank/backups?backup=backup-none&volume=x"}, "cannot get backup"),
        ({"dataEngine": "v2", "frontend": "ublk"}, "data engine v2 is not enabled"),
        ({"Standby": True}, "standby volume"),
    ],
)
def test_what_the_webhooks_refuse(running: Any, tmp_path: Path, spec: dict[str, Any], said: str) -> None:
    async def work() -> None:
        async with running(tmp_path, nodes=1) as lab:
            with pytest.raises(ApiError, match=said):
                lab.make("one", **spec)
            size = lab.make("odd", size="1000000")["spec"]["size"]
            assert size == str(2 << 20)
            with pytest.raises(ApiError, match="shrinking"):
                lab.hub.patch(VOLUMES, "odd", {"spec": {"size": "1024"}})

    go(work())


def test_settings_by_release(running: Any, tmp_path: Path) -> None:
    async def work(version: str, expected: str) -> None:
        async with running(tmp_path / version, nodes=1, version=version, settings={"default-replica-count": 2}) as lab:
            assert lab.get("settings.longhorn.io", "default-replica-count")["value"] == expected
            assert lab.make("one", numberOfReplicas=None)["spec"]["numberOfReplicas"] == 2
            with pytest.raises(ApiError, match="true or false"):
                lab.hub.patch("settings.longhorn.io", "auto-salvage", {"value": "maybe"})

    go(work("1.9.2", "2"))
    go(work("1.10.2", '{"v1":"2","v2":"2"}'))


def test_a_dead_node_degrades_and_a_new_replica_is_rebuilt(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, nodes=4, settings=FAST) as lab:
            lab.make("one")
            lab.attach("one", "n1")
            await lab.attached("one")
            lost = next(r["spec"]["nodeID"] for r in lab.replicas("one") if r["spec"]["nodeID"] != "n1")
            lab.nodes[lost].stop()
            lab.disks.off.add(lost)
            await lab.attached("one", "degraded")
            await lab.attached("one")
            assert lost not in {r["spec"]["nodeID"] for r in lab.replicas("one") if not r["spec"]["failedAt"]}

    go(work())


def test_all_nodes_gone_is_faulted_until_they_return(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, nodes=2) as lab:
            lab.make("one", numberOfReplicas=2)
            lab.attach("one", "n1")
            await lab.attached("one")
            for name, node in lab.nodes.items():
                node.stop()
                lab.disks.off.add(name)
            await lab.until(lambda: lab.volume("one")["robustness"] == "faulted")
            assert lab.volume("one")["state"] == "detached"
            lab.disks.off.clear()
            for node in lab.nodes.values():
                node.start()
            await lab.attached("one")

    go(work())


def test_lost_disks_do_not_come_back_empty(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, nodes=1, settings=FAST) as lab:
            lab.make("one", numberOfReplicas=1)
            await lab.until(lambda: lab.volume("one").get("state") == "detached")
            lab.disks.lose("n1")
            await lab.faults.settle()
            await lab.until(lambda: lab.volume("one")["robustness"] == "faulted")
            lab.attach("one", "n1")
            await lab.clock.sleep(120)
            assert lab.volume("one")["robustness"] == "faulted"
            assert lab.volume("one")["state"] == "detached"
            disk = next(iter(lab.status(NODES, "n1")["diskStatus"].values()))
            assert [c["reason"] for c in disk["conditions"] if c["type"] == "Ready"] == ["DiskFilesystemChanged"]

    go(work())


def test_faults_of_replicas(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            await lab.fault("replica-short")
            lab.make("one")
            lab.attach("one", "n1")
            await lab.attached("one", "degraded")
            said = lab.condition("one", "Scheduled")
            assert (said["status"], said["reason"]) == ("False", "ReplicaSchedulingFailure")
            await lab.clear("replica-short")
            await lab.attached("one")
            assert lab.condition("one", "Scheduled")["status"] == "True"
            await lab.fault("volume-degraded:one")
            await lab.attached("one", "degraded")
            await lab.clear("volume-degraded")
            await lab.attached("one")

    go(work())


def test_zones_and_nodes(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, nodes=4, zones=("x", "x", "x", "y")) as lab:
            lab.make("one", numberOfReplicas=2)
            await lab.until(lambda: len(lab.replicas("one")) == 2 and lab.volume("one").get("state") == "detached")
            zones = {lab.status(NODES, r["spec"]["nodeID"])["zone"] for r in lab.replicas("one")}
            assert zones == {"x", "y"}
            lab.api.patch("nodes", "n4", {"spec": {"unschedulable": True}})
            await lab.until(lambda: any(
                c["reason"] == "KubernetesNodeCordoned" for c in lab.status(NODES, "n4")["conditions"]))  # fmt: skip
            lab.nodes["n4"].stop()
            lab.api.delete("nodes", "n4")
            await lab.until(lambda: lab.api.get(NODES, "n4", "longhorn-system") is None)

    go(work())


def test_longhorn_goes_with_its_manager(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, nodes=1) as lab:
            lab.api.delete("daemonsets.apps", "longhorn-manager", "longhorn-system")
            await lab.until(lambda: not lab.longhorn.running)
            assert lab.make("one", frontend=None)["spec"].get("frontend") is None

    go(work())
