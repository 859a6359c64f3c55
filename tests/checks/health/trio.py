"""A lab of three hosts that is well in every respect, as facts; tests change one thing and look what is found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from labkit.checks.health import Area, Scene, all_checks
from labkit.facts.guesthealth import FileSystem, GuestHealth, GuestHealthFacts, NodeCertificate, UnitState
from labkit.facts.kubehealth import (
    KubeHealth,
    NodeHealth,
    PodHealth,
    ServiceRow,
    ServingCertificate,
    SnapshotRow,
    Workload,
)
from labkit.facts.proxmox import VmRow
from labkit.facts.pvehealth import HostCertificate, HostDisk, HostHealth, PveHealth, StorageHealth
from labkit.lab import Lab, Machine
from labkit.lab.loader import load_lab

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
LAB = load_lab(Path(__file__).parents[2] / "data" / "e2e" / "k3s" / "lab.yaml")
AREAS = (Area.PROXMOX, Area.GUESTS, Area.KUBERNETES)
GIB = 1024**3
DAY = timedelta(days=1)
OLD = NOW - 30 * DAY
Row = tuple[str, str, str]


def found(lab: Lab = LAB, **facts: Any) -> list[Row]:
    """Return what the checks of all three areas find: id, severity, subject; facts that are not given are well."""
    given = {"proxmox-health": pve(), "guest-health": guests(), "kubernetes": kube()}
    given |= {name.replace("_", "-"): value for name, value in facts.items()}
    return [(f.id, str(f.severity), f.subject) for f in findings(lab, given)]


def findings(lab: Lab, facts: Mapping[str, Any]) -> list[Any]:
    """Return the findings of all checks of the three areas."""
    scene = Scene(lab, facts, NOW)
    checks = [check for check in all_checks() if check.area in AREAS and not check.missing(scene)]
    return [one for check in checks for one in check(scene)]


def got(check: str, lab: Lab = LAB, **facts: Any) -> list[str]:
    """Return what one check says of what it got."""
    given = {"proxmox-health": pve(), "guest-health": guests(), "kubernetes": kube()}
    given |= {name.replace("_", "-"): value for name, value in facts.items()}
    return [one.got for one in findings(lab, given) if one.id == check]


def limits(area: str, **values: int) -> Lab:
    """Return the lab with other limits."""
    mine = getattr(LAB.health.limits, area).model_copy(update=values)
    changed = LAB.health.limits.model_copy(update={area: mine})
    return LAB.model_copy(update={"health": LAB.health.model_copy(update={"limits": changed})})


def changed(rows: tuple[Any, ...], name: str, **values: Any) -> tuple[Any, ...]:
    """Return rows with other values in those of a name."""
    assert any(row.name == name for row in rows)
    return tuple(row.model_copy(update=values) if row.name == name else row for row in rows)


def update(facts: BaseModel, **values: Any) -> Any:
    """Return facts with other values."""
    return facts.model_copy(update=values)


def pve(**values: Any) -> PveHealth:
    """Return a Proxmox cluster that is well."""
    hosts = tuple(HostHealth(
        name=name, online=True, ip=f"10.8.0.{n}", maxcpu=8, maxmem=16 * GIB, mem=6 * GIB, uptime=864000,
        version="9.1.1", kernel="6.17.2-1-pve", root_total=94 * GIB, root_used=10 * GIB,
        certificates=(HostCertificate(file="pve-root-ca.pem", expires=NOW + 3000 * DAY),
                      HostCertificate(file="pve-ssl.pem", expires=NOW + 500 * DAY)),
        disks=(HostDisk(device="/dev/sda", model="DISK", serial="S1", health="PASSED", wear=5),),
    ) for n, name in enumerate(LAB.hosts, 2))  # fmt: skip
    storages = tuple(StorageHealth(node=host, name=name, type=kind, content=content, total=100 * GIB, used=40 * GIB)
                     for host in LAB.hosts
                     for name, kind, content in (("local", "dir", ("backup", "iso")),
                                                 ("local-lvm", "lvmthin", ("images",))))  # fmt: skip
    templates = tuple(VmRow(vmid=9000 + n, name=f"ubuntu-template-{host}", node=host, template=True, status="stopped")
                      for n, host in enumerate(LAB.hosts))  # fmt: skip
    vms = tuple(_vm(100 + n, machine) for n, machine in enumerate(LAB.machines))
    facts = PveHealth(version="9.1.1", hosts=hosts, storages=storages, vms=vms + templates, backup_jobs=0, read_at=NOW)
    return facts.model_copy(update=values)


def _vm(vmid: int, machine: Machine) -> VmRow:
    return VmRow(vmid=vmid, name=machine.name, node=machine.host, status="running", maxcpu=machine.cores,
                 maxmem=machine.memory * 1024**2, maxdisk=machine.disk * 1024**2)  # fmt: skip


def guests(**values: dict[str, Any]) -> GuestHealthFacts:
    """Return guests that are well; values by the name of a guest change it."""
    return GuestHealthFacts(guests=tuple(_guest(m, **values.get(m.name, {})) for m in LAB.machines), read_at=NOW)


def _guest(machine: Machine, **values: Any) -> GuestHealth:
    mine, other = ("k3s", "k3s-agent") if machine.role == "server" else ("k3s-agent", "k3s")
    units = {mine: "active", other: "inactive", "qemu-guest-agent": "active"}
    one = GuestHealth(
        name=machine.name, address=str(machine.address), reachable=True, host_key="ok", clock_offset=0.01,
        clock_error=0.02, synchronized=True, kernel="6.8.0-87-generic", uptime=864000, memory=4 * GIB,
        memory_free=2 * GIB, k3s_version=LAB.k3s.version,
        file_systems=(FileSystem(target="/", total=100, used=30, free=70, inodes=100, inodes_used=5),),
        units={name: UnitState(state=state) for name, state in units.items()},
        certificates=(NodeCertificate(file="agent/client-kubelet.crt", expires=NOW + 300 * DAY),
                      NodeCertificate(file="agent/serving-kubelet.crt", expires=NOW + 300 * DAY)),
    )  # fmt: skip
    return one.model_copy(update=values)


def node(machine: Machine, **values: Any) -> NodeHealth:
    """Return a node that is well."""
    server = machine.role == "server"
    one = NodeHealth(name=machine.name, ready=True, version=LAB.k3s.version, server=server,
                     voter=True if server else None, address=str(machine.address), since=OLD,
                     labels={"topology.kubernetes.io/zone": machine.host})  # fmt: skip
    return one.model_copy(update=values)


def pod(name: str = "web-1", **values: Any) -> PodHealth:
    """Return a pod of the Deployment default/web that runs."""
    one = PodHealth(namespace="default", name=name, node="four", status="Running", ready=1, total=1, created=OLD,
                    owner="Deployment default/web")  # fmt: skip
    return one.model_copy(update=values)


def web(**values: Any) -> Workload:
    """Return the Deployment default/web."""
    one = Workload(
        kind="Deployment", namespace="default", name="web", wanted=1, ready=1, created=OLD, images=("web:1",)
    )
    return one.model_copy(update=values)


def kube(**values: Any) -> KubeHealth:
    """Return a cluster that is well: two replicas of DNS and ingress on two hosts, and one app."""
    pillars = []
    for kind, namespace, name in (("Deployment", "kube-system", "coredns"), ("Deployment", "traefik", "traefik")):
        owner = f"{kind} {namespace}/{name}"
        pillars += [PodHealth(namespace=namespace, name=f"{name}-{n}", node=where, status="Running", ready=1, total=1,
                              created=OLD, owner=owner) for n, where in enumerate(("four", "five"))]  # fmt: skip
    services = (
        ServiceRow(namespace="kube-system", name="kube-dns", backends=("four", "five"), created=OLD,
                   owners=("Deployment kube-system/coredns",)),
        ServiceRow(namespace="traefik", name="traefik", kind="LoadBalancer", addresses=(str(LAB.ingress),),
                   backends=("four", "five"), owners=("Deployment traefik/traefik",), created=OLD),
    )  # fmt: skip
    facts = KubeHealth(
        server="10.8.0.11", created=OLD, nodes=tuple(node(machine) for machine in LAB.machines),
        pods=(*pillars, pod()), services=services,
        workloads=(Workload(kind="Deployment", namespace="kube-system", name="coredns", wanted=2, ready=2, created=OLD),
                   Workload(kind="Deployment", namespace="traefik", name="traefik", wanted=2, ready=2, created=OLD),
                   web()),
        snapshots=tuple(SnapshotRow(name=f"etcd-{server.name}", node=server.name, location="file:///x", opens="same",
                                    created=NOW - 30 * timedelta(minutes=1)) for server in LAB.servers),
        serving=tuple(ServingCertificate(server=server.name, expires=NOW + 300 * DAY) for server in LAB.servers),
        kubeconfig=True, kubeconfig_expires=NOW + 300 * DAY, read_at=NOW,
    )  # fmt: skip
    return facts.model_copy(update=values)
