"""Labs of any size, for benchmarks: hosts, servers and agents in a network of their own."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML


def write_lab(path: Path, *, hosts: int, servers: int, agents: int, sizes: dict[str, str | int] | None = None) -> Path:
    """Write a lab file with that many hosts, servers and agents, spread evenly; returns its path.

    `sizes` are those of every VM: cores, memory, disk.
    """
    names = [f"host{number + 1}" for number in range(hosts)]

    def vms(role: str, count: int, first: int) -> dict[str, dict[str, str]]:
        return {
            f"{role}-{number + 1:02}": {
                "role": role,
                "host": names[number % hosts],
                "address": f"10.20.{first + number // 200}.{number % 200 + 10}",
            }
            for number in range(count)
        }

    lab: dict[str, object] = {
        "name": "bench",
        "domain": "bench.example",
        "network": {"cidr": "10.20.0.0/16", "gateway": "10.20.0.1", "load_balancer": ["10.20.0.2-10.20.0.4"]},
        "proxmox": {
            "api": [f"https://{names[0]}.lan:8006"],
            "token": {"id": "labkit@pve!runbooks", "secret": "env:PROXMOX_TOKEN"},
            "read_token": {"id": "labkit@pve!reader", "secret": "env:PROXMOX_READ_TOKEN"},
        },
        "hosts": {name: {} for name in names},
        "vms": {**vms("server", servers, 1), **vms("agent", agents, 2)},
        "guests": {"ssh_key": "file:id_ed25519"},
        "k3s": {"version": "v1.33.4+k3s1", "token": "env:K3S_TOKEN", "disable": ["servicelb", "traefik"]},
        "git": {"url": "ssh://git@git.lan/lab.git", "deploy_key": "file:deploy_key", "age_key": "file:keys.txt"},
        "ingress": "10.20.0.2",
        "nas": {"host": "nas.lan", "backup_target": "nfs://nas.lan:/tank/backups"},
    }
    if sizes:
        lab["defaults"] = {"vm": sizes}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(lab, file)
    return path
