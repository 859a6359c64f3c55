"""Health checks of the control plane and the nodes: ready, voting, spread over hosts, where they say they are. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.words import listed, span
from labkit.facts.guesthealth import GuestHealthFacts
from labkit.facts.kubehealth import KubeHealth, NodeHealth
from labkit.facts.pvehealth import PveHealth
from labkit.plan import Severity
from labkit.rules.quorum import hosts_that_take_quorum, nearest_layout, quorum

READS = ("kubernetes",)
VIRTUAL = "virtual address"
_MOST_BEHIND = 3
_PRESSURES = {
    "MemoryPressure": "it is short of memory: `kubectl top pods -A --sort-by=memory`",
    "DiskPressure": "its disk is nearly full: `sudo k3s crictl rmi --prune` on it",
    "PIDPressure": "it runs too many processes: `ps -eLf | wc -l` on it",
    "NetworkUnavailable": "its network plugin is not up: `journalctl -u k3s -u k3s-agent -e` on it",
}


def seen(scene: Scene) -> KubeHealth:
    """Return the facts of the cluster."""
    facts: KubeHealth = scene["kubernetes"]
    return facts


def proxmox(scene: Scene) -> PveHealth | None:
    """Return the facts of Proxmox when there are any."""
    facts = scene.facts.get("proxmox-health")
    return facts if isinstance(facts, PveHealth) else None


def host_of(scene: Scene, name: str) -> str:
    """Return the host that a node's VM is on, as Proxmox says; else as its zone or the lab file say."""
    pve, node = proxmox(scene), seen(scene).node(name)
    vm = pve.vm(name) if pve is not None else None
    if vm is not None:
        return vm.node
    wanted = scene.lab.vms.get(name)
    return (node.zone if node is not None else "") or (wanted.host if wanted is not None else "")


@health("kubernetes.api", Area.KUBERNETES, "every part of the API is well", Severity.ERROR, reads=READS)
def api(scene: Scene) -> Iterator[Found]:
    """Find parts of the API server that report trouble."""
    if failed := seen(scene).unhealthy:
        remedy = "`journalctl -u k3s -e` on the servers"
        yield Found("Kubernetes API", "every part of /readyz ok", listed(failed), remedy)


@health("kubernetes.servers", Area.KUBERNETES, "the API answers on every server", Severity.ERROR, reads=READS)
def servers(scene: Scene) -> Iterator[Found]:
    """Find servers that are ready as nodes and whose API does not answer, and a virtual address that leads nowhere."""
    facts = seen(scene)
    answering = {one.server for one in facts.serving}
    for server in scene.lab.servers:
        node = facts.node(server.name)
        if node is not None and node.ready and server.name not in answering:
            yield Found(f"server {server.name}", f"the API at {server.address}:6443", "no answer",
                        f"`journalctl -u k3s -e` on {server.name}; is port 6443 open?")  # fmt: skip
    if scene.lab.network.vip is not None and VIRTUAL not in answering:
        yield Found(VIRTUAL, f"the API at {scene.lab.network.vip}:6443", "no answer",
                    "`kubectl -n kube-system get pods | grep kube-vip`; or run bootstrap-k3s")  # fmt: skip


@health("kubernetes.readable", Area.KUBERNETES, "every part of the cluster can be read", Severity.INFO, reads=READS)
def readable(scene: Scene) -> Iterator[Found]:
    """Find parts that the credentials do not show: their checks have seen nothing."""
    unread = seen(scene).unread
    if unread:
        first = next(iter(unread.values()))
        yield Found("Kubernetes API", "every part readable", f"{listed(unread)} not: {first}",
                    "give the reading account that right, or leave it: these checks are left out")  # fmt: skip


