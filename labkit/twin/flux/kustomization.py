"""Kustomization: build, apply, prune, check the health, in the steps and words of the kustomize controller."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Hashable, Mapping
from typing import Any

from labkit.twin.controllers.framework import Result
from labkit.twin.controllers.objects import (
    condition,
    is_true,
    meta,
    name_of,
    namespace_of,
    spec_of,
    status_of,
)
from labkit.twin.flux.applying import Applied, Applier, ApplyFailed, owned
from labkit.twin.flux.base import GITS, KUSTOMIZATIONS, OCIS, REQUEUE, FluxController, Marks, failed
from labkit.twin.flux.build import BuildFailed, Wish, build
from labkit.twin.flux.decrypt import is_encrypted
from labkit.twin.flux.durations import parse_duration, show_duration
from labkit.twin.flux.gate import DEPLOYMENTS
from labkit.twin.flux.health import Reference, reference_of, waits_for
from labkit.twin.flux.inventory import entries_of, prune
from labkit.twin.kube.door import Event, Object

_GROUP = "kustomize.toolkit.fluxcd.io"
_POLL = 5.0
_LEAST = 0.02
_HISTORY = 5
_SOURCES = {"GitRepository": GITS, "OCIRepository": OCIS}
_BUCKET = "buckets.source.toolkit.fluxcd.io"


class StepBroke(Exception):
    """A step failed: the reason of the condition and its message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Kustomizations(FluxController):
    """The kustomize controller."""

    name = program = "kustomize-controller"
    resource = KUSTOMIZATIONS
    watches = (KUSTOMIZATIONS, GITS, OCIS, DEPLOYMENTS)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._applier = Applier(self.api, "kustomize-controller")
        self._built: dict[tuple[str, str], tuple[str, list[Object]]] = {}

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Return the object's own key, and those that depend on it."""
        found = super().keys(event)
        if event.resource == KUSTOMIZATIONS:
            found += [key for key in self._dependents(event.object) if key not in found]
        return found

    def others(self, event: Event) -> list[tuple[str, str]]:
        """Return the Kustomizations of a source."""
        source = (event.object["kind"], namespace_of(event.object), name_of(event.object))
        return [_key(one) for one in self.api.list(KUSTOMIZATIONS) if _source_key(one) == source]

    def stamp(self, obj: Object) -> Hashable:
        """A new revision and a change of what it depends on make it due too."""
        source = self._source(obj)
        artifact = status_of(source or {}).get("artifact") or {}
        waiting = (condition(obj, "Ready") or {}).get("reason") == "DependencyNotReady"
        return super().stamp(obj), artifact.get("revision"), waiting and self._unready(obj, artifact.get("revision"))

    def _dependents(self, obj: Object) -> list[tuple[str, str]]:
        own = _key(obj)
        return [_key(one) for one in self.api.list(KUSTOMIZATIONS) if own in _dependencies(one)]

    def _source(self, obj: Object) -> Object | None:
        kind, namespace, name = _source_key(obj)
        return self.api.get(_SOURCES.get(kind, _BUCKET), name, namespace)

    async def work(self, obj: Object) -> Result:
        """Reconcile one Kustomization."""
        source = self._source(obj)
        if source is None:
            kind, _, name = _source_key(obj)
            resource = _SOURCES.get(kind, _BUCKET)
            self._stop(obj, "ArtifactFailed", f'{resource} "{name}" not found')
            return _retry(obj)
        revision = (status_of(source).get("artifact") or {}).get("revision", "")
        if not revision:
            self._stop(obj, "ArtifactFailed", f"Source artifact not found, retrying in {show_duration(REQUEUE)}")
            return REQUEUE
        if why := self._unready(obj, revision):
            self._stop(obj, "DependencyNotReady", why)
            text = f"Dependencies do not meet ready condition, retrying in {show_duration(REQUEUE)}"
            self.events.normal(obj, "DependencyNotReady", text)
            return REQUEUE
        return await self._reconcile(obj, revision)

    def _stop(self, obj: Object, reason: str, message: str) -> None:
        self.mark(obj, Marks().false("Ready", reason, message).drop("Reconciling"), **self.handled(obj))

    def _unready(self, obj: Object, revision: str | None) -> str:
        """Say which dependency is not ready, "" when all are."""
        for namespace, name in _dependencies(obj):
            shown = f"dependency '{namespace}/{name}'"
            other = self.api.get(KUSTOMIZATIONS, name, namespace)
            if other is None:
                return f'{shown} not found: kustomizations.{_GROUP} "{name}" not found'
            current = status_of(other).get("observedGeneration") == meta(other).get("generation")
            if not current or not is_true(other, "Ready"):
                return f"{shown} is not ready"
            if _source_key(other) == _source_key(obj) and status_of(other).get("lastAppliedRevision") != revision:
                return f"{shown} revision is not up to date"
        return ""

    async def _reconcile(self, obj: Object, revision: str) -> Result:
        started = self.time()
        limit = show_duration(_timeout(obj))
        self._progress(obj, f"Fetching manifests for revision {revision} with a timeout of {limit}")
        record = _History(status_of(obj).get("history") or [], revision, self.now())
        try:
            objects = await self._build(obj, revision)
            record.digest = _digest(objects)
            self._progress(obj, f"Detecting drift for revision {revision} with a timeout of {limit}",
                           lastAttemptedRevision=revision)  # fmt: skip
            applied = await self._apply(obj, objects)
            self._prune(obj, applied)
            await self._check(obj, applied, revision)
        except StepBroke as broken:
            entries = record.with_end(broken.reason, self.time() - started)
            self.mark(obj, failed(broken.reason, str(broken)), lastAttemptedRevision=revision, history=entries,
                      **self.handled(obj))  # fmt: skip
            self.events.warning(obj, broken.reason, str(broken))
            return _retry(obj)
        text = f"Applied revision: {revision}"
        marks = Marks().true("Ready", "ReconciliationSucceeded", text).drop("Reconciling", "Stalled")
        entries = record.with_end("ReconciliationSucceeded", self.time() - started)
        self.mark(obj, marks, lastAppliedRevision=revision, lastAttemptedRevision=revision, history=entries,
                  observedGeneration=meta(obj).get("generation", 1), **self.handled(obj))  # fmt: skip
        self.log.info("%s is ready", name_of(obj))
        self.events.normal(obj, "ReconciliationSucceeded", f"Reconciliation finished, next run in "
                           f"{show_duration(self.interval(obj))}")  # fmt: skip
        return self.interval(obj)

    def _progress(self, obj: Object, text: str, **status: Any) -> None:
        marks = Marks().unknown("Ready", "Progressing", "Reconciliation in progress")
        self.mark(obj, marks.true("Reconciling", "Progressing", text), **status)

    async def _build(self, obj: Object, revision: str) -> list[Object]:
        spec = spec_of(obj)
        root = self.around.artifacts.path(_source_key(obj), revision)
        if root is None:
            raise StepBroke("ArtifactFailed", "Source is not ready, artifact not found, retrying in 30s")
        wish = Wish(root, spec, self._age_keys(obj), self._values(obj), self.around.folder)
        print_of = _wish_digest(wish)
        key = _key(obj)
        if self._built.get(key, ("", []))[0] != print_of:
            try:
                self._built[key] = (print_of, await self.around.work(build, wish))
            except BuildFailed as exc:
                raise StepBroke(exc.reason, str(exc)) from exc
        return self._built[key][1]

    def _age_keys(self, obj: Object) -> str | None:
        wanted = spec_of(obj).get("decryption")
        if not wanted:
            return None
        name = (wanted.get("secretRef") or {}).get("name")
        if not name:
            return ""
        secret = self.api.get("secrets", name, namespace_of(obj))
        if secret is None:
            text = f"cannot get sops Secret '{namespace_of(obj)}/{name}': secrets \"{name}\" not found"
            raise StepBroke("BuildFailed", text)
        data = secret.get("data") or {}
        texts = [base64.b64decode(data[key]).decode("utf-8", "replace") for key in data if key.endswith(".agekey")]
        return "\n".join(texts)

    def _values(self, obj: Object) -> dict[str, str] | None:
        wanted = spec_of(obj).get("postBuild")
        if not wanted:
            return None
        values: dict[str, str] = {}
        for source in wanted.get("substituteFrom") or []:
            resource = "secrets" if source["kind"] == "Secret" else "configmaps"
            found = self.api.get(resource, source["name"], namespace_of(obj))
            if found is None:
                if source.get("optional"):
                    continue
                why = f'{resource} "{source["name"]}" not found'
                text = f"substitute from '{source['kind']}/{source['name']}' error: {why}"
                raise StepBroke("BuildFailed", text)
            for name, value in (found.get("data") or {}).items():
                values[name] = base64.b64decode(value).decode() if resource == "secrets" else value
        return {**values, **{name: str(value) for name, value in (wanted.get("substitute") or {}).items()}}

    async def _apply(self, obj: Object, objects: list[Object]) -> Applied:

        for one in objects:
            if one["kind"] == "Secret" and is_encrypted(one):
                shown = "/".join(part for part in ("Secret", namespace_of(one), name_of(one)) if part)
                why = "is SOPS encrypted, configuring decryption is required for this secret to be reconciled"
                raise StepBroke("ReconciliationFailed", f"{shown} {why}")
        common = spec_of(obj).get("commonMetadata") or {}
        labels = {**(common.get("labels") or {}), **_owner(obj)}
        try:
            applied = await self._applier.apply(
                [_normal(one) for one in owned(objects, labels, common.get("annotations"))],
                force=bool(spec_of(obj).get("force")),
            )
        except ApplyFailed as exc:
            raise StepBroke("ReconciliationFailed", str(exc)) from exc
        if applied.changes:
            self.events.normal(obj, "Progressing", "\n".join(applied.changes))
        return applied

    def _prune(self, obj: Object, applied: Applied) -> None:
        old = (status_of(self.fresh(obj)).get("inventory") or {}).get("entries") or []
        new = entries_of(applied.objects)
        kept = {entry["id"] for entry in new}
        self.mark(obj, Marks(), inventory={"entries": new})
        if spec_of(obj).get("prune"):
            gone = prune(self.api, [entry for entry in old if entry["id"] not in kept], _owner(obj))
            if gone:
                self.events.normal(obj, "ReconciliationSucceeded", "\n".join(gone))

    async def _check(self, obj: Object, applied: Applied, revision: str) -> None:
        """Wait until everything is as it should be; raise StepBroke when the time is over."""
        spec = spec_of(obj)
        wanted = [reference_of(one) for one in applied.objects] if spec.get("wait") else _checks(obj)
        own = ("Kustomization", namespace_of(obj), name_of(obj))
        wanted = [one for one in wanted if (one.kind, one.namespace, one.name) != own]
        if not wanted:
            self.mark(obj, Marks().drop("Healthy"))
            return
        limit, started = _timeout(obj), self.time()
        text = f"Running health checks for revision {revision} with a timeout of {show_duration(limit)}"
        marks = Marks().true("Reconciling", "Progressing", text).unknown("Healthy", "Progressing", text)
        self.mark(obj, marks)
        while True:
            open_ones, hopeless = waits_for(self.api, wanted)
            took = self.time() - started
            if not open_ones:
                break
            if hopeless or took >= limit:
                head = "failed early due to stalled resources" if hopeless else "timeout waiting for"
                message = f"health check failed after {show_duration(took)}: {head}: [{', '.join(open_ones)}]"
                self.mark(obj, Marks().false("Healthy", "HealthCheckFailed", message))
                raise StepBroke("HealthCheckFailed", message)
            await self.clock.sleep(max(_POLL, _LEAST / self.clock.scale))
        self.mark(obj, Marks().true("Healthy", "Succeeded", f"Health check passed in {show_duration(took)}"))

    async def end(self, obj: Object) -> None:
        """Take away what a Kustomization manages, as its deletion policy says."""
        policy = spec_of(obj).get("deletionPolicy", "MirrorPrune")
        goes = policy in {"Delete", "WaitForTermination"} or (policy == "MirrorPrune" and spec_of(obj).get("prune"))
        if goes and not spec_of(obj).get("suspend"):
            prune(self.api, (status_of(obj).get("inventory") or {}).get("entries") or [], _owner(obj))


