"""Where k3s keeps its files on a guest, and its ports."""

from __future__ import annotations

from typing import Literal

Role = Literal["server", "agent"]

BINARY = "/usr/local/bin/k3s"
CONFIG = "/etc/rancher/k3s/config.yaml"
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
NODE_PASSWORD = "/etc/rancher/node/password"  # noqa: S105  # a path
DATA = "/var/lib/rancher/k3s"
SERVER = f"{DATA}/server"
AGENT = f"{DATA}/agent"
TOKEN = f"{SERVER}/token"
TLS = f"{SERVER}/tls"
DB = f"{SERVER}/db"
ETCD = f"{DB}/etcd"
MEMBER = f"{ETCD}/member/snap/db"
"""Which member of which cluster this guest's copy of the data belongs to."""
SQLITE = f"{DB}/state.db"
RESET_FLAG = f"{DB}/reset-flag"
SNAPSHOTS = f"{DB}/snapshots"
MANIFESTS = f"{SERVER}/manifests"

API_PORT = 6443
ANY = "*"
LOOPBACK = "127.0.0.1"
UNITS: dict[Role, str] = {"server": "k3s", "agent": "k3s-agent"}
RETRY = 5.0
"""Twin seconds between two tries of anything."""


def listening(role: Role, address: str, *, etcd: bool) -> dict[int, str]:
    """Return what k3s listens on: port -> address, as `ss` shows it."""
    ports = {10250: ANY, 10248: LOOPBACK, 10249: LOOPBACK, 10256: LOOPBACK, 6444: LOOPBACK, 10010: LOOPBACK}
    if role == "server":
        ports |= {API_PORT: ANY, 10257: LOOPBACK, 10258: LOOPBACK, 10259: LOOPBACK}
        if etcd:
            ports |= {2379: address, 2380: address, 2381: LOOPBACK}
    return ports
