"""Who may join a cluster, who may not, and what the journal says then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from labkit.twin.k3s import places
from labkit.twin.k3s.script import binary, unit_text

from .conftest import SEED, TOKEN, Play, Stage


def prepare(stage: Stage, name: str, role: Any = "server") -> None:
    """Put k3s on a guest without starting it, at once."""
    files = stage.guest(name).files
    files.put(places.BINARY, binary("v1.33.4+k3s1"), mode=0o755)
    files.put(f"/etc/systemd/system/{places.UNITS[role]}.service", unit_text(role, []))
    stage.host(name).follow_units()


async def start(stage: Stage, name: str, role: Any = "server") -> int:
    prepare(stage, name, role)
    return (await stage.run(name, f"systemctl start {places.UNITS[role]}")).status


def test_servers_and_agents_become_one_cluster(play: Play) -> None:
    async def act(stage: Stage) -> None:
        labels = ["topology.kubernetes.io/zone=north", "size=small"]
        await stage.found(node_label=labels, node_taint=["CriticalAddonsOnly=true:NoExecute"], disable=["traefik"])
        await stage.join("s2", disable=["traefik"])
        await stage.join("a1", "agent")
        cluster = stage.cluster
        assert [m.voter for m in cluster.members.by_node.values()] == [True, True]
        node: Any = stage.node("s1")
        shown = node["metadata"]["labels"]
        roles = {key.partition("/")[2] for key in shown if key.startswith("node-role.kubernetes.io/")}
        assert roles == {"control-plane", "etcd", "master"}
        assert (shown["topology.kubernetes.io/zone"], shown["size"]) == ("north", "small")
        assert {t["key"] for t in node["spec"]["taints"]} == {"CriticalAddonsOnly"}
        assert node["status"]["addresses"][0]["address"] == "192.168.7.11"
        assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.33.4+k3s1"
        assert len({n["spec"]["podCIDR"] for n in cluster.api.list("nodes")}) == 3
        assert stage.condition("a1", "EtcdIsVoter") == ""
        names = {d["metadata"]["name"] for d in cluster.api.list("deployments.apps")}
        assert names == {"coredns", "local-path-provisioner", "metrics-server"}
        assert len(stage.k3s.clusters) == 1

    play(act)


def test_the_files_are_where_k3s_keeps_them(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found(write_kubeconfig_mode="0640")
        token = (await stage.ok("s1", f"cat {places.TOKEN}")).strip()
        assert token == f"K10{stage.cluster.pki.ca_hash}::server:{TOKEN}"
        assert (await stage.ok("s1", f"cat {places.SERVER}/node-token")).strip() == token
        assert await stage.ok("s1", f"stat -c %a {places.KUBECONFIG} {places.TOKEN}") == "640\n600\n"
        for path in (places.ETCD, f"{places.TLS}/server-ca.crt", places.NODE_PASSWORD):
            await stage.ok("s1", f"test -e {path}")
        ports = {int(line.split()[3].rpartition(":")[2]) for line in (await stage.ok("s1", "ss -Hltn")).splitlines()}
        assert {22, 2379, 2380, 6443, 10250} <= ports
        assert (await stage.run("s1", f"cat {places.TOKEN}", user="admin")).status == 1

    play(act)


def test_a_server_without_the_word_join_begins_a_cluster_of_its_own(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found("s1")
        stage.configure("s2", cluster_init=True)
        await start(stage, "s2")
        one, other = stage.k3s.clusters.values()
        assert one.pki.ca_hash != other.pki.ca_hash
        await stage.until(lambda: other.api.get("nodes", "s2"))
        assert stage.node("s2") is None

    play(act)


MISMATCH = "failed to validate server configuration: critical configuration value mismatch"
REFUSALS = [
    ({"token": "other"}, "401 Unauthorized"),
    ({"token": "K10abc"}, "failed to normalize token; must be in format K10<CA-HASH>"),
    ({"token": f"K10{'0' * 64}::server:{TOKEN}"}, "token CA hash does not match the Cluster CA certificate hash: 000"),
    ({"server": "https://192.168.7.12:6443"}, "dial tcp 192.168.7.12:6443: connect: connection refused"),
    ({"server": "https://192.168.7.99:6443"}, "dial tcp 192.168.7.99:6443: connect: no route to host"),
    ({"server": "https://nowhere.lan:6443"}, "lookup nowhere.lan: no such host"),
    ({"flannel-backend": "host-gw"}, MISMATCH),
    ({"disable": ["servicelb"]}, MISMATCH),
    ({"node-name": "s1"}, "duplicate node name found, please use a unique name for this node"),
    ({"node-ip": "192.168.7.77"}, "bind: cannot assign requested address"),
    ({"node-label": ["node-role.kubernetes.io/worker=true"]}, "unknown 'kubernetes.io' or 'k8s.io' labels specified"),
    ({"node-taint": ["wrong"]}, "invalid taint spec: wrong"),
]


@pytest.mark.parametrize(("settings", "said"), REFUSALS, ids=[said[:30] for _, said in REFUSALS])
def test_a_server_is_refused(play: Play, settings: dict[str, Any], said: str) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        stage.configure("s2", **{"server": SEED, **settings})
        assert await start(stage, "s2") == 1
        line = next(text for text in stage.log("s2").splitlines() if "level=fatal" in text)
        assert said in line
        assert (await stage.run("s2", "systemctl is-active k3s")).out == b"activating\n"
        await stage.until(lambda: "restart counter is at 2" in stage.log("s2"))
        assert "s2" not in [node["metadata"]["name"] for node in stage.cluster.api.list("nodes")]

    play(act)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"token": "other"}, "401 Unauthorized"), ({"server": "https://192.168.7.12:6443"}, "connection refused"),
     ({"token": f"K10{'0' * 64}::node:{TOKEN}"}, "token CA hash does not match")],
)  # fmt: skip
def test_an_agent_asks_for_ever(play: Play, settings: dict[str, Any], said: str) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        stage.configure("a1", **{"server": SEED, **settings})
        waiting = asyncio.ensure_future(start(stage, "a1", "agent"))
        await stage.until(lambda: stage.log("a1").count(said) >= 2)
        assert not waiting.done()
        assert "level=fatal" not in stage.log("a1")
        stage.configure("a1", server=SEED)
        assert (await stage.run("a1", "systemctl restart k3s-agent")).status == 0
        assert await waiting == 1
        await stage.until(lambda: stage.is_ready("a1"))

    play(act)


def test_servers_join_one_at_a_time(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        for name in ("s2", "s3"):
            stage.configure(name, server=SEED)
        assert await asyncio.gather(start(stage, "s2"), start(stage, "s3")) == [0, 0]
        said = stage.log("s2") + stage.log("s3")
        assert "Waiting for other members to finish joining etcd cluster: etcdserver: too many learner members" in said
        await stage.until(lambda: stage.is_ready("s2") and stage.is_ready("s3"))
        assert stage.condition("s3", "EtcdIsVoter") == "True"

    play(act)


def test_nobody_joins_while_a_member_is_away(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.join("s2")
        await stage.join("s3")
        await stage.guest("s2").power_off(orderly=False)
        stage.configure("s4", server=SEED)
        waiting = asyncio.ensure_future(start(stage, "s4"))
        await stage.until_logged("s4", "etcdserver: unhealthy cluster")
        stage.cluster.api.delete("nodes", "s2")
        assert await waiting == 0
        assert set(stage.cluster.members.by_node) == {"s1", "s3", "s4"}

    play(act)


def test_a_rebuilt_agent_needs_its_old_node_gone(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.join("a1", "agent")
        await rebuild(stage, "a1", "agent")
        await stage.until_logged("a1", "Node password rejected, duplicate hostname")
        await stage.until(lambda: stage.condition("a1") == "Unknown")
        stage.cluster.api.delete("nodes", "a1")
        await stage.until(lambda: stage.is_ready("a1"))

    play(act)


def test_a_rebuilt_server_needs_its_old_member_gone(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.join("s2")
        await stage.join("s3")
        await rebuild(stage, "s3", "server")
        await stage.until_logged("s3", "duplicate node name found")
        stage.cluster.api.delete("nodes", "s3")
        await stage.until(lambda: stage.node("s3") is None)
        await stage.until(lambda: stage.is_ready("s3"))
        assert stage.cluster.members.by_node["s3"].up

    play(act)


async def rebuild(stage: Stage, name: str, role: str) -> None:
    """Delete a VM and make one of the same name; k3s on it is started."""
    old = stage.guest(name)
    settings = old.settings
    await old.power_off()
    stage.guests.delete(old.vmid)
    fresh = stage.guests.power_on(old.vmid, name, settings, at_once=True)
    await fresh.cloud_init.finished.wait()
    stage.configure(name, server=SEED)
    prepare(stage, name, role)
    fresh.spawn(fresh.execute(f"systemctl start {places.UNITS[role]}", user="root"))  # type: ignore[index]


@pytest.mark.parametrize("fault", ["k3s-wrong-token", "k3s-wrong-token:s2"])
def test_the_servers_may_believe_in_another_token(play: Play, fault: str) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        stage.configure("s2", server=SEED)
        assert await start(stage, "s2") == 1
        assert "401 Unauthorized" in stage.log("s2")
        stage.world.faults.clear("k3s-wrong-token")
        await stage.until(lambda: stage.is_ready("s2"))

    play(act, fault)


def test_a_clock_before_the_certificates_keeps_a_joiner_out(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        stage.configure("s2", server=SEED)
        assert await start(stage, "s2") == 1
        assert "x509: certificate has expired or is not yet valid" in stage.log("s2")

    play(act, "clock-off:s2:-3600")


def test_a_taken_port_and_leftovers_of_another_cluster(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        stage.configure("s2", server=SEED)
        stage.guest("s2").listening[6443] = "0.0.0.0"
        assert await start(stage, "s2") == 1
        assert "listen tcp :6443: bind: address already in use" in stage.log("s2")
        del stage.guest("s2").listening[6443]
        stage.guest("s2").files.put(places.TOKEN, "of-another-cluster")
        await stage.until_logged("s2", "bootstrap data already found and encrypted with different token")
        stage.guest("s2").files.remove(places.TOKEN)
        await stage.until(lambda: stage.is_ready("s2"))

    play(act)
