from __future__ import annotations

import pytest

from labkit.facts.proxmox import VmConfig
from labkit.systems.proxmox.agent import parse_addresses
from labkit.systems.proxmox.errors import ProxmoxError, Trouble, classify, explain
from labkit.systems.proxmox.rows import (
    is_quorate,
    parse_nodes,
    parse_pending,
    parse_resources,
    parse_storage,
    parse_vm,
)

REASONS = [
    ("can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout", 500, Trouble.BUSY),
    ("cfs-lock 'storage-local-lvm' error: got lock request timeout", 500, Trouble.BUSY),
    ("VM is locked (backup)", 500, Trouble.LOCKED),
    ("got no worker upid - start worker failed", 500, Trouble.UNKNOWN),
    ("starting worker failed: unable to fork", 500, Trouble.UNKNOWN),
    ("unexpected status", 0, Trouble.UNKNOWN),
    ("", 596, Trouble.UNKNOWN),
    ("something odd", 599, Trouble.UNKNOWN),
    ("unable to create VM 101: config file already exists", 500, Trouble.TAKEN),
    ("newid: VM 101 already exists", 400, Trouble.TAKEN),
    ("unable to find configuration file for VM 101 on node 'hades'", 500, Trouble.GONE),
    ("Configuration file 'nodes/hades/qemu-server/101.conf' does not exist", 500, Trouble.GONE),
    ("No route to host", 595, Trouble.AWAY),
    ("hostname lookup 'venus' failed - failed to get address info", 500, Trouble.AWAY),
    ("cluster not ready - no quorum?", 500, Trouble.QUORUM),
    ("clone failed: copy failed: No space left on device", 0, Trouble.FULL),
    ("Permission check failed (/vms/100, VM.Clone)", 403, Trouble.DENIED),
    ("no such token", 401, Trouble.LOGIN),
    ("QEMU guest agent is not running", 500, Trouble.SILENT),
    ("No QEMU guest agent configured", 500, Trouble.SILENT),
    ("VM quit/powerdown failed - got timeout", 0, Trouble.OTHER),
    ("Method 'POST /x' not implemented", 501, Trouble.OTHER),
]


@pytest.mark.parametrize(("reason", "status", "trouble"), REASONS)
def test_what_an_answer_means(reason: str, status: int, trouble: Trouble) -> None:
    assert classify(reason, status) is trouble
    assert ProxmoxError("starting", reason, status=status).next_step


def test_an_error_for_people() -> None:
    error = explain(ProxmoxError("POST x", "VM is locked (backup)", status=500), "VM m1: starting it")
    assert str(error).startswith("VM m1: starting it: expected it done, got: VM is locked (backup)")
    assert "next:" in str(error)
    assert ProxmoxError("x", "VM is locked (backup)").lock == "backup"


def test_resources() -> None:
    rows = parse_resources([
        {"type": "qemu", "vmid": 100, "node": "hades", "name": "a", "status": "running", "template": 0,
         "tags": "labkit;k3s", "maxmem": 4294967296, "hastate": "started", "lock": "backup"},
        {"type": "lxc", "vmid": "101", "node": "hades", "status": "unknown"},
        {"type": "node", "node": "hades", "maxcpu": 8},
        {"type": "storage", "node": "hades", "storage": "local"},
        {"type": "sdn", "sdn": "localnetwork"},
    ])  # fmt: skip
    vm, container = (parse_vm(row) for row in rows["vm"])
    assert (vm.kind, vm.tags, vm.ha, vm.lock) == ("qemu", ("k3s", "labkit"), "started", "backup")
    assert (container.kind, container.name, container.status, container.vmid) == ("lxc", "", "unknown", 101)
    assert len(rows["node"]) == 1


def test_nodes_and_quorum() -> None:
    status = [
        {"type": "cluster", "quorate": 0, "nodes": 2},
        {"type": "node", "name": "venus", "online": 0},
        {"type": "node", "name": "hades", "online": 1, "ip": "192.168.5.2"},
    ]
    hades, venus = parse_nodes(status, [{"node": "hades", "maxmem": 7}])
    assert (hades.name, hades.online, hades.maxmem) == ("hades", True, 7)
    assert (venus.online, venus.maxmem) == (False, 0)
    assert not is_quorate(status)
    assert is_quorate(status[1:])


def test_storage() -> None:
    row = {"storage": "local-lvm", "type": "lvmthin", "content": "rootdir,images", "active": 1, "enabled": 1}
    storage = parse_storage("hades", {**row, "avail": "5", "shared": 0})
    assert (storage.content, storage.active, storage.shared, storage.avail) == (("images", "rootdir"), True, False, 5)


def test_pending() -> None:
    rows = [
        {"key": "cores", "value": 1, "pending": 2},
        {"key": "cpu", "value": "host", "delete": 1},
        {"key": "memory", "value": "4096"},
        {"key": "balloon", "pending": 0},
        {"key": "digest", "value": "abc"},
    ]
    expected = VmConfig(
        values={"cores": "1", "cpu": "host", "memory": "4096"}, pending={"cores": "2", "cpu": None, "balloon": "0"}
    )
    assert parse_pending(rows) == expected


def test_addresses_of_real_network_cards_only() -> None:
    def card(name: str, *addresses: tuple[str, str]) -> dict[str, object]:
        return {"name": name, "ip-addresses": [{"ip-address": a, "ip-address-type": t} for a, t in addresses]}

    found = parse_addresses([
        card("lo", ("127.0.0.1", "ipv4")),
        card("eth0", ("192.168.5.20", "ipv4"), ("fe80::1", "ipv6"), ("169.254.3.4", "ipv4")),
        card("cni0", ("10.42.0.1", "ipv4")),
        card("flannel.1", ("10.42.0.0", "ipv4")),
        {"name": "eth1"},
    ])  # fmt: skip
    assert found == ["192.168.5.20"]
