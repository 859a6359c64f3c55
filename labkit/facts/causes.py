"""Why a chain of Flux's objects is stuck: the object at its bottom, its words, its place in Git, the remedy. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from labkit.facts.flux import Condition, FluxFacts, FluxObject, Workload
from labkit.facts.remedies import remedy_for

_DEEPEST = 30
_NAMED = re.compile(r"\b([A-Z][A-Za-z]+)/([a-z0-9.-]+)/([a-z0-9.:-]+)")
_DEPENDENCY = re.compile(r"dependency '([a-z0-9.-]+)/([a-z0-9.-]+)'")
_KINDS = ("GitRepository", "OCIRepository", "Bucket", "HelmRepository", "HelmChart", "HelmRelease", "Kustomization")


@dataclass(frozen=True)
class Cause:
    """The deepest reason that can be seen.

    Attributes:
        object: its id, `Kind/namespace/name`.
        condition: the type and reason of the condition that tells it, `Ready=False BuildFailed`.
        message: the words of the condition, in one line.
        revision: the revision that was tried.
        file: `file:line` in Git; empty when it does not stand there.
        remedy: what most likely helps.
    """

    object: str
    condition: str
    message: str
    revision: str = ""
    file: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        at = f" at {self.revision}" if self.revision else ""
        place = f"\n  in Git: {self.file}" if self.file else ""
        return f"{self.object}{at}: {self.condition}: {self.message}{place}\n  likely remedy: {self.remedy}"


def deepest_cause(facts: FluxFacts, places: Mapping[str, str] | None = None) -> Cause | None:
    """Return the one cause that everything else waits for; None when nothing is wrong that can be seen.

    Args:
        facts: what was read of Flux.
        places: `file:line` in Git by object id.
    """
    return next(iter(causes(facts, places)), None)


def causes(facts: FluxFacts, places: Mapping[str, str] | None = None) -> tuple[Cause, ...]:
    """Return every cause that is not explained by another one, the deepest of the chain first."""
    view = _View(facts, places or {})
    return view.causes()


@dataclass
class _View:
    facts: FluxFacts
    places: Mapping[str, str]

    def causes(self) -> tuple[Cause, ...]:
        if down := [one for one in self.facts.controllers if not one.is_ready]:
            return tuple(self._workload(one) for one in down)
        found: dict[str, tuple[int, int, Cause]] = {}
        for one in self._failing():
            cause, depth = self._follow(one, frozenset(), 0)
            rank = _KINDS.index(one.kind)
            if cause.object not in found or found[cause.object][:2] < (depth, -rank):
                found[cause.object] = (depth, -rank, cause)
        ordered = sorted(found.values(), key=lambda item: (not self._is_real(item[2]), -item[0], -item[1]))
        return tuple(cause for _, _, cause in ordered)

    def _failing(self) -> Iterator[FluxObject]:
        for one in self.facts.objects:
            if not (one.suspended or one.is_ready or one.is_rechecking) and one.kind in _KINDS:
                yield one

    def _is_real(self, cause: Cause) -> bool:
        """A failure counts before something that merely has not come yet."""
        return "waits" not in cause.condition

    def _follow(self, one: FluxObject, seen: frozenset[str], depth: int) -> tuple[Cause, int]:
        """Go from an object to what it waits for, as deep as that leads."""
        if depth < _DEEPEST:
            for deeper in self._waits_for(one):
                if isinstance(deeper, Workload):
                    return self._workload(deeper), depth + 1
                if deeper.id not in seen and deeper.id != one.id:
                    if deeper.suspended and not deeper.is_ready:
                        return self._suspended(deeper), depth + 1
                    return self._follow(deeper, seen | {one.id}, depth + 1)
        return self._own(one), depth

    def _waits_for(self, one: FluxObject) -> Iterator[FluxObject | Workload]:
        """Yield what is not ready and stands before an object: its source, dependencies, and what it names."""
        trouble = one.trouble
        message = trouble.message if trouble else ""
        named = [f"{one.kind}/{space}/{name}" for space, name in _DEPENDENCY.findall(message)]
        reference = [*named, *one.needs, one.source, one.chart]
        yield from self._not_ready(filter(None, reference))
        yield from self._not_ready("/".join(found) for found in _NAMED.findall(message))
        if one.kind == "HelmRelease" and trouble is not None:
            yield from self._of_release(one)

    def _not_ready(self, identities: Iterable[str]) -> Iterator[FluxObject | Workload]:
        for identity in identities:
            found = self.facts.find(identity) or self.facts.workload(identity)
            if found is not None and not found.is_ready:
                yield found

    def _of_release(self, release: FluxObject) -> Iterator[Workload]:
        for one in self.facts.workloads:
            instance = one.labels.get("app.kubernetes.io/instance", one.labels.get("release", ""))
            mine = one.namespace == release.target and instance in (release.name, f"{release.target}-{release.name}")
            if mine and not one.is_ready and one.problem:
                yield one

    def _own(self, one: FluxObject) -> Cause:
        trouble = one.trouble
        if trouble is None:
            return self._silent(one)
        message = " ".join(trouble.message.split())
        condition = f"{trouble.type}={trouble.status} {trouble.reason}".strip()
        default = {
            "Kustomization": "`labkit check repo` names the file and line; mend it and push",
            "HelmRelease": "look at its events: kubectl describe helmrelease",
        }.get(one.kind, "read the message; mend it in Git and push")
        return Cause(one.id, condition, message, self._revision(one), self.places.get(one.id, ""),
                     remedy_for(f"{trouble.reason} {message}", default))  # fmt: skip

    def _silent(self, one: FluxObject) -> Cause:
        ready = one.condition("Ready")
        said = ready.message if ready is not None and ready.message else "its controller has not reported yet"
        return Cause(one.id, "waits", " ".join(said.split()), self._revision(one), self.places.get(one.id, ""),
                     remedy_for(said, "wait; then look at the log of its controller in flux-system"))  # fmt: skip

    def _suspended(self, one: FluxObject) -> Cause:
        by = f" by {one.suspended_by}" if one.suspended_by else ""
        return Cause(one.id, "suspended", f"it is suspended{by}, and others depend on it", self._revision(one),
                     self.places.get(one.id, ""),
                     f"resume it when it is time: bootstrap-flux with resume=[{one.name}], or flux resume")  # fmt: skip

    def _workload(self, one: Workload) -> Cause:
        message = one.problem or f"{one.ready} of {one.wanted} pods are ready"
        return Cause(one.id, "not ready", message, "", self.places.get(one.id, ""),
                     remedy_for(message, "look at its pods: kubectl describe"))  # fmt: skip

    def _revision(self, one: FluxObject) -> str:
        if one.attempted or one.artifact:
            return one.attempted or one.artifact
        source = self.facts.find(one.source) if one.source else None
        return source.artifact if source is not None else ""


def show_condition(one: FluxObject) -> str:
    """Say how an object stands, in a few words."""
    reason, colon, message = say_condition(one).partition(": ")
    return f"{reason}{colon}{message[:120]}"


def say_condition(one: FluxObject) -> str:
    """Say how an object stands, in all words of its condition."""
    if one.suspended:
        return "suspended"
    if one.is_ready:
        return "ready"
    trouble: Condition | None = one.trouble or one.condition("Ready")
    if trouble is None:
        return "waits for its controller"
    message = " ".join(trouble.message.split())
    return f"{trouble.reason}: {message}" if message else trouble.reason