class _History:
    """The history in a Kustomization's status: one entry for each state that was built."""

    def __init__(self, entries: list[dict[str, Any]], revision: str, now: str) -> None:
        self._entries = entries
        self._revision = revision
        self._now = now
        self.digest = ""

    def with_end(self, reason: str, seconds: float) -> list[dict[str, Any]]:
        """Return the entries with this reconciliation in front; a build that failed leaves none."""
        if not self.digest:
            return self._entries
        same = next((one for one in self._entries if one.get("digest") == self.digest), None)
        entry = {
            "digest": self.digest, "firstReconciled": (same or {}).get("firstReconciled", self._now),
            "lastReconciled": self._now, "lastReconciledDuration": show_duration(seconds),
            "lastReconciledStatus": reason, "metadata": {"revision": self._revision},
            "totalReconciliations": (same or {}).get("totalReconciliations", 0) + 1,
        }  # fmt: skip
        return [entry, *(one for one in self._entries if one is not same)][:_HISTORY]


def _key(obj: Object) -> tuple[str, str]:
    return namespace_of(obj), name_of(obj)


def _source_key(obj: Object) -> tuple[str, str, str]:
    ref = spec_of(obj).get("sourceRef") or {}
    return ref.get("kind", ""), ref.get("namespace") or namespace_of(obj), ref.get("name", "")


