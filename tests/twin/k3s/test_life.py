"""A cluster in its life: quorum, restarts, upgrades, nodes that go, faults."""

from __future__ import annotations

import asyncio
from typing import Any

from labkit.twin.k3s import places
from labkit.twin.kube.door import Object

from .conftest import SEED, Play, Stage


async def three(stage: Stage) -> None:
    await stage.found()
    await stage.join("s2")
    await stage.join("s3")


def coredns(stage: Stage) -> Object | None:
    pods = stage.cluster.api.list("pods", "kube-system", {"k8s-app": "kube-dns"})
    return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)


def restarts(pod: Object | None) -> int:
    assert pod is not None
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def test_without_quorum_nothing_answers_until_it_is_back(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await three(stage)
        await stage.join("a1", "agent")
        cluster = stage.cluster
        lost = {name: stage.guest(name).settings for name in ("s2", "s3")}
        for name in lost:
            await stage.guest(name).power_off(orderly=False)
        assert stage.k3s.cluster is None
        answer = await stage.run("s1", "curl -sk https://192.168.7.11:6443/cacerts")
        assert answer.out.decode() == cluster.pki.server_ca
        assert (await stage.run("s1", "kubectl get nodes")).err == b"Error from server: etcdserver: request timed out\n"
        assert (await stage.run("s1", "k3s etcd-snapshot save")).status == 1
        assert not cluster.nodes["a1"].living.is_running
        stage.guests.power_on(stage.guest("s2").vmid, "s2", lost["s2"], at_once=True)
        await stage.until(lambda: stage.k3s.cluster is cluster and stage.is_ready("s2"))
        await stage.until(lambda: stage.is_ready("a1") and stage.condition("s3") == "Unknown")

    play(act)


def test_pods_run_on_while_k3s_restarts_and_not_through_a_reboot(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.until(lambda: coredns(stage))
        await stage.ok("s1", "systemctl stop k3s")
        assert (await stage.run("s1", "curl -sk https://192.168.7.11:6443/ping")).status == 7
        await stage.ok("s1", "systemctl start k3s")
        await stage.until(lambda: stage.is_ready("s1"))
        assert restarts(coredns(stage)) == 0
        await stage.ok("s1", "/usr/local/bin/k3s-killall.sh")
        await stage.ok("s1", "systemctl start k3s")
        await stage.until(lambda: (pod := coredns(stage)) and restarts(pod) == 1)
        settings = stage.guest("s1").settings
        await stage.guest("s1").power_off()
        stage.guests.power_on(stage.guest("s1").vmid, "s1", settings, at_once=True)
        await stage.until(lambda: stage.k3s.cluster and (pod := coredns(stage)) and restarts(pod) == 2)

    play(act)


def test_an_upgrade_is_the_installer_run_again(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await three(stage)
        await stage.join("a1", "agent")
        for name, role in (("s1", "server"), ("a1", "agent")):
            done = await stage.install(name, role, env="INSTALL_K3S_VERSION=v1.34.1+k3s1")
            assert done.status == 0
            await stage.until(lambda name=name: version(stage, name) == "v1.34.1+k3s1")
            await stage.until(lambda name=name: stage.is_ready(name))
        assert version(stage, "s2") == "v1.33.4+k3s1"
        assert len(stage.cluster.members.by_node) == 3

    play(act)


def version(stage: Stage, name: str) -> str:
    node: Any = stage.node(name)
    return str(node["status"]["nodeInfo"]["kubeletVersion"])


def test_a_deleted_agent_comes_back_only_when_it_is_restarted(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.join("a1", "agent", node_label=["one=1"])
        stage.cluster.api.delete("nodes", "a1")
        await stage.until(lambda: stage.node("a1") is None)
        await stage.pause(30)
        assert stage.node("a1") is None
        assert stage.cluster.api.get("secrets", "a1.node-password.k3s", "kube-system") is None
        stage.configure("a1", server=SEED, node_label=["two=2"])
        await stage.ok("a1", "systemctl restart k3s-agent")
        await stage.until(lambda: stage.is_ready("a1"))
        node: Any = stage.node("a1")
        assert "one" not in node["metadata"]["labels"]
        assert node["metadata"]["labels"]["two"] == "2"

    play(act)


def test_labels_of_the_file_count_at_the_first_registration_only(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found(node_label=["one=1"])
        stage.configure("s1", cluster_init=True, node_label=["two=2"])
        await stage.ok("s1", "systemctl restart k3s")
        await stage.until(lambda: stage.is_ready("s1"))
        node: Any = stage.node("s1")
        assert "two" not in node["metadata"]["labels"]

    play(act)


def test_a_deleted_server_is_no_member_any_more(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await three(stage)
        stage.cluster.api.delete("nodes", "s3")
        await stage.until_logged("s3", "the member has been permanently removed from the cluster")
        assert set(stage.cluster.members.by_node) == {"s1", "s2"}
        await stage.until(lambda: "restart counter is at 2" in stage.log("s3"))
        assert stage.node("s3") is None
        await stage.ok("s3", "systemctl stop k3s")
        await stage.ok("s3", f"rm -rf {places.DB}")
        await stage.ok("s3", "systemctl start k3s")
        await stage.until(lambda: stage.is_ready("s3"))
        assert set(stage.cluster.members.by_node) == {"s1", "s2", "s3"}

    play(act)


def test_the_first_server_may_go_and_come_back_as_a_joiner(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await three(stage)
        stage.cluster.api.delete("nodes", "s1")
        await stage.until_logged("s1", "permanently removed")
        assert (await stage.run("s1", "/usr/local/bin/k3s-uninstall.sh")).status == 0
        await stage.join("s1", url="https://192.168.7.12:6443")
        assert len(stage.k3s.clusters) == 1
        assert stage.cluster.members.has_quorum

    play(act)


def test_a_wrong_token_after_the_fact_is_fatal(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await three(stage)
        stage.configure("s2", server=SEED, token="another")
        assert (await stage.run("s2", "systemctl restart k3s")).status == 1
        assert "bootstrap data already found and encrypted with different token" in stage.log("s2")
        stage.configure("s2", server=SEED, flannel_backend="host-gw")
        await stage.until_logged("s2", "critical configuration value mismatch")
        stage.configure("s2", server=SEED)
        await stage.until(lambda: stage.is_ready("s2"))

    play(act)


def test_a_node_whose_network_does_not_come_up(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        stage.configure("a1", server=SEED)
        assert (await stage.install("a1", "agent")).status == 0
        await stage.until(lambda: stage.condition("a1") == "False")
        await stage.pause(30)
        assert stage.condition("a1") == "False"
        stage.world.faults.clear("node-not-ready")
        await stage.world.faults.settle()
        assert stage.is_ready("a1")

    play(act, "node-not-ready:a1")


def test_a_server_that_dies_after_its_install(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        stage.configure("s2", server=SEED)
        done = await stage.install("s2")
        assert done.status == 1
        assert b"Job for k3s.service failed" in done.err
        await stage.until(lambda: "restart counter is at 3" in stage.log("s2"))
        assert (await stage.run("s2", "systemctl is-active k3s")).out == b"activating\n"
        stage.world.faults.clear("k3s-dies-after-install")
        await stage.until(lambda: stage.is_ready("s2"))
        assert len(stage.cluster.members.by_node) == 2

    play(act, "k3s-dies-after-install:s2")


def test_manifests_on_a_server_are_deployed(play: Play) -> None:
    async def act(stage: Stage) -> None:
        text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: given, namespace: default}\ndata: {a: b}\n"
        stage.guest("s1").files.put(f"{places.MANIFESTS}/given.yaml", text)
        await stage.found()
        found = await stage.until(lambda: stage.cluster.api.get("configmaps", "given", "default"))
        assert found["data"] == {"a": "b"}

    play(act)


def test_kube_vip_answers_for_the_cluster(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found(tls_san=["192.168.7.100"])
        assert (await stage.run("s1", "curl -sk https://192.168.7.100:6443/ping")).status == 7
        container = {"name": "kube-vip", "image": "ghcr.io/kube-vip/kube-vip:v0.9.2",
                     "env": [{"name": "address", "value": "192.168.7.100"}]}  # fmt: skip
        labels = {"app": "kube-vip"}
        template = {"metadata": {"labels": labels}, "spec": {"hostNetwork": True, "containers": [container]}}
        stage.cluster.api.create("daemonsets.apps", {
            "metadata": {"name": "kube-vip", "namespace": "kube-system"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        })  # fmt: skip

        async def answers() -> bool:
            return (await stage.run("s1", "curl -sk https://192.168.7.100:6443/ping")).out == b"pong"

        for _ in range(500):
            if await answers():
                break
            await asyncio.sleep(0.005)
        await stage.join("a1", "agent", url="https://192.168.7.100:6443")

    play(act)
