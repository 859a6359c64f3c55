"""HelmRelease: find the chart, put the values together, install, upgrade, remediate, as the helm controller does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.twin.charts.catalogue import ChartMissing, Found
from labkit.twin.charts.release import Release
from labkit.twin.controllers.framework import Result
from labkit.twin.controllers.objects import (
    annotations_of,
    condition,
    is_true,
    meta,
    name_of,
    namespace_of,
    spec_of,
    status_of,
)
from labkit.twin.flux.base import CHARTS, FORCED, OCIS, RELEASES, REQUEUE, RESET, FluxController, Marks
from labkit.twin.flux.durations import parse_duration, show_duration
from labkit.twin.flux.gate import DEPLOYMENTS
from labkit.twin.flux.helmaction import ActionFailed, Helm, snapshot
from labkit.twin.flux.storage import Revision, load
from labkit.twin.flux.values import ValuesWrong, values_of
from labkit.twin.kube.door import Event, Object

_GROUP = "helm.toolkit.fluxcd.io"
_LIMIT = 300.0
_KEPT = 5
_COUNTERS = {"install": "installFailures", "upgrade": "upgradeFailures"}
_WORDS = {"install": "Install", "upgrade": "Upgrade"}


class NotYet(Exception):
    """Something that a release needs is not there: the reason and the message of its condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Plan:
    """A release as it should be: the chart, the release, its objects, and a digest of the values."""

    found: Found
    release: Release
    objects: list[Object]
    digest: str

    @property
    def chart(self) -> str:
        """The chart as messages name it."""
        return f"{self.release.chart}@{self.release.version}"


