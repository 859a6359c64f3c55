"""What of the example repository depends on the lab: the data files carry the seed's values, which are replaced."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from labkit.lab.models import Lab

DATA = Path(__file__).with_name("data")
"""The files of the example repository, secrets in clear as *.plain.yaml."""

_RANGE = "192.168.5.50-192.168.5.59"


@dataclass(frozen=True)
class LabValues:
    """The values of a lab that stand in its repository; the defaults are what the data files hold."""

    domain: str = "efym.net"
    ingress: str = "192.168.5.50"
    load_balancer: tuple[str, ...] = (_RANGE,)
    proxmox_host: str = "hades.lan"
    nas_host: str = "scale.lan"
    backup_target: str = "nfs://scale.lan:/mnt/tank/backups/appdata"
    git_url: str = "ssh://git@github.com/efym/homelab.git"
    git_branch: str = "master"
    git_path: str = "./kubernetes/clusters/production"
    replicas: int = 2
    """Copies of each Longhorn volume: no more than there are nodes."""


def example_files() -> dict[str, bytes]:
    """Return the files of the example by path, with the seed's values and the marks of secrets still in them."""
    return {path.relative_to(DATA).as_posix(): path.read_bytes() for path in DATA.rglob("*") if path.is_file()}


def lab_values(lab: Lab) -> LabValues:
    """Take the values from a lab file."""
    return LabValues(
        domain=lab.domain,
        ingress=str(lab.ingress),
        load_balancer=tuple(str(part) for part in lab.network.load_balancer) or (str(lab.ingress) + "/32",),
        proxmox_host=re.sub(r"^https?://|:\d+.*$|/.*$", "", str(lab.proxmox.api[0])),
        nas_host=lab.nas.host,
        backup_target=lab.nas.backup_target,
        git_url=lab.git.url,
        git_branch=lab.git.branch,
        git_path=lab.git.path,
        replicas=min(LabValues.replicas, len(lab.vms)),
    )


def replacements(values: LabValues) -> dict[str, str]:
    """Return the texts of the data files that differ in this lab, with what stands in their place."""
    seed = LabValues()
    pool = "\n".join(f"    - {part}" for part in values.load_balancer)
    table = {
        f"    - {_RANGE}": pool,
        seed.backup_target: values.backup_target,
        seed.git_url: values.git_url,
        f"branch: {seed.git_branch}": f"branch: {values.git_branch}",
        seed.git_path: "./" + cluster_folder(values),
        f"defaultClassReplicaCount: {seed.replicas}": f"defaultClassReplicaCount: {values.replicas}",
        f": {seed.ingress}": f": {values.ingress}",
        seed.domain.replace(".", "-"): values.domain.replace(".", "-"),
        seed.domain: values.domain,
        seed.proxmox_host: values.proxmox_host,
        seed.nas_host: values.nas_host,
    }
    return {old: new for old, new in table.items() if old != new}


def cluster_folder(values: LabValues) -> str:
    """Return the folder of the cluster's entry, from the root and without dots."""
    return values.git_path.removeprefix("./").strip("/")


def replace(text: str, table: dict[str, str]) -> str:
    """Replace all texts of a table at once, so that no replacement is replaced again."""
    if not table:
        return text
    words = sorted(table, key=len, reverse=True)
    return re.sub("|".join(re.escape(word) for word in words), lambda match: table[match[0]], text)
