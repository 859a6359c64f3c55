"""A node of a cluster: the kubelet of one running k3s, which reports while the cluster can listen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from labkit.twin.controllers import LivingNode
from labkit.twin.guests import system
from labkit.twin.k3s.controllers import ETCD_FINALIZER, NODE_FINALIZER, admits
from labkit.twin.k3s.errors import Fatal
from labkit.twin.k3s.places import NODE_PASSWORD, RETRY

if TYPE_CHECKING:
    from labkit.twin.guests.guest import Guest
    from labkit.twin.k3s.cluster import Cluster
    from labkit.twin.k3s.service import Service
    from labkit.twin.k3s.settings import Settings

_NO_NETWORK = ("container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
               "message:Network plugin returns error: cni plugin not initialized")  # fmt: skip
_REJECTED = ("Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match "
             "server node-passwd entry, try enabling a unique node name with the --with-node-id flag")  # fmt: skip
_VOTES = ("EtcdIsVoter", "True", "MemberNotLearner", "Node is a voting member of the etcd cluster")
_LEARNS = ("EtcdIsVoter", "False", "MemberIsLearner", "Node has not been promoted to voting member of the etcd cluster")
_ALLOWED = frozenset({
    "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone", "kubernetes.io/arch",
    "kubernetes.io/hostname", "kubernetes.io/os", "node.kubernetes.io/instance-type", "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
})  # fmt: skip
_COMPLAINS_EVERY = 30.0
_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")


class Node:
    """One node while its k3s runs.

    `voter` is whether its etcd member votes, None where there is none; `fresh` whether its pods have to be started
    anew because the machine was off; `pause` is how long its network takes.
    """

    def __init__(
        self, cluster: Cluster, guest: Guest, living: LivingNode, *, voter: bool | None, fresh: bool, pause: float
    ) -> None:
        self.cluster = cluster
        self.living = living
        self.voter = voter
        self._guest = guest
        self._fresh = fresh
        self._pause = pause
        self._network = False
        self._ended = False

    @property
    def is_ready(self) -> bool:
        """Whether the node reports that it is Ready."""
        return self.living.is_running and not any(name == "Ready" for name, *_ in self.living.conditions)

    async def run(self, service: Service) -> None:
        """Register the node, let its network come up, and live until `end`."""
        name = self.living.name
        await be_admitted(self.cluster, self._guest, service, name)
        self.cluster.nodes[name] = self
        self.follow()
        await self._guest.world.clock.sleep(self._pause)
        self.update(network=True)
        while True:
            if self.living.is_running and not self.is_ready:
                service.log(f"Node is not ready: {_NO_NETWORK}", "error")
            await self._guest.world.clock.sleep(_COMPLAINS_EVERY)

    def follow(self) -> None:
        """Live while the cluster serves, fall silent while it does not."""
        if self._ended or not self.cluster.serves:
            self.living.stop()
        elif not self.living.is_running:
            self.living.conditions = self._conditions()
            self.living.start(rebooted=self._fresh)
            self._fresh = False

    def update(self, *, network: bool | None = None, voter: bool | None = None) -> None:
        """Report that the network has come up, or that the member votes, or what a fault says by now."""
        self._network = self._network if network is None else network
        self.voter = self.voter if voter is None else voter
        wanted = self._conditions()
        if wanted != self.living.conditions and self.living.is_running:
            self.living.conditions = wanted
            self.living.report()

    def end(self) -> None:
        """Fall silent for good."""
        self._ended = True
        self.living.stop()

    def _conditions(self) -> tuple[tuple[str, str, str, str], ...]:
        found: list[tuple[str, str, str, str]] = []
        if not self._network or self._guest.world.faults.has("node-not-ready", self._guest.name):
            found.append(("Ready", "False", "KubeletNotReady", _NO_NETWORK))
        if self.voter is not None:
            found.append(_VOTES if self.voter else _LEARNS)
        return tuple(found)


async def be_admitted(cluster: Cluster, guest: Guest, service: Service, name: str) -> None:
    """Show the node's password until the cluster takes it; make one when there is none."""
    if not guest.files.exists(NODE_PASSWORD):
        password = guest.world.seed.hex("node-password", guest.vmid, guest.name, guest.host_key_seed.hex())
        guest.files.put(NODE_PASSWORD, password + "\n", mode=0o600)
    while True:
        if cluster.serves:
            password = guest.files.read(NODE_PASSWORD).decode().strip()
            if admits(cluster.api, name, password):
                return
            service.log(_REJECTED, "error")
        await guest.world.clock.sleep(RETRY)


def make_living(
    cluster: Cluster, guest: Guest, settings: Settings, *, version: str, roles: tuple[str, ...]
) -> LivingNode:
    """Return the living node of a guest; raise Fatal when its settings are none that a kubelet takes."""
    name = node_name(guest, settings)
    labels = dict(_pair(text) for text in settings.all("node-label"))
    _check_labels(labels)
    annotations = {}
    if "etcd" in roles:
        member = guest.world.seed.hex("etcd-name", name, length=8)
        annotations = {"etcd.k3s.cattle.io/node-name": f"{name}-{member}",
                       "etcd.k3s.cattle.io/node-address": node_address(guest, settings)}  # fmt: skip
    return LivingNode(
        kubelets=cluster.kubelets, name=name, address=node_address(guest, settings), version=version, labels=labels,
        annotations=annotations, taints=[_taint(text) for text in settings.all("node-taint")], roles=roles,
        cpus=guest.cores, memory=guest.memory * 2**20, disk=guest.disk * 2**20, kernel=system.KERNEL,
        cluster_cidr=cluster.cluster_cidr,
        finalizers=(NODE_FINALIZER, ETCD_FINALIZER) if "etcd" in roles else (NODE_FINALIZER,),
    )  # fmt: skip


def node_name(guest: Guest, settings: Settings) -> str:
    """Return the name that a guest's node has."""
    return settings.one("node-name", guest.hostname).lower()


def node_address(guest: Guest, settings: Settings) -> str:
    """Return the address that a guest's node has."""
    return next(iter(settings.all("node-ip")), guest.address)


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _check_labels(labels: dict[str, str]) -> None:
    bad = [key for key in labels if not _may_set(key)]
    if bad:
        raise Fatal(
            f"kubelet exited: failed to validate kubelet flags: unknown 'kubernetes.io' or 'k8s.io' labels specified "
            f"with --node-labels: [{' '.join(sorted(bad))}]"
        )


def _may_set(key: str) -> bool:
    domain = key.partition("/")[0] if "/" in key else ""
    if not re.search(r"(^|\.)(kubernetes|k8s)\.io$", domain) or key in _ALLOWED:
        return True
    return any(domain == prefix or domain.endswith(f".{prefix}") for prefix in _PREFIXES)


def _taint(text: str) -> dict[str, str]:
    head, _, effect = text.rpartition(":")
    key, value = _pair(head)
    if effect not in {"NoSchedule", "PreferNoSchedule", "NoExecute"} or not key:
        raise Fatal(f"kubelet exited: invalid taint spec: {text}")
    return {"key": key, "value": value, "effect": effect}
