"""The NAS' API over a real WebSocket with TLS: frames, login, limits, errors, jobs, both releases."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import websockets

from labkit.errors import InputError, StepFailed

SNAPSHOTS = {"25.04": "zfs.snapshot", "25.10": "pool.snapshot"}


def version_of(twin: Any) -> str:
    return "25.04" if "25.04" in json.dumps(_versions(twin)[-1]) else "25.10"


def _versions(twin: Any) -> list[str]:
    place = json.loads(twin.connect_file.read_text())["nas.lan:443"]
    context = ssl.create_default_context(cafile=twin.trust["nas.lan:443"]["ca"])
    context.check_hostname = False  # the address is that of the loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(f"https://{place}/api/versions", timeout=5) as answer:
        return json.load(answer)  # type: ignore[no-any-return]


def test_login_by_key(each: Any, run: Any) -> None:
    async def work(rpc: Any) -> None:
        assert (await rpc.error("pool.query"))["data"]["errname"] == "ENOTAUTHENTICATED"
        assert await rpc.call("core.ping") == "pong"
        assert await rpc.login(key="1-wrong") == "AUTH_ERR"
        assert await rpc.login(user="somebody") == "AUTH_ERR"
        assert await rpc.login() == "SUCCESS"
        assert (await rpc.call("auth.me"))["pw_name"] == "labkit"

    run(each, work, login=False)


def test_login_with_the_key_alone(each: Any, run: Any) -> None:
    async def work(rpc: Any) -> None:
        assert await rpc.call("auth.login_with_api_key", "1-no") is False
        assert await rpc.call("auth.login_with_api_key", rpc.key) is True
        assert (await rpc.call("system.info"))["hostname"] == "nas"

    run(each, work, login=False)


def test_releases_differ(each: Any, run: Any) -> None:
    version = version_of(each)

    async def work(rpc: Any) -> None:
        assert (await rpc.call("system.version")).startswith(version)
        methods = await rpc.call("core.get_methods")
        here, other = SNAPSHOTS[version], SNAPSHOTS["25.10" if version == "25.04" else "25.04"]
        assert f"{here}.query" in methods
        assert f"{other}.query" not in methods
        assert "auth.login_ex" in methods
        assert ("smart.test.results" in methods) is (version == "25.04")
        assert (await rpc.error(f"{other}.query"))["code"] == -32601
        assert await rpc.call(f"{here}.query", [["dataset", "=", "tank/backups"]], {"count": True}) == 14
        made = await rpc.call(f"{here}.create", {"dataset": "tank/backups", "name": f"t-{id(rpc)}"})
        assert (await rpc.error(f"{here}.create", {"dataset": "tank/no", "name": "x"}))["code"] == -32001
        assert await rpc.call(f"{here}.delete", made["id"]) is True

    run(each, work)


def test_pinned_versions(old: Any, run: Any) -> None:
    assert "v25.04.2" in _versions(old)

    async def work(rpc: Any) -> None:
        assert await rpc.call("core.ping") == "pong"

    run(old, work, path="/api/v25.04.2")
    with pytest.raises(websockets.InvalidStatus):
        run(old, work, path="/api/v25.10.0")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", -32700),
        ('{"jsonrpc":"2.0","id":1,"method":"core.ping","params":{}}', -32600),
        ('{"jsonrpc":"1.0","id":1,"method":"core.ping"}', -32600),
        ("[]", -32600),
        ('{"jsonrpc":"2.0","id":1,"method":"no.such","params":[]}', -32601),
        ('{"jsonrpc":"2.0","id":1,"method":"pool.query","params":[[["name","??",1]]]}', -32602),
        ('{"jsonrpc":"2.0","id":1,"method":"pool.query","params":[[],{"sort":1}]}', -32602),
    ],
)
def test_wrong_frames(twin: Any, run: Any, frame: str, code: int) -> None:
    async def work(rpc: Any) -> None:
        await rpc.socket.send(frame)
        assert (await rpc.read())["error"]["code"] == code

    run(twin, work)


def test_messages_have_a_limit(twin: Any, run: Any) -> None:
    async def work(rpc: Any) -> None:
        await rpc.socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "core.ping", "params": ["x" * 9000]}))
        await rpc.socket.wait_closed()
        assert rpc.socket.close_code == 1009

    run(twin, work, login=False)


def test_too_many_calls(twin: Any, run: Any) -> None:
    async def work(rpc: Any) -> None:
        for number in range(30):
            await rpc.send(id=number, method="auth.login_with_api_key", params=["1-wrong"])
        answers = [await rpc.read() for _ in range(30)]
        assert any(a.get("error", {}).get("code") == -32000 for a in answers)
        assert sum("result" in a for a in answers) >= 20

    run(twin, work)


def test_what_is_there(twin: Any, run: Any) -> None:
    async def work(rpc: Any) -> None:
        pool = await rpc.call("pool.query", [["name", "=", "tank"]], {"get": True})
        assert pool["status"] == "ONLINE"
        assert pool["scan"]["state"] == "FINISHED"
        assert len(pool["topology"]["data"][0]["children"]) == 4
        flat = {"extra": {"flat": True, "retrieve_children": False, "properties": ["used"]}}
        names = [d["id"] for d in await rpc.call("pool.dataset.query", [], flat)]
        assert names == ["tank", "tank/backups", "tank/media", "tank/documents", "tank/pictures"]
        tree = await rpc.call("pool.dataset.query", [], {"extra": {"flat": False}})
        assert [d["id"] for d in tree[0]["children"]] == [
            "tank/backups",
            "tank/media",
            "tank/documents",
            "tank/pictures",
        ]
        share = (await rpc.call("sharing.nfs.query"))[0]
        assert share["path"] == "/mnt/tank/backups"
        assert share["enabled"]
        assert "NFSV4" in (await rpc.call("nfs.config"))["protocols"]
        assert (await rpc.call("service.query", [["service", "=", "nfs"]]))[0]["state"] == "RUNNING"
        task = (await rpc.call("replication.query"))[0]
        assert task["state"]["last_snapshot"].startswith("tank/backups@auto-")
        assert (await rpc.call("disk.query", [], {"limit": 1}))[0]["pool"] is None
        assert (await rpc.call("disk.query", [], {"extra": {"pools": True}}))[0]["pool"] == "tank"
        assert await rpc.call("alert.list")
        assert await rpc.call("disk.temperatures", [], False)
        missing = await rpc.error("pool.query", [["name", "=", "none"]], {"get": True})
        assert missing["data"]["errname"] == "ENOENT"

    run(twin, work)


def test_jobs_and_events(twin: Any, run: Any) -> None:
    async def work(rpc: Any) -> None:
        await rpc.call("core.subscribe", "core.get_jobs")
        number = await rpc.call("pool.scrub.scrub", "tank", "START")
        assert isinstance(number, int)
        for _ in range(200):
            job = await rpc.call("core.get_jobs", [["id", "=", number]], {"get": True})
            if job["state"] == "SUCCESS":
                break
            await asyncio.sleep(0.01)
        assert job["method"] == "pool.scrub.scrub"
        assert job["progress"]["percent"] == 100
        told = [e["params"]["msg"] for e in rpc.events if e.get("method") == "collection_update"]
        assert told == ["added", "changed"]
        await rpc.call("core.set_options", {"legacy_jobs": False})
        assert await rpc.call("pool.scrub.scrub", "tank", "START") is None
        assert (await rpc.error("pool.scrub.scrub", "none", "START"))["code"] == -32001

    run(twin, work)


def test_writes_are_counted(twin: Any, run: Any) -> None:
    async def look(rpc: Any) -> None:
        await rpc.call("pool.query")

    async def change(rpc: Any) -> None:
        await rpc.call("alert.dismiss", (await rpc.call("alert.list"))[0]["uuid"])

    twin.reset()
    run(twin, look)
    assert twin.status()["writes"].get("nas", 0) == 0
    run(twin, change)
    assert twin.status()["writes"]["nas"] == 1


def test_unreachable(old: Any, run: Any) -> None:
    async def work(rpc: Any) -> None:
        await rpc.call("core.ping")

    mount = Path(old.exports["nfs://nas.lan:/mnt/tank/backups"])
    assert list(mount.iterdir()) == []
    old.fault("nas-unreachable")
    with pytest.raises(OSError):  # noqa: PT011  # refused or reset, as it comes
        run(old, work)
    assert not mount.exists()
    assert old.clear("nas-unreachable")
    run(old, work)
    assert mount.is_dir()


def test_the_export_comes_back_by_itself(twin: Any) -> None:
    mount = Path(twin.exports["nfs://nas.lan:/mnt/tank/backups"])
    (mount / "something").mkdir()
    twin.fault("nfs-empty:5")
    assert list(mount.iterdir()) == []
    for _ in range(400):
        if twin.status()["faults"] == []:
            break
    assert [path.name for path in mount.iterdir()] == ["something"]
    with pytest.raises(InputError, match="expected nfs-empty:SECONDS"):
        twin.fault("nfs-empty")


def test_any_row_can_be_changed(twin: Any, run: Any) -> None:
    async def statuses(rpc: Any) -> list[str]:
        return [pool["status"] for pool in await rpc.call("pool.query")]

    twin.ask("nas", rows="pools", merge={"status": "DEGRADED", "scan": {"errors": 1}})
    assert run(twin, statuses) == ["DEGRADED"]
    twin.ask("nas", rows="pools", merge={"status": "ONLINE", "scan": {"errors": 0}})
    assert run(twin, statuses) == ["ONLINE"]
    with pytest.raises(StepFailed, match="expected a row 9 of pools, got 1 rows"):
        twin.ask("nas", rows="pools", at=9, merge={})
    with pytest.raises(StepFailed, match="one of pools"):
        twin.ask("nas", rows="pool")
