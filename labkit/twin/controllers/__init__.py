"""Small loops that do to objects what the controllers of a real cluster do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from labkit.twin.kube.door import Api, Clock

from .account import Accounts
from .addons import install, k3s_addons
from .behaviour import Behaviour, Behaviours
from .budget import Budgets
from .cronjob import CronJobs
from .daemonset import DaemonSets
from .deployment import Deployments
from .endpoints import EndpointSlices
from .framework import Controller, Key, Result, launch, spawn
from .garbage import GarbageCollector
from .job import Jobs
from .kubelet import Kubelets
from .loadbalancer import AddressPool, Balancer, LoadBalancers, NodeAddresses
from .namespace import NamespaceEnd
from .node import LivingNode
from .nodelifecycle import NodeLife, PodCollector, TaintEviction
from .protection import Protection
from .provision import LocalPath, Provisioner, Provisioning, Request
from .replicaset import ReplicaSets
from .scheduler import Scheduler
from .statefulset import StatefulSets
from .volume_binding import VolumeBinder

__all__ = [
    "AddressPool",
    "Balancer",
    "Behaviour",
    "Behaviours",
    "Controller",
    "Key",
    "Kubelets",
    "LivingNode",
    "LocalPath",
    "NodeAddresses",
    "Provisioner",
    "Request",
    "Result",
    "install",
    "k3s_addons",
    "launch",
    "spawn",
    "start",
]

MANAGER = (
    Accounts,
    NamespaceEnd,
    GarbageCollector,
    NodeLife,
    TaintEviction,
    PodCollector,
    Deployments,
    ReplicaSets,
    StatefulSets,
    DaemonSets,
    Jobs,
    CronJobs,
    Budgets,
    VolumeBinder,
    Protection,
    EndpointSlices,
)


def start(
    api: Api,
    clock: Clock,
    *,
    scheduler: bool = False,
    kubelets: Kubelets | None = None,
    balancer: Balancer | None = None,
    provisioners: Mapping[str, Provisioner] | None = None,
    ca: str = "",
    more: Sequence[Controller] = (),
) -> list[asyncio.Task[None]]:
    """Start the controllers as tasks on the running loop; cancel the tasks to end them.

    Without further arguments these are those of the controller manager alone: pods are made, but never get a node.

    Args:
        api: the door of the API server.
        clock: the twin's time.
        scheduler: whether pods are bound to nodes.
        kubelets: the kubelets that `LivingNode`s join; without them pods that are bound stay as they are.
        balancer: gives addresses to Services of type LoadBalancer; without one they stay pending.
        provisioners: make volumes, by the name of the provisioner in the StorageClass.
        ca: the cluster's CA in PEM, published as kube-root-ca.crt.
        more: further controllers that share the watch.
    """
    controllers: list[Controller] = [kind(api, clock, ca) if kind is Accounts else kind(api, clock) for kind in MANAGER]
    if scheduler:
        controllers.append(Scheduler(api, clock))
    if kubelets is not None:
        controllers.append(kubelets)
    if balancer is not None:
        controllers.append(LoadBalancers(api, clock, balancer))
    if provisioners:
        controllers.append(Provisioning(api, clock, provisioners))
    return launch(api, [*controllers, *more])