def _dependencies(obj: Object) -> list[tuple[str, str]]:
    return [(one.get("namespace") or namespace_of(obj), one["name"]) for one in spec_of(obj).get("dependsOn") or []]


def _owner(obj: Object) -> dict[str, str]:
    return {f"{_GROUP}/name": name_of(obj), f"{_GROUP}/namespace": namespace_of(obj)}


def _timeout(obj: Object) -> float:
    interval = parse_duration(spec_of(obj).get("interval"), 60.0)
    return parse_duration(spec_of(obj).get("timeout"), max(interval - 30.0, 30.0))


def _retry(obj: Object) -> float:
    return parse_duration(spec_of(obj).get("retryInterval"), parse_duration(spec_of(obj).get("interval"), 60.0))


def _checks(obj: Object) -> list[Reference]:
    return [
        Reference(one.get("apiVersion", "v1"), one["kind"], one["name"], one.get("namespace") or namespace_of(obj))
        for one in spec_of(obj).get("healthChecks") or []
    ]


def _normal(obj: Object) -> Object:
    """Write the clear strings of a Secret as data, as the controller does before it applies."""
    clear = obj.pop("stringData", None) if obj["kind"] == "Secret" else None
    if clear:
        data = {key: base64.b64encode(str(value).encode()).decode() for key, value in clear.items()}
        obj["data"] = {**(obj.get("data") or {}), **data}
    return obj


def _digest(tree: Any) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()


def _wish_digest(wish: Wish) -> str:
    spec: Mapping[str, Any] = wish.spec
    return _digest([str(wish.root), spec, wish.age_keys, wish.values])
