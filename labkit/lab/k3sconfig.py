"""/etc/rancher/k3s/config.yaml as labkit wants it, and how it differs from one that was read. Pure.

Every value of type text is written in double quotes: `0600` and `on` stay what they are, and odd characters in a
token survive. The file is the only place for settings: a second run of k3s' installer forgets all others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import JsonValue

from labkit.lab.models import Lab, Machine

API_PORT = 6443
ZONE = "topology.kubernetes.io/zone"

REGISTRATION_ONLY = frozenset({"node-label", "node-taint"})
"""Keys that count at the first registration only; a live node gets its labels through the API."""

JOINING_ONLY = frozenset({"server", "cluster-init"})
"""Keys that are ignored once the machine has joined."""

FOUNDING = frozenset({"cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain", "datastore-endpoint"})
"""Keys that a cluster has for life."""

_KEEP = "# Kept by labkit: change the lab file, not this file.\n"


def api_url(address: object) -> str:
    """Return the URL of the API at an address."""
    return f"https://{address}:{API_PORT}"


def node_labels(machine: Machine) -> dict[str, str]:
    """Return the labels that a node is to have: its zone, and those of the lab file."""
    return {ZONE: machine.host, **dict(sorted(machine.labels.items()))}


def wanted_config(lab: Lab, machine: Machine, join: str | None) -> dict[str, JsonValue]:
    """Return the settings of a machine, without the token.

    Args:
        lab: what is wanted.
        machine: whose settings.
        join: the URL of the API to join; None for the first server, which starts the cluster.
    """
    config: dict[str, JsonValue] = {"cluster-init": True} if join is None else {"server": join}
    config |= {
        "node-name": machine.name,
        "node-ip": str(machine.address),
        "node-label": [f"{key}={value}" for key, value in node_labels(machine).items()],
    }
    if machine.taints:
        config["node-taint"] = list(machine.taints)
    if machine.role == "server":
        config |= _server_config(lab)
    return config


def _server_config(lab: Lab) -> dict[str, JsonValue]:
    names = [str(lab.network.vip)] if lab.network.vip is not None else []
    names += [str(server.address) for server in lab.servers]
    config: dict[str, JsonValue] = {
        "tls-san": list(names),
        "write-kubeconfig-mode": "0600",
        "etcd-snapshot-schedule-cron": lab.k3s.snapshot_schedule,
        "etcd-snapshot-retention": lab.k3s.snapshot_retention,
    }
    if lab.k3s.disable:
        config["disable"] = list(lab.k3s.disable)
    extra = dict(lab.k3s.config)
    more = extra.pop("tls-san", [])
    config["tls-san"] = [*names, *(name for name in ([more] if isinstance(more, str) else more) if name not in names)]
    return config | extra


def render_config(config: Mapping[str, JsonValue], token: str) -> str:
    """Return the text of config.yaml; the token stands in it and nowhere else."""
    lines = [f"{key}:{_value(value)}" for key, value in {"token": token, **config}.items()]
    return _KEEP + "\n".join(lines) + "\n"


def _value(value: JsonValue) -> str:
    if isinstance(value, list) and value:
        return "".join(f"\n  - {_scalar(item)}" for item in value)
    return f" {_scalar(value)}"


def _scalar(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)


def config_differences(
    lab: Lab, wanted: Mapping[str, JsonValue], seen: Mapping[str, JsonValue], *, joined: bool = True
) -> dict[str, tuple[JsonValue, JsonValue]]:
    """Compare settings by meaning: key -> (seen, wanted); empty when all is right.

    Args:
        lab: whose addresses a `server` may name.
        wanted: from `wanted_config`.
        seen: what was read, without the token.
        joined: whether the machine has joined: then any address of this lab is as good as another.
    """
    found = {}
    for key in dict.fromkeys([*wanted, *seen]):
        if key in JOINING_ONLY and joined and _harmless(lab, seen):
            continue
        before, after = seen.get(key), wanted.get(key)
        if _plain(key, before) != _plain(key, after):
            found[key] = (before, after)
    return found


def _harmless(lab: Lab, seen: Mapping[str, JsonValue]) -> bool:
    """Whether what a joined machine says about joining would still lead it home."""
    target = seen.get("server")
    return target is None or urlsplit(str(target)).hostname in api_hosts(lab)


def api_hosts(lab: Lab) -> tuple[str, ...]:
    """Return the addresses at which the API of the lab answers, the virtual one first."""
    vip = (str(lab.network.vip),) if lab.network.vip is not None else ()
    return (*vip, *(str(server.address) for server in lab.servers))


def _plain(key: str, value: JsonValue) -> list[str] | str | None:
    """What k3s makes of a value: a list of one may be written as a text, `a,b` as a list, a number as a text."""
    if value is None or value == []:
        return None
    items = value if isinstance(value, list) else [value]
    texts = [part for item in items for part in _texts(key, item)]
    return sorted(texts) if isinstance(value, list) or key in _LISTS else texts[0]


def _texts(key: str, item: JsonValue) -> list[str]:
    text = str(item).lower() if isinstance(item, bool) else item if isinstance(item, str) else json.dumps(item)
    return [part.strip() for part in text.split(",")] if key in _LISTS else [text]


_LISTS = frozenset({"node-label", "node-taint", "tls-san", "disable"})


def token_form(token: str) -> str:
    """Say what form a token has: short, full (K10...) or odd (white space, quotes, colons get lost on the way)."""
    if re.fullmatch(r"K10[0-9a-f]{64}::[^:]+:.+", token):
        return "full"
    return "short" if re.fullmatch(r"[A-Za-z0-9._~+/=@%^,-]+", token) else "odd"


def token_password(token: str) -> str:
    """Return the part of a token that counts: `K10<hash>::server:<password>` and `<password>` are one."""
    return token.split("::", 1)[1].partition(":")[2] if token_form(token) == "full" else token
