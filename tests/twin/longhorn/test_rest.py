"""Longhorn's REST service, over HTTP through the API server's proxy."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

BASE = "/api/v1/namespaces/longhorn-system/services/longhorn-frontend:80/proxy/v1"
BACKEND = "/api/v1/namespaces/longhorn-system/services/longhorn-backend:9500/proxy/v1"


def test_rest(running: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as lab:
            await lab.server.start()
            writes: list[int] = []
            lab.hub.on_write = lambda: writes.append(1)
            async with aiohttp.ClientSession(lab.server.url, trust_env=False) as http:
                try:
                    await talk(lab, http)
                finally:
                    await lab.server.stop()
            assert len(writes) == 13

    asyncio.run(work())


async def ask(http: Any, method: str, path: str, status: int = 200, **body: Any) -> Any:
    async with http.request(method, BASE + path, json=body or None) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json() if answer.content_type == "application/json" else None


async def talk(lab: Any, http: Any) -> None:
    await lab.target()
    made = await ask(http, "POST", "/volumes", name="one", size="67108864", numberOfReplicas=2,
                     recurringJobSelector=[{"name": "often", "isGroup": True}])  # fmt: skip
    assert made["id"] == "one"
    assert made["recurringJobSelector"] == [{"name": "often", "isGroup": True}]
    await lab.until(lambda: lab.volume("one").get("state") == "detached")
    await ask(http, "POST", "/volumes/one?action=attach", hostId="n1")
    await lab.attached("one")
    seen = await ask(http, "GET", "/volumes/one")
    assert (seen["state"], seen["robustness"], seen["ready"]) == ("attached", "healthy", True)
    assert len(seen["replicas"]) == 2
    assert "pvCreate" in seen["actions"]
    lab.longhorn.apps.put("one", {"a": b"1"})
    snapshot = (await ask(http, "POST", "/volumes/one?action=snapshotCreate", labels={"x": "y"}))["name"]
    await lab.until(lambda: lab.status("snapshots.longhorn.io", snapshot).get("readyToUse"))
    listed = await ask(http, "POST", "/volumes/one?action=snapshotList")
    assert [s["name"] for s in listed["data"]] == [snapshot]
    await ask(http, "POST", "/volumes/one?action=pvCreate", pvName="one", fsType="ext4")
    await ask(http, "POST", "/volumes/one?action=pvcCreate", namespace="default", pvcName="one")
    await lab.until(lambda: lab.status("persistentvolumeclaims", "one", "default").get("phase") == "Bound")
    await lab.until(lambda: lab.volume("one")["kubernetesStatus"]["pvcName"] == "one")
    await ask(http, "POST", "/volumes/one?action=snapshotBackup", name=snapshot)

    def states() -> list[str]:
        return [b.get("status", {}).get("state", "") for b in lab.hub.list("backups.longhorn.io")]

    await lab.until(lambda: states() == ["Completed"])
    volumes = (await ask(http, "GET", "/backupvolumes"))["data"]
    assert [v["volumeName"] for v in volumes] == ["one"]
    backups = (await ask(http, "POST", f"/backupvolumes/{volumes[0]['id']}?action=backupList"))["data"]
    assert "KubernetesStatus" in backups[0]["labels"]
    await ask(http, "POST", "/backuptargets/default?action=backupTargetSync", syncBackupTarget=True)
    await ask(http, "PUT", "/backupvolumes", syncAllBackupVolumes=True)
    target = (await ask(http, "GET", "/backuptargets"))["data"][0]
    assert target["available"] is True
    assert (await ask(http, "PUT", "/settings/auto-salvage", value="false"))["value"] == "false"
    assert {n["id"] for n in (await ask(http, "GET", "/nodes"))["data"]} == {"n1", "n2", "n3"}
    await ask(http, "POST", "/volumes/one?action=detach")
    await ask(http, "GET", "/volumes/none", status=404)
    await ask(http, "POST", "/volumes/one?action=dance", status=404)
    async with http.get(f"{BACKEND}/volumes") as answer:
        assert [v["name"] for v in (await answer.json())["data"]] == ["one"]