class HelmReleases(FluxController):
    """The helm controller."""

    name = program = "helm-controller"
    resource = RELEASES
    watches = (RELEASES, CHARTS, OCIS, DEPLOYMENTS)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._helm = Helm(self.api, self.clock, self.around.faults)

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Return the object's own key, and those that depend on it."""
        found = super().keys(event)
        if event.resource == RELEASES:
            own = (namespace_of(event.object), name_of(event.object))
            found += [_key(one) for one in self.api.list(RELEASES) if own in _dependencies(one)]
        return found

    def others(self, event: Event) -> list[tuple[str, str]]:
        """Return the releases of a chart."""
        chart = (event.object["kind"], namespace_of(event.object), name_of(event.object))
        return [_key(one) for one in self.api.list(RELEASES) if _chart_key(one) == chart]

    def stamp(self, obj: Object) -> Hashable:
        """A chart's new version and a dependency that has become ready make it due too."""
        chart = self._chart_object(obj)
        artifact = status_of(chart or {}).get("artifact") or {}
        said = (condition(chart or {}, "Ready") or {}).get("message")
        waiting = (condition(obj, "Ready") or {}).get("reason") == "DependencyNotReady"
        return super().stamp(obj), artifact.get("revision"), said, waiting and self._unready(obj)

    def _chart_object(self, obj: Object) -> Object | None:
        kind, namespace, name = _chart_key(obj)
        return self.api.get({"HelmChart": CHARTS, "OCIRepository": OCIS}.get(kind, ""), name, namespace)

    def _unready(self, obj: Object) -> str:
        for namespace, name in _dependencies(obj):
            other = self.api.get(RELEASES, name, namespace)
            shown = f"dependency '{namespace}/{name}'"
            if other is None:
                return f'unable to get {shown}: helmreleases.{_GROUP} "{name}" not found'
            current = status_of(other).get("observedGeneration") == meta(other).get("generation")
            if not current or not is_true(other, "Ready"):
                return f"{shown} is not ready"
        return ""

    async def work(self, obj: Object) -> Result:
        """Bring one release to its wanted state, as far as its retries reach."""
        try:
            plan = self._plan(obj)
        except NotYet as exc:
            marks = Marks().false("Ready", exc.reason, str(exc))
            marks.true("Reconciling", "ProgressingWithRetry", str(exc)) if exc.reason != "DependencyNotReady" else None
            self.mark(obj, marks, **self.handled(obj))
            return REQUEUE
        self._reset(obj, plan)
        forced = self._is_forced(obj)
        while (action := self._action(obj, plan, forced=forced)) is not None:
            forced = False
            if not await self._attempt(obj, plan, action):
                return self.interval(obj)
        await self._settle(obj, plan)
        return self.interval(obj)

    def _plan(self, obj: Object) -> Plan:
        """Put together what is wanted; raise NotYet when something for that is missing."""
        if why := self._unready(obj):
            raise NotYet("DependencyNotReady", why)
        chart, version = self._chart(obj)
        try:
            found = self.around.catalogue.find(chart, version)
        except ChartMissing as exc:
            raise NotYet("ArtifactFailed", str(exc)) from exc
        try:
            values = values_of(self.api, obj)
        except ValuesWrong as exc:
            raise NotYet("ValuesError", str(exc)) from exc
        name, namespace = _release_key(obj)
        release = found.release(name, namespace, values)
        labels = {f"{_GROUP}/name": name_of(obj), f"{_GROUP}/namespace": namespace_of(obj)}
        digest = "sha256:" + hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
        return Plan(found, release, self._helm.objects(found, release, labels), digest)

    def _chart(self, obj: Object) -> tuple[str, str]:
        """Return the chart's name and version; raise NotYet while its source is not ready."""
        if spec_of(obj).get("chart"):
            self._make_chart(obj)
        kind, namespace, name = _chart_key(obj)
        found, shown = self._chart_object(obj), f"{kind} '{namespace}/{name}'"
        if found is None:
            raise NotYet("SourceNotReady", f'could not get Source object: {kind.lower()}s "{name}" not found')
        current = status_of(found).get("observedGeneration") == meta(found).get("generation")
        if not current or not is_true(found, "Ready"):
            said = (condition(found, "Ready") or {}).get("message")
            why = said or "latest generation of object has not been reconciled"
            raise NotYet("SourceNotReady", f"{shown} is not ready: {why}")
        revision = str(status_of(found)["artifact"]["revision"])
        if kind == "HelmChart":
            return str(spec_of(found)["chart"]).rpartition("/")[2], revision
        return str(spec_of(found)["url"]).rstrip("/").rpartition("/")[2], revision.partition("@")[0]

    def _make_chart(self, obj: Object) -> None:
        spec = spec_of(obj)["chart"]["spec"]
        _, namespace, name = _chart_key(obj)
        wanted: dict[str, Any] = {
            "chart": spec["chart"], "version": spec.get("version", "*"),
            "interval": spec.get("interval") or spec_of(obj)["interval"],
            "reconcileStrategy": spec.get("reconcileStrategy", "ChartVersion"),
            "sourceRef": {key: spec["sourceRef"][key] for key in ("kind", "name")},
        }  # fmt: skip
        labels = {f"{_GROUP}/name": name_of(obj), f"{_GROUP}/namespace": namespace_of(obj)}
        body = {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "HelmChart",
                "metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": wanted}  # fmt: skip
        self.api.apply(body, manager="helm-controller", force=True)
        shown = f"{namespace}/{name}"
        if status_of(self.fresh(obj)).get("helmChart") != shown:
            self.mark(obj, Marks(), helmChart=shown)

    def _reset(self, obj: Object, plan: Plan) -> None:
        """Count failures anew when what is wanted has changed, or a person asks for it."""
        state = status_of(self.fresh(obj))
        asked, done = annotations_of(obj).get(RESET), state.get("lastHandledResetAt")
        attempted = (state.get("lastAttemptedGeneration"), state.get("lastAttemptedRevision"),
                     state.get("lastAttemptedConfigDigest"))  # fmt: skip
        wanted = (meta(obj).get("generation"), plan.release.version, plan.digest)
        if attempted != wanted or (asked and asked != done):
            extra = {"lastHandledResetAt": asked} if asked else {}
            self.mark(obj, Marks().drop("Stalled"), failures=None, installFailures=None, upgradeFailures=None,
                      lastAttemptedGeneration=wanted[0], lastAttemptedRevision=wanted[1],
                      lastAttemptedConfigDigest=wanted[2], **extra)  # fmt: skip

    def _is_forced(self, obj: Object) -> bool:
        asked = annotations_of(obj).get(FORCED)
        if not asked or asked == status_of(self.fresh(obj)).get("lastHandledForceAt"):
            return False
        self.mark(obj, Marks(), lastHandledForceAt=asked)
        return True

    def _action(self, obj: Object, plan: Plan, *, forced: bool) -> str | None:
        """Return what is to be done now; None when all is well or no retry is left."""
        records = load(self.api, plan.release.namespace, plan.release.name)
        action = "upgrade" if any(one.status in {"deployed", "superseded"} for one in records) else "install"
        failures = int(status_of(self.fresh(obj)).get(_COUNTERS[action]) or 0)
        if failures > _retries(obj, action) >= 0:
            return None
        if not records or forced or failures or records[0].status != "deployed":
            return action
        same = records[0].version == plan.release.version and records[0].config == dict(plan.release.values)
        return None if same else action

    async def _attempt(self, obj: Object, plan: Plan, action: str) -> bool:
        """Do one install or upgrade; tell whether there is something to go on with."""
        limit = parse_duration(spec_of(obj).get("timeout"), _LIMIT)
        text = f"Running '{action}' action with timeout of {show_duration(limit)}"
        marks = Marks().true("Reconciling", "Progressing", text).unknown("Ready", "Progressing", text)
        self.mark(obj, marks, lastAttemptedReleaseAction=action, lastAttemptedRevision=plan.release.version)
        options = spec_of(obj).get(action) or {}
        if action == "install" and options.get("createNamespace"):
            self.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": plan.release.namespace}},
                           manager="helm-controller", force=True)  # fmt: skip
        policy = options.get("crds") or ("Create" if action == "install" else "Skip")
        try:
            revision = await self._helm.deploy(
                plan.found, plan.release, plan.objects, action=action, limit=limit, keep=_history(obj),
                crds=policy != "Skip", wait=not options.get("disableWait"),
            )  # fmt: skip
        except ActionFailed as exc:
            return await self._lost(obj, plan, action, str(exc))
        done = f"Helm {action} succeeded for release {_shown(revision)} with chart {plan.chart}"
        marks = Marks().true("Released", f"{_WORDS[action]}Succeeded", done).drop("Remediated", "Stalled")
        self.mark(obj, marks, failures=None, installFailures=None, upgradeFailures=None, **self._record(plan))
        self.events.normal(obj, f"{_WORDS[action]}Succeeded", done)
        return True

    async def _lost(self, obj: Object, plan: Plan, action: str, why: str) -> bool:
        """Count a failure, remediate, and tell whether another try is left."""
        reason, counter = f"{_WORDS[action]}Failed", _COUNTERS[action]
        where = f"{plan.release.namespace}/{plan.release.name}"
        text = f"Helm {action} failed for release {where} with chart {plan.chart}: {why}"
        state = status_of(self.fresh(obj))
        count, retries = int(state.get(counter) or 0) + 1, _retries(obj, action)
        self.mark(obj, Marks().false("Released", reason, text).false("Ready", reason, text), **{counter: count},
                  failures=int(state.get("failures") or 0) + 1, **self._record(plan))  # fmt: skip
        self.events.warning(obj, reason, text)
        left = retries < 0 or count <= retries
        last = (spec_of(obj).get(action) or {}).get("remediation") or {}
        if retries and (left or last.get("remediateLastFailure", action == "upgrade")):
            await self._remediate(obj, plan, action)
        if left:
            await self.clock.sleep(1.0)
            return True
        stalled = f"Failed to {action} after {count} attempt(s)"
        marks = Marks().true("Stalled", "RetriesExceeded", stalled).drop("Reconciling")
        self.mark(obj, marks, observedGeneration=meta(obj).get("generation", 1), **self.handled(obj))
        return False

    async def _remediate(self, obj: Object, plan: Plan, action: str) -> None:
        name, namespace = plan.release.name, plan.release.namespace
        strategy = ((spec_of(obj).get(action) or {}).get("remediation") or {}).get("strategy", "rollback")
        if action == "install" or strategy == "uninstall":
            self._helm.uninstall(namespace, name)
            text = f"Helm uninstall remediation for release {namespace}/{name}.v1 with chart {plan.chart} succeeded"
            self.mark(obj, Marks().true("Remediated", "UninstallSucceeded", text))
            return
        try:
            back = await self._helm.roll_back(namespace, name)
        except ActionFailed as exc:
            self.mark(obj, Marks().false("Remediated", "RollbackFailed", f"Helm rollback failed: {exc}"))
            return
        text = f"Helm rollback to previous release {_shown(back)} with chart {back.chart}@{back.version} succeeded"
        marks = Marks().true("Remediated", "RollbackSucceeded", text).false("Ready", "RollbackSucceeded", text)
        self.mark(obj, marks, **self._record(plan))

    async def _settle(self, obj: Object, plan: Plan) -> None:
        """Write that the release is as it should be, or that no retry is left."""
        generation, state = meta(obj).get("generation", 1), self.fresh(obj)
        if is_true(state, "Stalled"):
            self.mark(obj, Marks(), observedGeneration=generation, **self.handled(obj))
            return
        if (spec_of(obj).get("driftDetection") or {}).get("mode") == "enabled":
            await self._helm.correct(plan.objects)
        released = condition(state, "Released") or {}
        record = load(self.api, plan.release.namespace, plan.release.name)[0]
        done = f"Helm install succeeded for release {_shown(record)} with chart {plan.chart}"
        marks = Marks().true("Ready", released.get("reason", "InstallSucceeded"), released.get("message", done))
        self.mark(obj, marks.drop("Reconciling", "Stalled"), observedGeneration=generation,
                  **self._record(plan), **self.handled(obj))  # fmt: skip

    def _record(self, plan: Plan) -> dict[str, Any]:
        """Return the history and where the release is kept."""
        records = load(self.api, plan.release.namespace, plan.release.name)[:_KEPT]
        entries = [snapshot(one, _digest(one.config)) for one in records]
        return {"history": entries, "storageNamespace": plan.release.namespace}

    async def end(self, obj: Object) -> None:
        """Uninstall a release whose HelmRelease is deleted, and delete its chart."""
        if not spec_of(obj).get("suspend"):
            name, namespace = _release_key(obj)
            self._helm.uninstall(namespace, name)
        if spec_of(obj).get("chart"):
            _, namespace, name = _chart_key(obj)
            self.api.delete(CHARTS, name, namespace)