@health("kubernetes.node-missing", Area.KUBERNETES, "every VM of the lab is a node", Severity.ERROR, reads=READS)
def node_missing(scene: Scene) -> Iterator[Found]:
    """Find machines that are no members of the cluster, or in the other role."""
    for machine in scene.lab.machines:
        node = seen(scene).node(machine.name)
        if node is None:
            yield Found(f"node {machine.name}", f"a {machine.role} of the cluster", "no such node", "run bootstrap-k3s")
        elif node.server != (machine.role == "server"):
            yield Found(f"node {machine.name}", f"the role {machine.role}", "server" if node.server else "agent",
                        "run bootstrap-k3s with `destroy` naming it, then again: it joins anew")  # fmt: skip


@health("kubernetes.node-unknown", Area.KUBERNETES, "every node is a VM of the lab", Severity.WARNING, reads=READS)
def node_unknown(scene: Scene) -> Iterator[Found]:
    """Find nodes that are not the lab's: left over from a former VM, or somebody's."""
    for node in seen(scene).nodes:
        if node.name not in scene.lab.vms:
            state = "ready" if node.ready else "not ready"
            yield Found(f"node {node.name}", "a VM of the lab file", f"a node that is {state} and not in it",
                        f"add it to the lab file, or run bootstrap-k3s with destroy={node.name}",
                        Severity.INFO if node.ready else None)  # fmt: skip


@health("kubernetes.node-ready", Area.KUBERNETES, "every node is ready", Severity.ERROR, reads=READS)
def node_ready(scene: Scene) -> Iterator[Found]:
    """Find nodes that are not ready, with the reason that lies deepest."""
    pve = proxmox(scene)
    for node in seen(scene).nodes:
        if node.ready or node.name not in scene.lab.vms:
            continue
        since = f" for {span(scene.now - node.since)}" if node.since else ""
        off = pve is not None and not pve.is_up(node.name)
        got = "its VM does not run" if off else (node.problem.rstrip(".") or "not ready")
        remedy = (
            "see what Proxmox says of its VM"
            if off
            else f"`journalctl -u k3s -u k3s-agent -e` on {node.name}, or run bootstrap-k3s"
        )
        yield Found(f"node {node.name}", "ready", f"{got}{since}", remedy)


@health("kubernetes.node-pressure", Area.KUBERNETES, "no node is short of anything", Severity.WARNING, reads=READS)
def node_pressure(scene: Scene) -> Iterator[Found]:
    """Find nodes that evict pods, or are about to."""
    for node in seen(scene).nodes:
        if node.ready and node.pressures:
            yield Found(f"node {node.name}", "no pressure", listed(node.pressures), _PRESSURES[node.pressures[0]])


@health("kubernetes.cordoned", Area.KUBERNETES, "every node takes pods", Severity.WARNING, reads=READS)
def cordoned(scene: Scene) -> Iterator[Found]:
    """Find nodes that a runbook or a person took out and nobody gave back."""
    for node in seen(scene).nodes:
        if node.ready and not node.schedulable:
            who = node.cordoned_by
            yield Found(f"node {node.name}", "a node that takes pods", f"cordoned by {who or 'a person'}",
                        f"run {who} again: it finishes" if who else f"`kubectl uncordon {node.name}`")  # fmt: skip


@health("kubernetes.etcd-voter", Area.KUBERNETES, "every server's etcd member votes", Severity.ERROR, reads=READS)
def etcd_voter(scene: Scene) -> Iterator[Found]:
    """Find servers that are no full members of etcd; a cluster with another database has none."""
    nodes = [node for node in seen(scene).nodes if node.server]
    if all(node.voter is None for node in nodes):
        return
    for node in nodes:
        if node.ready and not node.voter:
            got = "no member" if node.voter is None else "one that only learns"
            yield Found(f"node {node.name}", "an etcd member that votes", got,
                        f"`journalctl -u k3s -e` on {node.name}, then run bootstrap-k3s")  # fmt: skip


