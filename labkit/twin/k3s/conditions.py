"""How the cluster is doing, as a test, a scenario or a fault wishes: ages of certificates, snapshots and objects.

Dates are the wall's, so what is to look old is given old dates.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from labkit.errors import StepFailed
from labkit.lab.k3sconfig import api_url
from labkit.twin.k3s.crds import SNAPSHOT_FILES
from labkit.twin.k3s.scenario import keep_kubeconfig
from labkit.twin.kube.clone import clone
from labkit.twin.kube.door import Object

if TYPE_CHECKING:
    from labkit.twin.k3s.cluster import Cluster
    from labkit.twin.k3s.system import K3s

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


class K3sConditions:
    """Set the state of what has a date, or of any object.

    `certificates`: `days` that those of k3s last, on the VM `name` or on all. `kubeconfig`: `days` that the user's
    client certificate lasts. `snapshots`: `hours` older than they are, perhaps only those on the node `name`;
    `error` makes the newest one of each a failed one; `token` gives them the hash of another token; `remove`.
    `object`: `resource` (`pods`, `jobs.batch`), `name`, perhaps `namespace`: `merge` is merged into it as it stands
    in the store, past every admission; `hours` makes all of its dates so much older.
    """

    def __init__(self, k3s: K3s) -> None:
        self._k3s = k3s
        self.actions: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "certificates": self.certificates, "kubeconfig": self.kubeconfig, "snapshots": self.snapshots,
            "object": self.object,
        }  # fmt: skip

    async def certificates(self, given: dict[str, Any]) -> None:
        """Have the certificates of one node or of all last so many days."""
        name = given.get("name")
        guests = [guest for guest in self._k3s.guests if name in {None, guest.name} and guest.phase == "up"]
        if not guests:
            raise StepFailed(f"certificates: expected a VM of the twin that is up, got {name}")
        for guest in guests:
            self._k3s.host(guest).age_certificates(float(given["days"]))

    async def kubeconfig(self, given: dict[str, Any]) -> None:
        """Have the user's client certificate last so many days."""
        lab, cluster = self._k3s.world.lab, self._cluster()
        url = api_url(lab.network.vip or lab.servers[0].address)
        keep_kubeconfig(self._k3s.world, cluster.pki.kubeconfig(days=float(given["days"])), url)

    async def snapshots(self, given: dict[str, Any]) -> None:
        """Make the snapshots older, failed, or of another token."""
        cluster = self._cluster()
        ours = [one for one in cluster.api.list(SNAPSHOT_FILES) if given.get("name") in {None, one["spec"]["nodeName"]}]
        for one in ours:
            if given.get("remove"):
                cluster.api.delete(SNAPSHOT_FILES, one["metadata"]["name"])
                continue
            merge: Object = {}
            if given.get("token"):
                merge = {"metadata": {"annotations": {"etcd.k3s.cattle.io/snapshot-token-hash": "0" * 12}}}
            if error := given.get("error"):
                time = one["status"]["creationTime"]
                merge["status"] = {"readyToUse": False, "error": {"time": time, "message": str(error)}}
            self._store(cluster, SNAPSHOT_FILES, one, merge, float(given.get("hours", 0)))

    async def object(self, given: dict[str, Any]) -> None:
        """Change any object as it stands in the store."""
        cluster, resource = self._cluster(), str(given["resource"])
        found = cluster.api.get(resource, str(given["name"]), str(given.get("namespace", "")))
        if found is None:
            raise StepFailed(f"object: expected one of {resource}, got {given['name']}, which is not there")
        self._store(cluster, resource, found, given.get("merge") or {}, float(given.get("hours", 0)))

    def _store(self, cluster: Cluster, resource: str, found: Object, merge: Object, hours: float) -> None:
        changed = _merged(_older(clone(found), timedelta(hours=hours)) if hours else clone(found), merge)
        cluster.server.core.store.put(resource, changed)

    def _cluster(self) -> Cluster:
        cluster = self._k3s.cluster
        if cluster is None:
            raise StepFailed("expected a cluster that serves, got none")
        return cluster


def _older(value: Any, by: timedelta) -> Any:
    if isinstance(value, dict):
        return {key: _older(item, by) for key, item in value.items()}
    if isinstance(value, list):
        return [_older(item, by) for item in value]
    if isinstance(value, str) and _DATE.fullmatch(value):
        moment = datetime.fromisoformat(value.split(".")[0].rstrip("Z")).replace(tzinfo=UTC) - by
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return value


def _merged(value: Any, patch: Any) -> Any:
    """Return what a JSON merge patch makes of a value."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for key, item in patch.items():
        if item is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), item)
    return result
