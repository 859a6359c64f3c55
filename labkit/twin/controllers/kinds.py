"""Which resources there are, built in and by CRDs: what collects or ends objects must see them all."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.twin.kube.door import Api, Object
from labkit.twin.kube.resources import builtin_resources

from .objects import name_of, spec_of

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
EVENTS = ("events", "events.events.k8s.io")


@dataclass(frozen=True)
class Kind:
    """One kind of object and the resource that it is kept as."""

    resource: str
    group: str
    kind: str
    namespaced: bool


def builtin_kinds() -> list[Kind]:
    """Return the kinds that the server keeps without any CRD, each once."""
    found = {r.key: Kind(r.key, r.group, r.kind, r.namespaced) for r in builtin_resources() if r.stored}
    return list(found.values())


def kind_of_crd(crd: Object) -> Kind:
    """Return the kind that a CRD defines."""
    spec = spec_of(crd)
    return Kind(name_of(crd), spec["group"], spec["names"]["kind"], spec["scope"] == "Namespaced")


def all_kinds(api: Api) -> list[Kind]:
    """Return all kinds, those of CRDs last."""
    return builtin_kinds() + [kind_of_crd(c) for c in api.list(CRDS)]
