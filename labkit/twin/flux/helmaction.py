"""What Helm does with a release: install, upgrade, roll back, uninstall, and wait until it works."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from labkit.twin.charts.catalogue import Found
from labkit.twin.charts.release import Release
from labkit.twin.controllers.objects import annotations_of, meta
from labkit.twin.faults import Faults
from labkit.twin.flux.applying import Applier, ApplyFailed, ordered, owned
from labkit.twin.flux.health import find, reference_of, waits_for
from labkit.twin.flux.storage import Revision, load, remove, save, trim
from labkit.twin.kube.clock import stamp
from labkit.twin.kube.door import Clock, Object
from labkit.twin.kube.local import LocalApi

_POLL = 2.0
_LEAST = 0.02
_RELEASE, _SPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
_DEFINITION = "CustomResourceDefinition"


class ActionFailed(Exception):
    """What Helm said."""


class Helm:
    """Carry out actions on releases.

    Args:
        api: the door of the API server.
        clock: the twin's time.
        faults: `chart-fails` strikes here.
    """

    def __init__(self, api: LocalApi, clock: Clock, faults: Faults) -> None:
        self._api = api
        self._clock = clock
        self._faults = faults
        self._applier = Applier(api, "helm-controller")

    def objects(self, found: Found, release: Release, labels: dict[str, str]) -> list[Object]:
        """Return what a chart makes of its values, marked as Helm marks it."""
        notes = {_RELEASE: release.name, _SPACE: release.namespace}
        return ordered(owned(found.chart.render(release), labels, notes))

    async def deploy(
        self, found: Found, release: Release, objects: list[Object], *, action: str, crds: bool, limit: float,
        wait: bool, keep: int,
    ) -> Revision:  # fmt: skip
        """Install or upgrade; return the new revision, or raise ActionFailed after recording one that failed."""
        old = load(self._api, release.namespace, release.name)
        revision = self._begin(release, objects, old[0] if old else None)
        try:
            self._strike(release, action)
            if not old:
                self._refuse_others(release, objects)
            if crds:
                await self._applier.apply(ordered(found.chart.crds(release)))
            await self._replace(old[0].objects if old else [], objects)
            if wait:
                await self._wait(objects, limit)
        except (ActionFailed, ApplyFailed) as exc:
            revision.status, revision.description = "failed", f"{action.capitalize()} failed: {exc}"
            self._save(revision)
            raise ActionFailed(str(exc)) from exc
        self._supersede(old)
        revision.status, revision.description = "deployed", f"{action.capitalize()} complete"
        self._save(revision)
        trim(self._api, release.namespace, release.name, keep)
        return revision

    async def correct(self, objects: list[Object]) -> None:
        """Apply the objects of a release again, as drift detection does; raise ActionFailed."""
        try:
            await self._applier.apply(objects)
        except ApplyFailed as exc:
            raise ActionFailed(str(exc)) from exc

    async def roll_back(self, namespace: str, name: str) -> Revision:
        """Go back to the last revision that worked; raise ActionFailed when there is none."""
        old = load(self._api, namespace, name)
        good = next((one for one in old if one.status in {"superseded", "deployed"}), None)
        if good is None:
            raise ActionFailed("unable to find target for rollback: no previous release")
        await self._replace(old[0].objects, good.objects)
        new = copy.copy(good)
        new.number, new.last = old[0].number + 1, stamp(self._clock.now())
        new.status, new.description = "deployed", f"Rollback to {good.number}"
        self._supersede([one for one in old if one.status == "deployed"])
        self._save(new)
        return new

    def uninstall(self, namespace: str, name: str) -> None:
        """Delete the objects of a release and its records; CRDs stay."""
        for revision in load(self._api, namespace, name)[:1]:
            for obj in reversed(revision.objects):
                self._delete(obj)
        remove(self._api, namespace, name)

    def _begin(self, release: Release, objects: list[Object], last: Revision | None) -> Revision:
        now = stamp(self._clock.now())
        return Revision(
            release.name, release.namespace, last.number + 1 if last else 1, "pending", release.chart, release.version,
            release.app_version, last.first if last else now, now, "", dict(release.values), objects,
        )  # fmt: skip

    def _strike(self, release: Release, action: str) -> None:
        if self._faults.has("chart-fails", release.name) or self._faults.has("chart-fails", release.chart):
            hook = f"{release.name}-pre-{action}"
            raise ActionFailed(f"failed pre-{action}: 1 error occurred:\n\t* job {hook} failed: BackoffLimitExceeded")

    def _refuse_others(self, release: Release, objects: Sequence[Object]) -> None:
        """Refuse to take over objects that are not of this release, as Helm does."""
        for obj in objects:
            there = find(self._api, reference_of(obj))
            if there is not None and annotations_of(there).get(_RELEASE) != release.name:
                where = f' in namespace "{meta(obj)["namespace"]}"' if meta(obj).get("namespace") else ""
                raise ActionFailed(
                    f'Unable to continue with install: {obj["kind"]} "{meta(obj)["name"]}"{where} exists and cannot be '
                    f'imported into the current release: invalid ownership metadata; annotation validation error: '
                    f'missing key "{_RELEASE}": must be set to "{release.name}"'
                )  # fmt: skip

    async def _replace(self, old: Sequence[Object], new: Sequence[Object]) -> None:
        await self._applier.apply(list(new))
        kept = {reference_of(obj) for obj in new}
        for obj in old:
            if reference_of(obj) not in kept:
                self._delete(obj)

    async def _wait(self, objects: Sequence[Object], limit: float) -> None:
        left, wanted = limit, [reference_of(obj) for obj in objects]
        pause = max(_POLL, _LEAST / self._clock.scale)
        while (state := waits_for(self._api, wanted))[0]:
            if state[1]:
                raise ActionFailed(f"resources not ready: [{', '.join(state[0])}]")
            if left <= 0:
                raise ActionFailed(f"timeout waiting for: [{', '.join(state[0])}]")
            await self._clock.sleep(pause)
            left -= pause

    def _delete(self, obj: Object) -> None:
        found = self._api.core.registry.of_kind(obj["apiVersion"], obj["kind"])
        if found is not None and obj["kind"] != _DEFINITION:
            self._api.delete(found.key, meta(obj)["name"], meta(obj).get("namespace", ""))

    def _supersede(self, revisions: Sequence[Revision]) -> None:
        for one in revisions:
            if one.status == "deployed":
                one.status = "superseded"
                self._save(one)

    def _save(self, revision: Revision) -> None:
        save(self._api, revision, int(self._clock.now()))


def snapshot(revision: Revision, digest: str) -> dict[str, Any]:
    """Return a revision as it stands in the history of a HelmRelease."""
    return {
        "name": revision.name, "namespace": revision.namespace, "version": revision.number, "status": revision.status,
        "chartName": revision.chart, "chartVersion": revision.version, "appVersion": revision.app_version,
        "configDigest": digest, "digest": digest, "firstDeployed": revision.first, "lastDeployed": revision.last,
    }  # fmt: skip