@health("kubernetes.etcd-spare", Area.KUBERNETES, "etcd can lose one more member", Severity.ERROR, reads=READS)
def etcd_spare(scene: Scene) -> Iterator[Found]:
    """Find an etcd that stops with the next server: no node work now."""
    voters = seen(scene).voters
    alive = [node for node in voters if node.ready]
    need = quorum(len(voters))
    if len(voters) >= 3 and len(alive) - 1 < need:
        missing = listed(node.name for node in voters if not node.ready)
        yield Found("etcd", f"more than the {need} members up that it needs", f"{len(alive)}, without {missing}",
                    "bring these servers back before anything else; no upgrade or maintenance until then")  # fmt: skip


@health("kubernetes.quorum", Area.KUBERNETES, "etcd survives the loss of any one Proxmox host", Severity.WARNING,
        reads=READS)  # fmt: skip
def quorum_by_host(scene: Scene) -> Iterator[Found]:
    """Find hosts whose loss takes the quorum, by where the VMs are now: the illusion of quorum."""
    names: dict[str, list[str]] = {host: [] for host in scene.lab.hosts}
    for node in seen(scene).voters:
        names.setdefault(host_of(scene, node.name) or "an unknown host", []).append(node.name)
    held = {host: len(members) for host, members in names.items()}
    total = sum(held.values())
    if total < 2 or len(scene.lab.hosts) < 2:
        return  # one host or one server: nobody expects it to survive that
    for host in hosts_that_take_quorum(held):
        yield Found(f"host {host}", f"{quorum(total)} of {total} etcd members left without it",
                    f"{total - held[host]}: {listed(names[host])} would be lost with it", _layout(names))  # fmt: skip


def _layout(names: Mapping[str, list[str]]) -> str:
    layout = nearest_layout({host: tuple(members) for host, members in names.items()})
    if layout is None:
        return "a third failure domain is needed: a small machine with one server, in the lab file"
    return f"the nearest layout without such a host: {layout}; change the lab file, run provision-vms and bootstrap-k3s"


@health("kubernetes.zone", Area.KUBERNETES, "every node's zone is the host that its VM is on", Severity.WARNING,
        reads=("kubernetes", "proxmox-health"))  # fmt: skip
def zone(scene: Scene) -> Iterator[Found]:
    """Find zone labels that lie: Longhorn puts both replicas of a volume onto one host by them."""
    pve: PveHealth = scene["proxmox-health"]
    for node in seen(scene).nodes:
        vm = pve.vm(node.name)
        if vm is not None and node.name in scene.lab.vms and node.zone != vm.node:
            yield Found(f"node {node.name}", f"the zone {vm.node}, where its VM is", node.zone or "no zone",
                        "run bootstrap-k3s, after the VM is back or its host changed in the lab file")  # fmt: skip


@health("kubernetes.version", Area.KUBERNETES, "every node runs the k3s that it should", Severity.WARNING, reads=READS)
def version(scene: Scene) -> Iterator[Found]:
    """Find nodes that run another version than is installed on them, or one that does not fit the servers'."""
    facts, guests = seen(scene), scene.facts.get("guest-health")
    told = [_minor(node) for node in facts.nodes if node.server and node.version]
    for node in facts.nodes:
        if not node.version or node.name not in scene.lab.vms:
            continue
        installed = guests.guest(node.name).k3s_version if isinstance(guests, GuestHealthFacts) else ""
        ahead = not node.server and bool(told) and _minor(node) > min(told)
        if ahead or (told and _minor(node) < max(told) - _MOST_BEHIND):
            expected = "no newer version than the servers have, and none that is four minor versions older"
            yield Found(f"node {node.name}", expected, node.version, "run upgrade-k3s", Severity.ERROR)
        elif installed and installed != node.version:
            yield Found(f"node {node.name}", f"k3s {installed}, which is installed", f"{node.version} still runs",
                        f"`sudo systemctl restart {'k3s' if node.server else 'k3s-agent'}` on {node.name}")  # fmt: skip
        elif not installed and node.version != scene.lab.k3s.version:
            yield Found(f"node {node.name}", f"k3s {scene.lab.k3s.version}", node.version, "run upgrade-k3s")


def _minor(node: NodeHealth) -> int:
    words = node.version.lstrip("v").split(".")
    return int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0
