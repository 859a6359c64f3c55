"""What the guest agent tells: addresses, and files such as the SSH host key."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from labkit.systems.proxmox.client import Client
from labkit.systems.proxmox.errors import ProxmoxError, Trouble

VIRTUAL = ("lo", "cni", "flannel", "veth", "docker", "kube", "cilium", "lxc")
"""How the names of interfaces begin that are no network card."""

KEY_FILES = tuple(f"/etc/ssh/ssh_host_{kind}_key.pub" for kind in ("ed25519", "ecdsa", "rsa"))


def read_addresses(client: Client, path: str) -> list[str] | None:
    """Return the IPv4 addresses of a VM's network cards, or None while its agent does not answer."""
    try:
        answer = client.get(f"{path}/agent/network-get-interfaces")
    except ProxmoxError as exc:
        if exc.trouble is Trouble.SILENT:
            return None
        raise
    return parse_addresses(answer["result"])


def parse_addresses(interfaces: Iterable[Mapping[str, Any]]) -> list[str]:
    """Pick the IPv4 addresses of real network cards: no loopback, no link-local, none of the cluster's own."""
    return [
        str(address["ip-address"])
        for interface in interfaces
        if not str(interface.get("name", "")).startswith(VIRTUAL)
        for address in interface.get("ip-addresses") or ()
        if address.get("ip-address-type") == "ipv4"
        and not ipaddress.ip_address(str(address["ip-address"])).is_link_local
    ]


def read_ssh_keys(client: Client, path: str) -> tuple[str, ...]:
    """Return the SSH host keys of a VM (`ssh-ed25519 AAAA...`); empty while there are none.

    The files are read rather than printed by a command: that takes the smaller privilege.
    """
    for name in KEY_FILES:
        try:
            content = str(client.get(f"{path}/agent/file-read", file=name).get("content", ""))
        except ProxmoxError as exc:
            if exc.trouble is Trouble.SILENT:
                return ()
            if exc.trouble is Trouble.DENIED or exc.status == 595:
                raise
            continue  # no such file: the next kind
        words = content.split()
        if len(words) >= 2:
            return (" ".join(words[:2]),)
    return ()