def _key(obj: Object) -> tuple[str, str]:
    return namespace_of(obj), name_of(obj)


def _dependencies(obj: Object) -> list[tuple[str, str]]:
    return [(one.get("namespace") or namespace_of(obj), one["name"]) for one in spec_of(obj).get("dependsOn") or []]


def _chart_key(obj: Object) -> tuple[str, str, str]:
    ref = spec_of(obj).get("chartRef")
    if ref:
        return ref["kind"], ref.get("namespace") or namespace_of(obj), ref["name"]
    source = ((spec_of(obj).get("chart") or {}).get("spec") or {}).get("sourceRef") or {}
    return "HelmChart", source.get("namespace") or namespace_of(obj), f"{namespace_of(obj)}-{name_of(obj)}"


def _release_key(obj: Object) -> tuple[str, str]:
    target = spec_of(obj).get("targetNamespace")
    default = f"{target}-{name_of(obj)}" if target else name_of(obj)
    return spec_of(obj).get("releaseName") or default, target or namespace_of(obj)


def _retries(obj: Object, action: str) -> int:
    remediation = (spec_of(obj).get(action) or {}).get("remediation") or {}
    return int(remediation.get("retries") or 0)


def _history(obj: Object) -> int:
    most = spec_of(obj).get("maxHistory")
    return _KEPT if most is None else int(most)


def _shown(revision: Revision) -> str:
    return f"{revision.namespace}/{revision.name}.v{revision.number}"


def _digest(values: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()
