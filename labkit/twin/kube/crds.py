"""CustomResourceDefinitions at work: what they serve, when they are established, and how they end."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.clone import clone
from labkit.twin.kube.core import Core
from labkit.twin.kube.deletion import CLEANUP, CRDS, delete
from labkit.twin.kube.door import Clock, Object
from labkit.twin.kube.options import DeleteOptions
from labkit.twin.kube.resources import Resource, ScalePaths
from labkit.twin.kube.schema import custom_shape
from labkit.twin.kube.status import qualified
from labkit.twin.kube.store import Change


class Definitions:
    """Keep the registry in step with the CRDs that are stored."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._ending: set[str] = set()
        core.store.hooks.append(self._changed)

    def _changed(self, key: str, change: Change) -> None:
        if key == CRDS:
            self._definition(change)
        elif change.type == "DELETED" and key in self._ending:
            self._finish(key)

    def _definition(self, change: Change) -> None:
        crd = change.record.object
        key = qualified(crd["spec"]["names"]["plural"], crd["spec"]["group"])
        if change.type == "DELETED":
            self._ending.discard(key)
            self.core.registry.replace(key, [], None)
        elif crd["metadata"].get("deletionTimestamp"):
            if key not in self._ending:
                self._ending.add(key)
                self._clean(key)
        else:
            if change.before is None or change.before.object["spec"] != crd["spec"]:
                served = [_resource(crd, version) for version in crd["spec"]["versions"]]
                storage = next(r for r in served if r.version_spec and r.version_spec.get("storage"))
                shown = [r for r in served if r.version_spec and r.version_spec.get("served")]
                self.core.registry.replace(key, shown, storage)
            self._establish(crd)

    def _establish(self, crd: Object) -> None:
        names, now = crd["spec"]["names"], self.core.now()
        state = crd.get("status", {})
        storage = next(v["name"] for v in crd["spec"]["versions"] if v.get("storage"))
        stored = list(dict.fromkeys([*state.get("storedVersions", []), storage]))
        known = {c["type"]: c for c in state.get("conditions") or []}
        conditions = [
            known.get("NamesAccepted") or _condition("NamesAccepted", "NoConflicts", "no conflicts found", now),
            known.get("Established")
            or _condition("Established", "InitialNamesAccepted", "the initial names have been accepted", now),
        ]
        wanted = {"acceptedNames": names, "conditions": conditions, "storedVersions": stored}
        if {k: state.get(k) for k in wanted} != wanted:
            new = clone(crd)
            new["status"] = {**state, **clone(wanted)}
            self.core.store.put(CRDS, new)

    def _clean(self, key: str) -> None:
        """Delete every object of a definition that is going away."""
        found = self.core.registry.named(key)
        for record in list(self.core.store.shelf(key).select()):
            if found is not None and record.path in self.core.store.shelf(key).records:
                delete(self.core, found, record, DeleteOptions(propagation="Background"))
        self._finish(key)

    def _finish(self, key: str) -> None:
        """Let go of the definition when its last object is gone."""
        if self.core.store.shelf(key).records:
            return
        record = self.core.store.get(CRDS, "", key)
        if record is None or not record.meta.get("deletionTimestamp"):
            return
        new = clone(record.object)
        new["metadata"]["finalizers"] = [f for f in new["metadata"].get("finalizers", []) if f != CLEANUP]
        if new["metadata"]["finalizers"]:
            self.core.store.put(CRDS, new)
        else:
            self.core.store.remove(CRDS, record, new)


def _condition(kind: str, reason: str, message: str, now: str) -> Object:
    return {"type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message}


def _resource(crd: Object, version: dict[str, Any]) -> Resource:
    spec, names = crd["spec"], crd["spec"]["names"]
    subresources = version.get("subresources") or {}
    return Resource(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        kind=names["kind"],
        shape=custom_shape((version.get("schema") or {}).get("openAPIV3Schema") or {}),
        namespaced=spec["scope"] == "Namespaced",
        singular=names.get("singular") or names["kind"].lower(),
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        verbs=("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"),
        status="status" in subresources,
        scale=_scale(subresources.get("scale")),
        generation=True,
        list_kind=names.get("listKind") or f"{names['kind']}List",
        version_spec=version,
    )


def _scale(spec: dict[str, Any] | None) -> ScalePaths | None:
    if spec is None:
        return None
    return ScalePaths(
        spec=spec["specReplicasPath"],
        status=spec["statusReplicasPath"],
        selector=spec.get("labelSelectorPath", ""),
    )


def new_core(
    clock: Clock | None = None, *, seed: int = 0, service_cidr: str = "10.43.0.0/16", history: int = 5000
) -> Core:
    """Return a Core that serves what its CRDs define; the arguments are those of Core."""
    core = Core(clock, seed=seed, service_cidr=service_cidr, history=history)
    Definitions(core)
    return core
