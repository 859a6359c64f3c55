"""What one value of a lab file demands of another: addresses, names, roles. Looks at every part that is sound."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from labkit.lab.mistakes import describe, guess, look
from labkit.lab.positions import Document, Path
from labkit.lab.types import Address, Network, parse_range

_POD_NETWORKS = {"cluster-cidr": ("10.42.0.0/16", "pods"), "service-cidr": ("10.43.0.0/16", "services")}
_OWN_KEYS = {
    "token": "k3s.token",
    "server": "the role of each VM",
    "cluster-init": "the role of each VM",
    "node-name": "the name of each VM",
    "node-ip": "the address of each VM",
    "disable": "k3s.disable",
    "etcd-snapshot-schedule-cron": "k3s.snapshot_schedule",
    "etcd-snapshot-retention": "k3s.snapshot_retention",
}
_LITERAL_KEYS = ("agent-token", "etcd-s3-secret-key", "datastore-endpoint", "vpn-auth")


def cross_check(document: Document) -> None:
    """Add the mistakes that only show between values; a value with a mistake of its own is left out."""
    parts = _Parts(document)
    _check_network(parts)
    _check_ranges(parts)
    _check_ingress(parts)
    _check_machines(parts)
    _check_roles(parts)
    _check_choices(parts)
    _check_once(parts)


class _Parts:
    """The sound values of a document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.network = self._network()
        self.gateway = self.address(("network", "gateway"))
        self.vip = self.address(("network", "vip"))
        self.ingress = self.address(("ingress",))
        self.dns = [(path, address) for path in self.items(("network", "dns")) if (address := self.address(path))]
        self.ranges = [
            (path, parse_range(text)) for path in self.items(("network", "load_balancer")) if (text := self.text(path))
        ]

    def get(self, path: Path) -> Any:
        """The value at a path, or None when it or what holds it is absent or has a mistake."""
        if any(path[:length] in self.document.bad for length in range(1, len(path) + 1)):
            return None
        return look(self.document.tree, path)

    def text(self, path: Path) -> str | None:
        value = self.get(path)
        return value if isinstance(value, str) else None

    def address(self, path: Path) -> Address | None:
        text = self.text(path)
        return None if text is None else Address(text)

    def mapping(self, path: Path) -> Mapping[str, Any]:
        value = self.get(path)
        return value if isinstance(value, dict) else {}

    def items(self, path: Path) -> list[Path]:
        value = self.get(path)
        return [(*path, index) for index in range(len(value))] if isinstance(value, list) else []

    def add(self, path: Path, expected: str, got: str, hint: str = "") -> None:
        """Note a mistake at a value."""
        self.document.add(self.document.value_place(path), path, expected, got, hint)

    def add_key(self, path: Path, expected: str, got: str, hint: str = "") -> None:
        """Note a mistake at a key."""
        self.document.add(self.document.key_place(path), path, expected, got, hint)

    def line(self, path: Path) -> int:
        return self.document.value_place(path)[0]

    def _network(self) -> Network | None:
        text = self.text(("network", "cidr"))
        return None if text is None else Network(text)


def _edge(network: Network, address: Address) -> str:
    """Name the address when it is one that no machine may have; else empty."""
    if network.prefixlen < 31 and address == network.network_address:
        return "the network address"
    if network.prefixlen < 31 and address == network.broadcast_address:
        return "the broadcast address"
    return ""


def _inside(parts: _Parts, path: Path, address: Address, what: str) -> bool:
    """Check that an address can be one of the network's; say whether it is."""
    if parts.network is None:
        return True
    if address not in parts.network:
        parts.add(path, f"{what} inside {parts.network}", f"`{address}`")
        return False
    if edge := _edge(parts.network, address):
        parts.add(path, f"{what} that a machine can have", f"`{address}`, {edge} of {parts.network}")
        return False
    return True


