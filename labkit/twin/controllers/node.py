"""A living node: its Node object, its Lease, and the kubelet that acts for its pods."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.twin.kube.door import Api, ApiError, Clock, Object

from .framework import spawn
from .kubelet import Host, Kubelets
from .objects import is_true, meta, micro_stamp, spec_of, stamp, status_of, with_condition

LEASES, LEASE_NAMESPACE = "leases.coordination.k8s.io", "kube-node-lease"
RENEW_EVERY, RENEW_AT_LEAST, REPORT_EVERY, LEASE_SECONDS = 10.0, 20.0, 300.0, 40
RENEW_PAUSE, REPORT_PAUSE = 0.3, 10.0  # real seconds, so that many nodes at a fast scale stay cheap
ROLE = "node-role.kubernetes.io/"
HEALTHY = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


@dataclass
class LivingNode:
    """A node that lives between `start` and `stop`: registered, renewed, and acting for its pods.

    `labels`, `taints` and `annotations` count at the first registration only, as with k3s. `memory` and `disk`
    are bytes. `conditions` are further ones, such as EtcdIsVoter, as (type, status, reason, message).
    """

    kubelets: Kubelets
    name: str
    address: str
    version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    roles: Sequence[str] = ()
    conditions: Sequence[tuple[str, str, str, str]] = ()
    cpus: int = 4
    memory: int = 8 * 2**30
    disk: int = 64 * 2**30
    os_image: str = "Ubuntu 24.04.3 LTS"
    kernel: str = "6.8.0-79-generic"
    runtime: str = "containerd://2.0.5-k3s2"
    cluster_cidr: str = "10.42.0.0/16"
    finalizers: Sequence[str] = ()
    _task: asyncio.Task[None] | None = None

    @property
    def api(self) -> Api:
        """The API server that the node reports to."""
        return self.kubelets.api

    @property
    def clock(self) -> Clock:
        """The twin's time."""
        return self.kubelets.clock

    @property
    def is_running(self) -> bool:
        """Whether the node lives now."""
        return self._task is not None

    def start(self, *, rebooted: bool = True) -> None:
        """Register the node, or report it ready again, and go on living until `stop`.

        After a reboot the containers of its pods are started anew; otherwise they have run on meanwhile.
        """
        if self._task is None:
            node = self.register()
            self.kubelets.join(Host(self.name, self.address, str(spec_of(node)["podCIDR"]), rebooted))
            self._task = spawn(self._live(), f"node {self.name}")

    def stop(self) -> None:
        """Fall silent, as a node does that has lost its power: nothing is written any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self.kubelets.leave(self.name)

    def register(self) -> Object:
        """Create the Node object if there is none, and report its status and Lease now."""
        node = self.api.get("nodes", self.name)
        if node is None:
            node = self.api.create("nodes", self._body())
        elif not spec_of(node).get("podCIDR"):
            node = self.api.patch("nodes", self.name, {"spec": self._range()})
        self.renew()
        return self.report()

    def report(self) -> Object:
        """Write the node's status: addresses, capacity, conditions with their heartbeat."""
        node = self.api.get("nodes", self.name)
        if node is None:
            return self.register()
        now, old = stamp(self.clock.now()), status_of(node)
        found = old.get("conditions")
        for kind, state, reason, message in (*HEALTHY, *self.conditions):
            found = with_condition(found, kind, state, now, reason=reason, message=message, lastHeartbeatTime=now)
        status = {**old, **self._status(), "conditions": found}
        return self.api.update_status("nodes", {**node, "status": status})

    def renew(self) -> None:
        """Renew the node's Lease, making it when it is not there."""
        spec = {
            "holderIdentity": self.name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": micro_stamp(self.clock.now()),
        }
        try:
            self.api.patch(LEASES, self.name, {"spec": spec}, LEASE_NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            self.api.create(LEASES, self._lease(spec))

    async def _live(self) -> None:
        """Report regularly: every 10 twin seconds, or up to 20 at a fast scale (half of what is tolerated)."""
        reported = self.kubelets.time()
        pause = min(RENEW_AT_LEAST, max(RENEW_EVERY, RENEW_PAUSE / self.clock.scale))
        while True:
            await self.clock.sleep(pause)
            try:
                reported = self._beat(reported)
            except ApiError as error:
                self.kubelets.log.warning("node %s cannot report: %s", self.name, error)

    def _beat(self, reported: float) -> float:
        """Renew the Lease; report the status when it is time or the cluster thinks that the node is away.

        A Node object that was deleted does not come back before the next start, as with a real kubelet.
        """
        node, now = self.api.get("nodes", self.name), self.kubelets.time()
        if node is None:
            return reported
        self.renew()
        if is_true(node, "Ready") and now < reported + max(REPORT_EVERY, REPORT_PAUSE / self.clock.scale):
            return reported
        self.report()
        return now

    def _lease(self, spec: dict[str, Any]) -> Object:
        metadata: dict[str, Any] = {"name": self.name, "namespace": LEASE_NAMESPACE}
        node = self.api.get("nodes", self.name)
        if node is not None:
            ref = {"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": meta(node)["uid"]}
            metadata["ownerReferences"] = [ref]
        return {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec,
        }  # fmt: skip

    def _body(self) -> Object:
        metadata: dict[str, Any] = {
            "name": self.name, "labels": self._labels(), "annotations": self._annotations(),
        }  # fmt: skip
        if self.finalizers:
            metadata["finalizers"] = list(self.finalizers)
        spec: dict[str, Any] = {**self._range(), "providerID": f"k3s://{self.name}"}
        if self.taints:
            spec["taints"] = [dict(t) for t in self.taints]
        return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}

    def _labels(self) -> dict[str, str]:
        base = {
            "beta.kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/instance-type": "k3s",
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": "k3s",
        }
        return {**base, **{ROLE + r: "true" for r in self.roles}, **self.labels}

    def _annotations(self) -> dict[str, str]:
        base = {
            "alpha.kubernetes.io/provided-node-ip": self.address,
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/public-ip": self.address,
            "k3s.io/hostname": self.name,
            "k3s.io/internal-ip": self.address,
            "node.alpha.kubernetes.io/ttl": "0",
            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        }
        return {**base, **self.annotations}

    def _range(self) -> dict[str, Any]:
        """Return the lowest range for pods that no other node has."""
        taken = {spec_of(n).get("podCIDR") for n in self.api.list("nodes")}
        subnets = ipaddress.ip_network(self.cluster_cidr).subnets(new_prefix=24)
        cidr = next(str(s) for s in subnets if str(s) not in taken)
        return {"podCIDR": cidr, "podCIDRs": [cidr]}

    def _status(self) -> dict[str, Any]:
        amounts = {
            "cpu": str(self.cpus), "memory": f"{self.memory // 1024}Ki", "pods": "110",
            "ephemeral-storage": f"{self.disk // 1024}Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0",
        }  # fmt: skip
        usable = {**amounts, "ephemeral-storage": str(int(self.disk * 0.95))}
        addresses = [("InternalIP", self.address), ("Hostname", self.name)]
        return {
            "addresses": [{"type": t, "address": a} for t, a in addresses],
            "capacity": amounts,
            "allocatable": usable,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": self._info(),
        }

    def _info(self) -> dict[str, str]:
        machine = hashlib.sha256(self.name.encode()).hexdigest()
        return {
            "architecture": "amd64",
            "bootID": f"{machine[:8]}-{machine[8:12]}-{machine[12:16]}-{machine[16:20]}-{machine[20:32]}",
            "containerRuntimeVersion": self.runtime,
            "kernelVersion": self.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": self.version,
            "machineID": machine[32:],
            "operatingSystem": "linux",
            "osImage": self.os_image,
            "systemUUID": f"{machine[32:40]}-{machine[40:44]}-{machine[44:48]}-{machine[48:52]}-{machine[52:]}",
        }
