"""Claims and pods: provisioned, attached, kept, restored under the name that a claim is pinned to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

VOLUMES, PVS, CLAIMS = "volumes.longhorn.io", "persistentvolumes", "persistentvolumeclaims"


def go(work: Any) -> None:
    asyncio.run(work)


def test_a_claim_from_its_volume_to_its_end(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, replicas=2) as lab:
            name = await lab.app("one")
            assert name == "pvc-" + lab.get(CLAIMS, "one-data", "default")["metadata"]["uid"]
            pv = lab.get(PVS, name, "")
            assert pv["spec"]["csi"]["volumeHandle"] == name
            assert pv["spec"]["csi"]["volumeAttributes"]["numberOfReplicas"] == "2"
            await lab.attached(name)
            await lab.until(lambda: lab.volume(name)["kubernetesStatus"].get("workloadsStatus"))
            known = lab.volume(name)["kubernetesStatus"]
            assert (known["pvName"], known["pvStatus"], known["pvcName"]) == (name, "Bound", "one-data")
            assert len(lab.api.list("volumeattachments.storage.k8s.io")) == 1
            lab.scale("one", 0)
            await lab.until(lambda: lab.volume(name)["state"] == "detached")
            await lab.until(lambda: lab.volume(name)["kubernetesStatus"]["lastPodRefAt"])
            assert lab.api.list("volumeattachments.storage.k8s.io") == []
            lab.api.delete(CLAIMS, "one-data", "default")
            await lab.until(lambda: lab.api.get(VOLUMES, name, "longhorn-system") is None)
            assert lab.api.get(PVS, name) is None

    go(work())


def test_retained_volumes_stay_and_data_survives_a_restart(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path, reclaim="Retain") as lab:
            name = await lab.app("one")
            await lab.until(lambda: name in lab.longhorn.apps.mounted())
            before = lab.longhorn.apps.write_all()[name]
            lab.scale("one", 0)
            await lab.until(lambda: lab.volume(name)["state"] == "detached")
            lab.scale("one", 1)
            await lab.until(lambda: lab.running("one"))
            assert lab.longhorn.apps.view()[name]["checksum"] == before["checksum"]
            lab.scale("one", 0)
            await lab.until(lambda: not lab.pods("one"))
            lab.api.delete(CLAIMS, "one-data", "default")
            await lab.until(lambda: lab.status(PVS, name, "").get("phase") == "Released")
            await lab.until(lambda: lab.volume(name)["kubernetesStatus"]["lastPVCRefAt"])
            assert lab.volume(name)["kubernetesStatus"]["pvcName"] == "one-data"

    go(work())


def test_the_empty_volume_wins_when_the_app_is_first(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            one, two = await lab.app("one"), await lab.app("two")
            view = lab.longhorn.apps.view()
            assert view[one]["instance"] != view[two]["instance"]
            assert view[one]["writes"] == 0

    go(work())


def test_a_restored_volume_is_bound_by_the_claim_that_names_it(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            name = await lab.app("one")
            await lab.target()
            before = lab.longhorn.apps.view()[name]
            url = lab.status("backups.longhorn.io", await lab.backup(name))["url"]
            lab.scale("one", 0)
            lab.api.delete(CLAIMS, "one-data", "default")
            await lab.until(lambda: lab.api.get(VOLUMES, name, "longhorn-system") is None)
            lab.api.delete("deployments.apps", "one", "default")
            lab.make("pinned", fromBackup=url)
            await lab.until(lambda: lab.volume("pinned").get("restoreInitiated")
                            and not lab.volume("pinned")["restoreRequired"])  # fmt: skip
            lab.longhorn.actions.make_pv("pinned", {"storageClassName": "longhorn"})
            assert lab.get(PVS, "pinned", "")["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
            await lab.until(lambda: not lab.pods("one"))
            assert await lab.app("one", claim={"volumeName": "pinned"}) == "pinned"
            assert lab.longhorn.apps.view()["pinned"]["checksum"] == before["checksum"]

    go(work())


def test_pods_wait_for_their_volume(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            await lab.fault("longhorn-slow:30")
            waiting = asyncio.create_task(lab.app("one"))
            await lab.until(lambda: any(
                "is not ready for workloads" in e["message"] for e in lab.api.list("events")
                if e["reason"] == "FailedMount"))  # fmt: skip
            assert not lab.running("one")
            await lab.clear("longhorn-slow")
            await waiting

    go(work())


def test_a_probe_reads_the_files(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            name = await lab.app("one")
            script = "cd /data; find . -type f -print0 | sort -z | xargs -0 sha256sum"
            pod = {
                "containers": [{"name": "probe", "image": "busybox:1", "command": ["sh", "-c", script]}],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "one-data"}}],
                "restartPolicy": "Never", "nodeName": lab.volume(name)["currentNodeID"],
            }  # fmt: skip
            lab.api.create("pods", {"apiVersion": "v1", "kind": "Pod", "spec": pod,
                                    "metadata": {"name": "probe", "namespace": "default"}})  # fmt: skip
            await lab.until(lambda: lab.status("pods", "probe", "default").get("phase") == "Succeeded")
            log = lab.server.log_of(lab.get("pods", "probe", "default"), "probe")
            assert [line.split()[1] for line in log.splitlines()] == ["./data/000000.bin", "./state/app.json"]

    go(work())