def _check_network(parts: _Parts) -> None:
    if parts.network is not None and parts.network.prefixlen > 30:
        parts.add(("network", "cidr"), "a network with room for VMs", f"`{parts.network}`")
    if parts.gateway is not None:
        _inside(parts, ("network", "gateway"), parts.gateway, "a gateway")
    if parts.vip is not None and _inside(parts, ("network", "vip"), parts.vip, "a virtual address"):
        taken = dict.fromkeys((address for _, address in parts.dns), "a name server")
        if parts.gateway is not None:
            taken[parts.gateway] = "the gateway"
        if parts.vip in taken:
            parts.add(("network", "vip"), "an address of its own", f"`{parts.vip}`, {taken[parts.vip]}")
    for key, (default, who) in _POD_NETWORKS.items():
        text = parts.get(("k3s", "config", key)) or default
        try:
            inner = Network(str(text).split(",")[0])
        except ValueError:
            parts.add(("k3s", "config", key), f"an IPv4 network, for example {default}", describe(text, ()))
            continue
        if parts.network is not None and parts.network.overlaps(inner):
            hint = f"choose another network, or set k3s.config.{key}"
            got = f"`{parts.network}`"
            parts.add(("network", "cidr"), f"a network apart from {inner}, which k3s gives to {who}", got, hint)


def _check_ranges(parts: _Parts) -> None:
    taken = [(parts.gateway, "the gateway"), (parts.vip, "network.vip")]
    taken += [(address, "a name server") for _, address in parts.dns]
    for number, (path, (first, last)) in enumerate(parts.ranges):
        got = f"`{first}-{last}`"
        if parts.network is not None and not (first in parts.network and last in parts.network):
            parts.add(path, f"a range inside {parts.network}", got)
            continue
        edges = [_edge(parts.network, end) for end in (first, last)] if parts.network is not None else []
        inside = [name for address, name in taken if address is not None and first <= address <= last]
        if names := [*filter(None, edges), *inside]:
            parts.add(path, f"a range without {names[0]}", got)
        for other, (low, high) in parts.ranges[:number]:
            if first <= high and low <= last:
                parts.add(
                    path, "ranges that do not overlap", f"{got}, overlapping with the one in line {parts.line(other)}"
                )


def _check_ingress(parts: _Parts) -> None:
    address = parts.ingress
    if address is None:
        return
    listed = parts.get(("network", "load_balancer"))
    if not listed:
        _inside(parts, ("ingress",), address, "an ingress address")
    elif len(parts.ranges) == len(listed) and not any(low <= address <= high for _, (low, high) in parts.ranges):
        ranges = ", ".join(f"{low}-{high}" for _, (low, high) in parts.ranges)
        parts.add(("ingress",), f"an address in network.load_balancer ({ranges})", f"`{address}`")


def _reserved(parts: _Parts) -> dict[Address, str]:
    """Addresses that no VM may have, with who has them."""
    taken: dict[Address, str] = {}
    for path in parts.items(("proxmox", "api")):
        if found := _as_address(urlsplit(parts.text(path) or "").hostname):
            taken[found] = "a Proxmox host"
    if found := _as_address(parts.text(("nas", "host"))):
        taken[found] = "the NAS"
    taken |= {address: "a name server" for _, address in parts.dns}
    disabled = parts.get(("k3s", "disable")) or []
    if parts.ingress is not None and (parts.ranges or "servicelb" in disabled):
        taken[parts.ingress] = "the ingress"
    if parts.vip is not None:
        taken[parts.vip] = "network.vip"
    if parts.gateway is not None:
        taken[parts.gateway] = "the gateway"
    return taken


def _as_address(text: str | None) -> Address | None:
    try:
        return Address(text or "")
    except ipaddress.AddressValueError:
        return None


