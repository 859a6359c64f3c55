"""What reflector does when it runs: copies of Secrets and ConfigMaps in other namespaces, kept equal."""

from __future__ import annotations

import re
from typing import Any

from labkit.twin.controllers.objects import annotations_of, is_deleting, meta, name_of, namespace_of
from labkit.twin.flux.gate import DEPLOYMENTS, GatedController, has_labels
from labkit.twin.kube.door import Event, Object

_PREFIX = "reflector.v1.k8s.emberstack.com/"
_KINDS = ("secrets", "configmaps")


class Mirrors(GatedController):
    """Copy what is marked for it."""

    name = "reflector"
    resources = _KINDS
    watches = (*_KINDS, "namespaces", DEPLOYMENTS)

    def is_program(self, deployment: Object) -> bool:
        """Tell by the chart's labels."""
        return has_labels(deployment, name="reflector")

    def keys(self, event: Event) -> list[tuple[str, str, str]]:
        """Return the source of a mirror, the object itself, or all sources when a namespace is new."""
        if event.resource == "namespaces":
            return [self._key(kind, one) for kind in _KINDS for one in self.api.list(kind) if _says(one, "auto")]
        found = [self._key(event.resource, event.object)]
        source = _note(event.object, "reflects")
        if source:
            namespace, _, name = source.rpartition("/")
            found.append((event.resource, namespace or namespace_of(event.object), name))
        return found

    def _key(self, kind: str, obj: Object) -> tuple[str, str, str]:
        return kind, namespace_of(obj), name_of(obj)

    def reconcile(self, key: tuple[str, str, str]) -> None:
        """Bring all mirrors of one object up to date."""
        kind, namespace, name = key
        if not self.awake:
            return
        source = self.api.get(kind, name, namespace)
        allowed = source is not None and not is_deleting(source) and _says(source, "reflection-allowed")
        for mirror in self._mirrors(kind, namespace, name):
            target = namespace_of(mirror)
            automatic = _says(mirror, "auto-reflects")
            open_to = source is not None and allowed and _fits(source, "reflection-allowed-namespaces", target)
            if source is not None and open_to and (not automatic or self._is_wanted(source, target)):
                self._copy(kind, source, mirror)
            elif automatic:
                self.api.delete(kind, name_of(mirror), target)
        if source is not None and allowed and _says(source, "reflection-auto-enabled"):
            for space in self.api.list("namespaces"):
                self._spread(kind, source, space)

    def _mirrors(self, kind: str, namespace: str, name: str) -> list[Object]:
        wanted = f"{namespace}/{name}"
        return [one for one in self.api.list(kind) if _note(one, "reflects") == wanted]

    def _is_wanted(self, source: Object, target: str) -> bool:
        return _says(source, "reflection-auto-enabled") and _fits(source, "reflection-auto-namespaces", target)

    def _spread(self, kind: str, source: Object, space: Object) -> None:
        """Make the mirror of a namespace when there is none; something else of that name is left alone."""
        target = name_of(space)
        if target == namespace_of(source) or is_deleting(space) or not self._is_wanted(source, target):
            return
        if not _fits(source, "reflection-allowed-namespaces", target):
            return
        if self.api.get(kind, name_of(source), target) is not None:
            return
        notes = {**_marks(source), f"{_PREFIX}auto-reflects": "True", f"{_PREFIX}reflected-at": self.now()}
        body: dict[str, Any] = {"metadata": {"name": name_of(source), "namespace": target, "annotations": notes}}
        for field in ("type", "data", "binaryData"):
            if field in source:
                body[field] = source[field]
        self.api.create(kind, body)

    def _copy(self, kind: str, source: Object, mirror: Object) -> None:
        same = all(mirror.get(field) == source.get(field) for field in ("data", "binaryData"))
        marks = _marks(source)
        if same and all(annotations_of(mirror).get(key) == value for key, value in marks.items()):
            return
        body = {key: value for key, value in mirror.items() if key not in ("data", "binaryData")}
        body |= {field: source[field] for field in ("data", "binaryData") if field in source}
        body["metadata"] = {**meta(mirror), "annotations": {**annotations_of(mirror), **marks}}
        self.api.update(kind, body)


def _marks(source: Object) -> dict[str, str]:
    return {f"{_PREFIX}reflects": f"{namespace_of(source)}/{name_of(source)}",
            f"{_PREFIX}reflected-version": str(meta(source).get("resourceVersion", ""))}  # fmt: skip


def _note(obj: Object, name: str) -> str:
    return annotations_of(obj).get(_PREFIX + name, "")


def _says(obj: Object, name: str) -> bool:
    if name == "auto":
        name = "reflection-auto-enabled"
    return _note(obj, name).lower() == "true"


def _fits(source: Object, name: str, namespace: str) -> bool:
    """Match a namespace against a list of names and patterns; an empty list fits all."""
    patterns = [part.strip() for part in _note(source, name).split(",") if part.strip()]
    return not patterns or any(re.fullmatch(pattern, namespace) for pattern in patterns)
