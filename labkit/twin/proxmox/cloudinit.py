"""What Proxmox hands to cloud-init, as text: user, network and meta data."""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Mapping

from labkit.lab.pveformat import parse_props

KINDS = ("user", "network", "meta")
_KEYS = ("ciuser", "cipassword", "citype", "ciupgrade", "cicustom", "sshkeys", "nameserver", "searchdomain")


def is_setting(key: str) -> bool:
    """Tell whether a key of a VM's configuration is for cloud-init."""
    return key in _KEYS or key.startswith("ipconfig")


def dump(kind: str, config: Mapping[str, str]) -> str:
    """Return one of the three files."""
    return {"user": user_data, "network": network_data, "meta": meta_data}[kind](config)


def user_data(config: Mapping[str, str]) -> str:
    """Return the user-data: host name, user, keys."""
    name, domain = config.get("name", ""), config.get("searchdomain", "")
    lines = ["#cloud-config", f"hostname: {name}", "manage_etc_hosts: true", f"fqdn: {f'{name}.{domain}'.rstrip('.')}"]
    if user := config.get("ciuser"):
        lines.append(f"user: {user}")
    if password := config.get("cipassword"):
        lines.append(f"password: {password}")
    if keys := authorized_keys(config):
        lines += ["ssh_authorized_keys:", *(f"  - {key}" for key in keys)]
    lines += ["chpasswd:", "  expire: False", "users:", "  - default"]
    if config.get("ciupgrade", "1") == "1":
        lines.append("package_upgrade: true")
    return "\n".join(lines) + "\n"


def network_data(config: Mapping[str, str]) -> str:
    """Return the network-config, version 1."""
    lines = ["version: 1", "config:"]
    for key in sorted(key for key in config if key.startswith("ipconfig")):
        card, given = key.removeprefix("ipconfig"), parse_props(config[key])
        net = parse_props(config.get(f"net{card}", ""))
        mac = next(iter(net.values()), "").lower()
        lines += ["    - type: physical", f"      name: eth{card}", f"      mac_address: '{mac}'", "      subnets:"]
        if given.get("ip") == "dhcp":
            lines.append("      - type: dhcp4")
        elif given.get("ip"):
            address, _, prefix = given["ip"].partition("/")
            lines += ["      - type: static", f"        address: '{address}'", f"        netmask: '{netmask(prefix)}'"]
            lines += [f"        gateway: '{given['gw']}'"] if given.get("gw") else []
    lines += ["    - type: nameserver", "      address:"]
    lines += [f"      - '{server}'" for server in config.get("nameserver", "").split()]
    lines += ["      search:", f"      - '{config.get('searchdomain', '')}'"]
    return "\n".join(lines) + "\n"


def meta_data(config: Mapping[str, str]) -> str:
    """Return the meta-data: an instance id that changes with the other two."""
    return f"instance-id: {instance_id(config)}\n"


def instance_id(config: Mapping[str, str]) -> str:
    """Return the id by which cloud-init tells a new instance from a known one."""
    text = user_data(config) + network_data(config)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def authorized_keys(config: Mapping[str, str]) -> list[str]:
    """Return the public keys that the user gets, one line each."""
    text = urllib.parse.unquote(config.get("sshkeys", ""))
    return [line.strip() for line in text.splitlines() if line.strip()]


def netmask(prefix: str) -> str:
    """Turn `24` into `255.255.255.0`."""
    bits = int(prefix or "24")
    number = (0xFFFFFFFF << (32 - bits)) & 0xFFFFFFFF
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