def _check_machines(parts: _Parts) -> None:
    hosts = list(parts.mapping(("hosts",)))
    reserved = _reserved(parts)
    addresses: dict[Address, str] = {}
    numbers: dict[int, str] = {}
    for name in parts.mapping(("vms",)):
        here: Path = ("vms", name)
        host = parts.text((*here, "host"))
        if host is not None and hosts and host not in hosts:
            parts.add((*here, "host"), f"one of the hosts {', '.join(hosts)}", f"`{host}`", guess(host, hosts))
        address = parts.address((*here, "address"))
        if address is not None:
            _check_address(parts, here, address, reserved)
            _check_twice(parts, (*here, "address"), "address", address, addresses)
        vmid = parts.get((*here, "vmid"))
        if vmid is not None:
            _check_twice(parts, (*here, "vmid"), "VMID", vmid, numbers)


def _check_twice(parts: _Parts, path: Path, what: str, value: Any, seen: dict[Any, str]) -> None:
    first = seen.setdefault(value, str(path[1]))
    if first != path[1]:
        line = parts.line(("vms", first, path[2]))
        parts.add(path, f"an {what} of its own" if what == "address" else f"a {what} of its own",
                  f"`{value}`, which `{first}` has in line {line}")  # fmt: skip


def _check_address(parts: _Parts, here: Path, address: Address, reserved: Mapping[Address, str]) -> None:
    path = (*here, "address")
    if not _inside(parts, path, address, "an address"):
        return
    if address in reserved:
        parts.add(path, "an address of its own", f"`{address}`, which {reserved[address]} has")
        return
    for _, (low, high) in parts.ranges:
        if low <= address <= high:
            parts.add(path, "an address outside network.load_balancer", f"`{address}`, inside {low}-{high}")


def _check_roles(parts: _Parts) -> None:
    names = list(parts.mapping(("vms",)))
    roles = [parts.text(("vms", name, "role")) for name in names]
    if not names or None in roles:
        return
    if "server" not in roles:
        hint = "give the first VM the role server"
        parts.add_key(("vms",), "at least one VM of the role server (the control plane)",
                      f"{len(names)} of the role agent", hint)  # fmt: skip
    elif roles[0] != "server":
        first = names[roles.index("server")]
        got = f"the agent `{names[0]}` before any server"
        parts.add_key(("vms", names[0]), "a server as the first VM", got, f"move `{first}` to the top")


def _check_choices(parts: _Parts) -> None:
    for path in (("proxmox", "tls"), ("nas", "tls")):
        if {"ca", "fingerprint"} <= {key for key, value in parts.mapping(path).items() if value is not None}:
            parts.add_key((*path, "ca"), "either a fingerprint or a ca", "both", "remove one of them")
    if parts.get(("k3s", "install")) == "airgap" and not parts.get(("k3s", "airgap_dir")):
        parts.add(("k3s", "install"), "k3s.airgap_dir beside `install: airgap`", "none")
    for key, value in parts.mapping(("k3s", "config")).items():
        if key in _OWN_KEYS:
            parts.add_key(("k3s", "config", key), "a key that labkit does not set", f"`{key}`",
                          f"it follows from {_OWN_KEYS[key]}")  # fmt: skip
        elif key in _LITERAL_KEYS and not isinstance(value, dict):
            got = f"a literal of {len(str(value))} characters for `{key}`"
            parts.add(("k3s", "config", key), "no secret in k3s.config", got, "put it on the servers by a file")


def _check_once(parts: _Parts) -> None:
    names = ("proxmox.api", "network.dns", "k3s.disable", "messages.to", "messages.only")
    lists = [tuple(name.split(".")) for name in names]
    vms = [("vms", name, "taints") for name in parts.mapping(("vms",))]
    for path in (*lists, *vms):
        seen: dict[str, int] = {}
        for item in parts.items(path):
            text = parts.text(item)
            if text in seen:
                parts.add(item, "each entry once", f"`{text}` again; the first is in line {seen[text]}")
            elif text is not None:
                seen[text] = parts.line(item)
