"""The configuration that labkit wants for a VM, and how it differs from one that was read. Pure.

Proxmox rewrites what it is given (it adds a MAC address, sorts tags, encodes keys), so each key is compared by
its meaning, and what a person added beside it (tags, a note, more keys) stays.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterable, Mapping

from labkit.lab.models import Lab, Machine
from labkit.lab.pveformat import (
    parse_agent,
    parse_flag,
    parse_memory,
    parse_props,
    parse_tags,
    render_props,
    ssh_keys,
)

BEING_MADE = "labkit: being made"
"""How the description of a half-made VM begins: such a VM has never held data."""

SIGNATURE = "Kept by labkit"
"""What the line of a description has that labkit wrote and may replace."""

FIRST_BOOT_ONLY = frozenset({"ciupgrade", "cipassword"})
"""Keys that mean nothing after the first boot, or that Proxmox does not show: set once, never compared."""

LIVE = frozenset({"tags", "description", "onboot", "startup", "net0", "disk"})
"""What a running VM takes over at once; everything else waits for its next start."""


def render_vm_config(lab: Lab, machine: Machine, ssh_public_key: str) -> dict[str, str]:
    """Return the configuration of a finished VM, as parameters of Proxmox's config call.

    `net0` comes without a MAC address and `tags` in alphabetical order. The disk's size is no part of it, and
    neither are the template's keys (disk controller, boot order, serial console, hotplug, NUMA).
    """
    dns = lab.network.dns or (lab.network.gateway,)
    net = {"model": "virtio", "bridge": machine.bridge}
    if machine.vlan is not None:
        net["tag"] = str(machine.vlan)
    return {
        "cores": str(machine.cores),
        "memory": str(machine.memory),
        "agent": "enabled=1",
        "net0": render_props(net),
        "ipconfig0": f"ip={machine.address}/{lab.network.cidr.prefixlen},gw={lab.network.gateway}",
        "nameserver": " ".join(str(address) for address in dns),
        "searchdomain": lab.network.search,
        "ciuser": lab.guests.user,
        "sshkeys": urllib.parse.quote(ssh_public_key.strip() + "\n", safe=""),
        "ciupgrade": "1" if lab.guests.upgrade else "0",
        "onboot": "1",
        "startup": "order=1" if machine.role == "server" else "order=2",
        "tags": ";".join(sorted({lab.proxmox.tag, "k3s", machine.role})),
        "description": describe(lab, machine),
    }


def describe(lab: Lab, machine: Machine) -> str:
    """Return the sentence that stands in the notes of a finished VM."""
    role = "server (control plane)" if machine.role == "server" else "agent (worker)"
    return (
        f"k3s {role} of the lab {lab.name}, address {machine.address}. {SIGNATURE}: change the lab file, not this VM."
    )


def describe_unfinished(lab: Lab, name: str) -> str:
    """Return what stands in the notes of a VM from its clone call until it is finished."""
    return f"{BEING_MADE}: {name} of the lab {lab.name}. Never used yet: run the runbook provision-vms to finish it."


def is_half_made(config: Mapping[str, str]) -> bool:
    """Whether a VM was left before it was finished, so that it never held data."""
    return config.get("description", "").startswith(BEING_MADE)


def needs_restart(keys: Iterable[str]) -> bool:
    """Whether a running VM takes over any of these keys only at its next start."""
    return any(key not in LIVE for key in keys)


def config_differences(wanted: Mapping[str, str], seen: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Compare two configurations by meaning: key -> (seen, the value to write); empty when all is right.

    What a person added stays in the value to write: the MAC address, tags, notes, more keys.
    """
    return {
        key: (seen.get(key, ""), _MERGE.get(key, _take)(value, seen.get(key, "")))
        for key, value in wanted.items()
        if key not in FIRST_BOOT_ONLY and not _SAME.get(key, _same_text)(value, seen.get(key, ""))
    }


def show_value(key: str, value: str) -> str:
    """Return a value for people: without MAC addresses, and keys as their types only."""
    if key == "net0":
        return render_props(_net_place(value))
    if key == "sshkeys":
        return ", ".join(sorted(kind for kind, _ in ssh_keys(value))) or "none"
    if key == "description":
        return value.strip().split("\n")[0]
    return value


def _net_place(text: str) -> dict[str, str]:
    props = parse_props(text)
    return {key: props[key] for key in ("bridge", "tag") if key in props}


def _merge_net(wanted: str, seen: str) -> str:
    """Put the wanted bridge and tag into a network card that keeps its model, MAC address and firewall."""
    if not seen:
        return wanted
    kept = {key: value for key, value in parse_props(seen).items() if key not in ("bridge", "tag")}
    return render_props({**kept, **_net_place(wanted)})


def _merge_tags(wanted: str, seen: str) -> str:
    return ";".join(sorted({*parse_tags(wanted), *parse_tags(seen)}))


def _merge_description(wanted: str, seen: str) -> str:
    ours = (SIGNATURE, BEING_MADE)
    notes = [line for line in seen.strip().split("\n") if not any(mark in line for mark in ours)]
    return "\n".join([wanted, *notes]).strip()


def _merge_keys(wanted: str, seen: str) -> str:
    lines = [line for text in (wanted, seen) for line in urllib.parse.unquote(text).splitlines() if line.strip()]
    return urllib.parse.quote("\n".join(dict.fromkeys(lines)) + "\n", safe="")


def _merge_props(wanted: str, seen: str) -> str:
    kept = {key: value for key, value in parse_props(seen).items() if key}  # a bare `1` is the short form
    return render_props({**kept, **parse_props(wanted)})


def _take(wanted: str, _seen: str) -> str:
    return wanted


def _same_text(wanted: str, seen: str) -> bool:
    return wanted.strip() == seen.strip()


def _by(read: Callable[[str], object]) -> Callable[[str, str], bool]:
    return lambda wanted, seen: bool(seen) and read(wanted) == read(seen)


def _within(read: Callable[[str], frozenset[tuple[str, str]]]) -> Callable[[str, str], bool]:
    return lambda wanted, seen: read(wanted) <= read(seen)


def _has_props(wanted: str, seen: str) -> bool:
    return parse_props(wanted).items() <= parse_props(seen).items()


def _cores(text: str) -> int:
    return int(text) if text.isdigit() else 0


_MERGE: Mapping[str, Callable[[str, str], str]] = {
    "agent": _merge_props,
    "ipconfig0": _merge_props,
    "startup": _merge_props,
    "net0": _merge_net,
    "tags": _merge_tags,
    "description": _merge_description,
    "sshkeys": _merge_keys,
}
_SAME: Mapping[str, Callable[[str, str], bool]] = {
    "cores": lambda wanted, seen: _cores(wanted) == _cores(seen or "1"),  # Proxmox leaves out its default
    "memory": lambda wanted, seen: parse_memory(wanted) == parse_memory(seen or "512"),
    "agent": _by(parse_agent),
    "net0": _by(_net_place),
    "ipconfig0": _has_props,
    "startup": _has_props,
    "nameserver": lambda wanted, seen: wanted.split() == seen.replace(",", " ").split(),
    "onboot": _by(parse_flag),
    "sshkeys": _within(ssh_keys),
    "tags": lambda wanted, seen: set(parse_tags(wanted)) <= set(parse_tags(seen)),
    "description": lambda wanted, seen: wanted in seen,
}
