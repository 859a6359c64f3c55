"""The seed's lab with its cluster as it should be, and ways to change what was seen."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from labkit.facts.guests import Guest, GuestFacts, TokenState
from labkit.facts.k3s import K3sFacts, KubeconfigSeen
from labkit.facts.kubernetes import NodeRow, PodRow
from labkit.facts.proxmox import ProxmoxFacts
from labkit.lab import Lab, Machine, load_lab
from labkit.lab.k3sconfig import api_url, node_labels, wanted_config

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 8, 10, 20, 0, tzinfo=UTC)
CA = "0123456789abcdef"
VERSION = "v1.33.4+k3s1"


class Seen:
    """Facts that can be changed: `seen.guest("k3s-worker-01", version="")`, `seen.node(...)`, `seen.cluster(...)`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.guests = {machine.name: new_guest(machine) for machine in lab.machines}
        self.nodes: dict[str, NodeRow] = {}
        self.other: dict[str, Any] = {"up": False}
        self.guest_facts: dict[str, Any] = {}
        self.proxmox = ProxmoxFacts.model_validate_json((ROOT / "tests/data/proxmox/nine.json").read_text())

    def built(self) -> Seen:
        """The whole lab is one healthy cluster, founded by its first server."""
        first = self.lab.servers[0]
        for machine in self.lab.machines:
            join = None if machine == first else api_url(first.address)
            self.guests[machine.name] = member_guest(self.lab, machine, join)
            self.nodes[machine.name] = new_node(machine)
        dns = PodRow(namespace="kube-system", name="coredns-5dd-x", node="k3s-worker-01", status="Running",
                     ready="1/1", owner="ReplicaSet")  # fmt: skip
        self.other = {"up": True, "server": first.name, "ca": CA, "pods": (dns,),
                      "kubeconfig": KubeconfigSeen(state="current")}  # fmt: skip
        return self

    def guest(self, name: str, **changes: Any) -> Seen:
        self.guests[name] = self.guests[name].model_copy(update=changes)
        return self

    def renew(self, name: str) -> Seen:
        """The machine was made anew."""
        machine = next(machine for machine in self.lab.machines if machine.name == name)
        self.guests[name] = new_guest(machine)
        return self

    def away(self, *names: str) -> Seen:
        for name in names:
            self.guests[name] = Guest(name=name, address=self.guests[name].address, problem="no route to host")
        return self

    def node(self, name: str, **changes: Any) -> Seen:
        self.nodes[name] = self.nodes[name].model_copy(update=changes)
        return self

    def without(self, *names: str) -> Seen:
        for name in names:
            del self.nodes[name]
        return self

    def extra(self, node: NodeRow) -> Seen:
        self.nodes[node.name] = node
        return self

    def cluster(self, **changes: Any) -> Seen:
        self.other |= changes
        return self

    def down(self) -> Seen:
        """No API answers."""
        self.other, self.nodes = {"up": False, "problem": "no answer"}, {}
        return self

    def facts(self) -> dict[str, Any]:
        return {
            "guests": GuestFacts(guests=tuple(self.guests.values()), read_at=NOW, **self.guest_facts),
            "k3s": K3sFacts(nodes=tuple(self.nodes.values()), read_at=NOW, **self.other),
            "proxmox": self.proxmox,
        }


def new_guest(machine: Machine) -> Guest:
    return Guest(
        name=machine.name, address=str(machine.address), reachable=True, host_key="ok", arch="x86_64",
        clock_offset=0.01, memory=machine.memory * 1024**2 * 97 // 100, disk_free=10 * 1024**3,
        modules=("iscsi_tcp",), packages={"open-iscsi": "2.1", "nfs-common": "2.6"}, ports=(22,),
        addresses=(str(machine.address),), units={"k3s": "inactive", "k3s-agent": "inactive"},
    )  # fmt: skip


def member_guest(lab: Lab, machine: Machine, join: str | None) -> Guest:
    server = machine.role == "server"
    units = {"k3s": "active" if server else "inactive", "k3s-agent": "inactive" if server else "active"}
    return new_guest(machine).model_copy(
        update={
            "units": units, "version": VERSION, "config": wanted_config(lab, machine, join),
            "config_token": TokenState.SAME, "server_db": server, "cluster_ca": CA,
            "server_token": TokenState.SAME if server else TokenState.NONE, "ports": (22, 6443, 10250),
        }
    )  # fmt: skip


def new_node(machine: Machine, version: str = VERSION) -> NodeRow:
    server = machine.role == "server"
    return NodeRow(name=machine.name, ready=True, version=version, server=server, voter=True if server else None,
                   address=str(machine.address), labels=node_labels(machine), taints=machine.taints)  # fmt: skip


@pytest.fixture(scope="session")
def lab() -> Lab:
    return load_lab(ROOT / "parameters/lab.yaml")


@pytest.fixture
def seen(lab: Lab) -> Seen:
    """The lab's machines, new."""
    return Seen(lab)


@pytest.fixture
def built(lab: Lab) -> Seen:
    """The lab's machines as one healthy cluster."""
    return Seen(lab).built()
