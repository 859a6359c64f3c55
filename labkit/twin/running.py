"""The scenario `running`: a lab that is well and has run for a while, with backups and drills behind it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from labkit.facts.evidence import CONFIG_MAP, claim_key
from labkit.facts.longhorn import NAMESPACE
from labkit.twin.ailments import AILMENTS
from labkit.twin.ailments.plant import Ailments
from labkit.twin.controllers.objects import labels_of, name_of, namespace_of
from labkit.twin.flux.claims import longhorn_claims
from labkit.twin.flux.system import GitOps
from labkit.twin.k3s.scenario import build
from labkit.twin.k3s.system import K3s
from labkit.twin.kube.door import Object
from labkit.twin.longhorn.former import Former, nights
from labkit.twin.longhorn.names import GROUP_PREFIX
from labkit.twin.longhorn.past import Past
from labkit.twin.longhorn.store import BackupStore
from labkit.twin.longhorn.wiring import Storage
from labkit.twin.person import Person
from labkit.twin.seed import Seed
from labkit.twin.world import World

_OFTEN = 4
"""Hours between the backups of the group `often`."""
_DRILL_DAYS = 6
_VM_BACKUP_HOURS = 9


class Running:
    """Bring a lab to the state of an ordinary morning.

    Args:
        world: what the parts share.
        person: whose actions set the hosts' backups.
        k3s: the cluster's machines.
        gitops: Flux and the repository.
        storage: Longhorn and the NAS.
        ailments: what can be wrong with it.
    """

    def __init__(
        self, world: World, person: Person, k3s: K3s, gitops: GitOps, *, storage: Storage, ailments: Ailments
    ) -> None:
        self._world = world
        self._person = person
        self._k3s = k3s
        self._gitops = gitops
        self._storage = storage
        self._ailments = ailments

    async def begin(self, *, ailing: bool) -> None:
        """Leave a past, build the cluster, reconcile everything; with `ailing`, plant every ailment in it."""
        world = self._world
        tree = await self._gitops.check_out()
        entry = world.lab.git.path.removeprefix("./").strip("/")
        claims = tuple(await asyncio.to_thread(longhorn_claims, tree, entry))
        former = Former(claims, Seed(world.options.seed, f"{world.lab.name} former"), datetime.now(UTC), due_moments)
        for folder in self._storage.exports.places.values():
            await asyncio.to_thread(former.leave, BackupStore(folder), Past())
        if ailing:
            await self._ailments.plant(one for one in AILMENTS.values() if one.early)
        await build(self._k3s, world.lab.k3s.version)
        cluster = self._k3s.cluster
        assert cluster is not None  # noqa: S101  # it was built right now
        await self._gitops.bring_up(cluster.api)
        cluster.api.create("configmaps", evidence(former, world.lab.nas.backup_target))
        await self._back_up_machines()
        if ailing:
            await self._ailments.plant(AILMENTS.values())

    async def _back_up_machines(self) -> None:
        actions = self._person.actions
        await actions["backup-job"]({"enabled": True})
        for name in self._world.lab.vms:
            await actions["backup"]({"vm": name, "hours": _VM_BACKUP_HOURS})


def due_moments(claim: Object, end: datetime) -> list[datetime]:
    """Return when a claim was backed up lately: each night, and for the group `often` every few hours too."""
    moments = nights(end)
    if f"{GROUP_PREFIX}often" in labels_of(claim):
        last = end.replace(hour=end.hour - end.hour % _OFTEN, minute=0, second=0, microsecond=0)
        moments += [moment for moment in (last,) if moment > moments[-1]]
    return moments


def evidence(former: Former, target: str) -> Object:
    """Return the ConfigMap in which the drill of some days ago was filed, as runbook backup-drill does."""
    at = former.end - timedelta(days=_DRILL_DAYS)
    data = {}
    for claim in former.claims:
        space, name, volume = namespace_of(claim), name_of(claim), former.volume_of(claim)
        digest = hashlib.sha256(f"{volume} {target}".encode()).hexdigest()
        told: dict[str, Any] = {
            "namespace": space, "claim": name, "volume": volume, "backup": f"backup-{digest[:16]}", "target": "default",
            "proven": True, "at": at.isoformat(), "backup_at": (at - timedelta(hours=3)).isoformat(), "problem": "",
            "blocks": 4, "size": 1 << 30, "device": digest, "tree": digest, "files": 12, "probe": "", "seconds": 41.0,
        }  # fmt: skip
        data[claim_key(space, name)] = json.dumps(told)
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE,
                     "labels": {"app.kubernetes.io/managed-by": "labkit"}},
    }  # fmt: skip
