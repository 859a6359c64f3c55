"""The virtual address of the API: kube-vip, if it runs in a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.twin.k3s.cluster import Cluster


def virtual_addresses(cluster: Cluster) -> set[str]:
    """Return the addresses that kube-vip answers for in a cluster, if it runs there."""
    found = set()
    for item in cluster.api.list("daemonsets.apps"):
        if not item.get("status", {}).get("numberReady"):
            continue
        for container in item["spec"]["template"]["spec"]["containers"]:
            if "kube-vip" in container.get("image", ""):
                found |= {e["value"] for e in container.get("env") or () if e["name"] == "address" and e.get("value")}
    return found
