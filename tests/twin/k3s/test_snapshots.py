"""Snapshots of etcd, and how a cluster comes back from one."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from typing import Any

from labkit.twin.clock import TwinClock
from labkit.twin.k3s import places
from labkit.twin.k3s.crds import SNAPSHOT_FILES

from .conftest import SEED, TOKEN, Play, Stage

RESET = "Managed etcd cluster membership has been reset"


async def save(stage: Stage, name: str = "s1", more: str = "") -> str:
    result = await stage.run(name, f"k3s etcd-snapshot save {more}")
    assert result.status == 0, result.err
    match = re.search(r"Snapshot (\S+) saved\.", result.err.decode())
    assert match is not None
    return match[1]


def mark(stage: Stage, name: str) -> None:
    body = {"metadata": {"name": name, "namespace": "default"}, "data": {"a": "b"}}
    stage.cluster.api.create("configmaps", body)


def test_they_are_saved_listed_pruned_and_deleted(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        first = await save(stage)
        assert first.startswith("on-demand-s1-")
        more = [await save(stage, more="--name before") for _ in range(3)]
        packed = await save(stage, more="--name packed --etcd-snapshot-compress")
        assert packed.endswith(".zip")
        listed = (await stage.ok("s1", "k3s etcd-snapshot ls")).splitlines()
        assert listed[0].split() == ["Name", "Location", "Size", "Created"]
        assert {line.split()[0] for line in listed[1:]} == {first, packed, *more}
        items = json.loads(await stage.ok("s1", "k3s etcd-snapshot list -o json"))["items"]
        assert {item["spec"]["snapshotName"] for item in items} == {first, packed, *more}
        objects = stage.cluster.api.list(SNAPSHOT_FILES)
        assert {item["spec"]["snapshotName"] for item in objects} == {first, packed, *more}
        one = next(item for item in objects if item["spec"]["snapshotName"] == first)
        assert one["spec"]["location"] == f"file://{places.SNAPSHOTS}/{first}"
        assert one["status"]["readyToUse"] is True
        assert one["metadata"]["labels"] == {"etcd.k3s.cattle.io/snapshot-storage-node": "s1"}
        await stage.run("s1", "k3s etcd-snapshot prune --name before --snapshot-retention 1")
        await stage.run("s1", f"k3s etcd-snapshot delete {first}")
        left = {item["spec"]["snapshotName"] for item in stage.cluster.api.list(SNAPSHOT_FILES)}
        assert left == {packed, more[-1]}
        assert set((await stage.ok("s1", f"ls {places.SNAPSHOTS}")).split()) == left
        assert (await stage.run("s1", "k3s etcd-snapshot ls", user="admin")).status == 1

    play(act)


def test_a_cluster_comes_back_on_the_same_machines(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.join("s2")
        await stage.join("s3")
        mark(stage, "before")
        name = await save(stage)
        mark(stage, "after")
        ca = stage.cluster.pki.ca_hash
        for server in ("s1", "s2", "s3"):
            await stage.ok(server, "systemctl stop k3s")
        path = f"{places.SNAPSHOTS}/{name}"
        done = await stage.run("s1", f"k3s server --cluster-reset --cluster-reset-restore-path={path}")
        assert done.status == 0, done.err
        assert RESET in done.err.decode()
        again = await stage.run("s1", f"k3s server --cluster-reset --cluster-reset-restore-path={path}")
        assert again.status == 1
        assert b"was previously reset, please remove the cluster-reset flag" in again.err
        assert "etcd-old-" in await stage.ok("s1", f"ls {places.DB}")
        await stage.ok("s1", "systemctl start k3s")
        await stage.until(lambda: stage.is_ready("s1"))
        assert not stage.guest("s1").files.exists(places.RESET_FLAG)
        assert stage.cluster.pki.ca_hash == ca
        assert stage.cluster.api.get("configmaps", "before", "default")
        assert stage.cluster.api.get("configmaps", "after", "default") is None
        for server in ("s2", "s3"):
            await stage.ok(server, "systemctl start --no-block k3s")
            await stage.until_logged(server, "Failed to test etcd connection")
            await stage.ok(server, "systemctl stop k3s")
            await stage.ok(server, f"rm -rf {places.DB}")
            await stage.ok(server, "systemctl start k3s")
            await stage.until(lambda server=server: stage.is_ready(server))
        assert set(stage.cluster.members.by_node) == {"s1", "s2", "s3"}

    play(act)


def test_a_new_machine_needs_the_token_of_the_snapshot(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        mark(stage, "kept")
        name = await save(stage)
        data = stage.guest("s1").files.read(f"{places.SNAPSHOTS}/{name}")
        assert TOKEN.encode() not in data
        await stage.guest("s1").power_off(orderly=False)
        await stage.install("s4", env="INSTALL_K3S_SKIP_START=true")
        stage.guest("s4").files.put("/root/snap", data)
        command = "k3s server --cluster-reset --cluster-reset-restore-path=/root/snap"
        for more, said in (
            ("", b"encrypted with different token"),
            ("--token=wrong", b"encrypted with different token"),
            (f"--token={TOKEN} --server={SEED}", b"remove server from configuration before resetting"),
            (f"--token={TOKEN} --cluster-reset-restore-path=/root", b"must be a file, not a directory"),
            (f"--token={TOKEN} --cluster-reset-restore-path=/root/none", b"snapshot path does not exist: /root/none"),
            (f"--token={TOKEN} --etcd-s3", b"not found in S3"),
        ):
            refused = await stage.run("s4", f"{command} {more}")
            assert refused.status == 1
            assert said in refused.err, more
        stage.guest("s4").files.put("/root/torn", data[:-9])
        assert (await stage.run("s4", command.replace("snap", "torn") + f" --token={TOKEN}")).status == 1
        assert (await stage.run("s4", f"{command} --token={TOKEN}")).status == 0
        await stage.ok("s4", "systemctl start k3s")
        await stage.until(lambda: stage.k3s.cluster and stage.is_ready("s4"))
        assert stage.cluster.api.get("configmaps", "kept", "default")
        node: Any = stage.node("s1")
        await stage.until(lambda: stage.condition("s1") == "Unknown")
        assert node["metadata"]["name"] == "s1"

    play(act)


def test_one_server_of_a_lost_majority_can_go_on_alone(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.join("s2")
        await stage.join("s3")
        mark(stage, "kept")
        for lost in ("s1", "s3"):
            await stage.guest(lost).power_off(orderly=False)
        assert (await stage.run("s2", "k3s server --cluster-reset")).status == 1
        await stage.ok("s2", "systemctl stop k3s")
        stage.configure("s2")
        assert (await stage.run("s2", "k3s server --cluster-reset")).status == 0
        await stage.ok("s2", "systemctl start k3s")
        await stage.until(lambda: stage.k3s.cluster and stage.is_ready("s2"))
        assert stage.cluster.api.get("configmaps", "kept", "default")
        assert set(stage.cluster.members.by_node) == {"s2"}

    play(act)


class HurriedClock(TwinClock):
    """Its dates run ten minutes in each second."""

    def __init__(self, scale: float) -> None:
        super().__init__(scale)
        self.start = time.time()

    def now(self) -> float:
        return self.start + (time.time() - self.start) * 600

    async def sleep_to(self, date: float) -> None:
        await asyncio.sleep(max(date - self.now(), 0) / 600)


def test_the_schedule_is_kept_and_the_oldest_go(play: Play) -> None:
    async def act(stage: Stage) -> None:
        stage.world.clock = HurriedClock(stage.world.clock.scale)
        await stage.found(etcd_snapshot_schedule_cron="* * * * *", etcd_snapshot_retention=2)
        seen: set[str] = set()

        def three_have_been() -> bool:
            seen.update(item["spec"]["snapshotName"] for item in stage.cluster.api.list(SNAPSHOT_FILES))
            return len(seen) > 2

        await stage.until(three_have_been)
        assert all(name.startswith("etcd-snapshot-s1-") for name in seen)
        assert len(stage.cluster.api.list(SNAPSHOT_FILES)) == 2

    play(act)


def test_a_damaged_snapshot_is_refused_by_its_checksum(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        name, packed = await save(stage), await save(stage, more="--name packed --etcd-snapshot-compress")
        files = stage.guest("s1").files
        data = files.read(f"{places.SNAPSHOTS}/{name}")
        assert len(data) % 512 == 32
        assert hashlib.sha256(data[:-32]).digest() == data[-32:]
        assert f"/bootstrap/{hashlib.sha256(TOKEN.encode()).hexdigest()[:12]}".encode() in data
        await stage.ok("s1", "systemctl stop k3s")
        for broken, said in (
            (data[:-100], b"snapshot missing hash but --skip-hash-check=false"),
            (data[:1000] + bytes([data[1000] ^ 1]) + data[1001:], b"expected sha256 ["),
            (b"PK\x03\x04torn", b"zip: not a valid zip file"),
        ):
            files.put("/root/broken", broken)
            done = await stage.run("s1", "k3s server --cluster-reset --cluster-reset-restore-path=/root/broken")
            assert done.status == 1
            assert said in done.err
        whole = f"--cluster-reset-restore-path={places.SNAPSHOTS}/{packed}"
        assert (await stage.run("s1", f"k3s server --cluster-reset {whole}")).status == 0

    play(act)


def test_snapshots_that_the_restored_cluster_does_not_know_are_told_at_its_start(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        first, later = await save(stage), await save(stage)
        await stage.ok("s1", "systemctl stop k3s")
        await stage.ok("s1", f"k3s server --cluster-reset --cluster-reset-restore-path={places.SNAPSHOTS}/{first}")
        await stage.ok("s1", "systemctl start k3s")
        told = {item["spec"]["snapshotName"]: item for item in stage.cluster.api.list(SNAPSHOT_FILES)}
        assert set(told) == {first, later}
        assert "annotations" not in told[later]["metadata"]

    play(act)


def test_an_agent_that_runs_finds_the_cluster_that_a_reset_left(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.join("s2")
        await stage.join("a1", "agent")
        await stage.guest("s1").power_off(orderly=False)
        await stage.ok("s2", "systemctl stop k3s")
        stage.configure("s2")
        await stage.ok("s2", "k3s server --cluster-reset")
        assert "etcd-old-" not in await stage.ok("s2", f"ls {places.DB}")
        await stage.ok("s2", "systemctl start k3s")
        await stage.until(lambda: stage.k3s.cluster and "a1" in stage.cluster.nodes and stage.is_ready("a1"))

    play(act)


def test_a_reset_as_a_unit_of_its_own_leaves_its_words_in_the_journal(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.ok("s1", "systemctl stop k3s")
        run = "systemd-run --unit=reset --wait --quiet /usr/local/bin/k3s server --cluster-reset"
        stage.configure("s1", server=SEED)
        assert (await stage.run("s1", run)).status == 1
        assert "failed" in (await stage.run("s1", "systemctl is-active reset")).out.decode()
        assert (await stage.run("s1", run)).status == 1
        await stage.ok("s1", "systemctl reset-failed reset")
        stage.configure("s1")
        await stage.ok("s1", run)
        assert RESET in await stage.ok("s1", "journalctl -u reset -o cat")

    play(act)


def test_a_server_with_the_old_data_does_not_get_into_the_restored_cluster(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.join("s2")
        await stage.join("s3")
        for server in ("s1", "s2", "s3"):
            await stage.ok(server, "systemctl stop k3s")
        await stage.ok("s1", "k3s server --cluster-reset")
        await stage.ok("s1", "systemctl start k3s")
        await stage.ok("s2", "systemctl start --no-block k3s")
        await stage.until_logged("s2", "cluster ID mismatch")

    play(act)
