"""Ask Flux to reconcile, and wait along its chain: what changed is told at once, a cause that stays ends the wait."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from labkit.errors import LabError, StepFailed
from labkit.facts.causes import Cause, causes, say_condition, show_condition
from labkit.facts.flux import NAMESPACE, FluxFacts, FluxObject
from labkit.facts.git import GitFacts
from labkit.systems.access import Access, Step
from labkit.systems.flux.parse import parse_object
from labkit.systems.flux.read import read_state
from labkit.systems.k3s.waiting import ask_patiently
from labkit.systems.kubernetes import Cluster

REQUEST = "reconcile.fluxcd.io/requestedAt"
RESET = "reconcile.fluxcd.io/resetAt"
"""Lets a HelmRelease whose retries are used up try again."""
CHAIN_DEADLINE = 2700.0
"""Lab seconds for a whole chain: images of every controller are pulled over the owner's line."""
PATIENCE = 150.0
"""Lab seconds that one cause may stay while nothing else moves: longer than Flux's own retry."""
_EVERY, _EVERY_FEW = 2.0, 0.5
"""Lab seconds between two looks: at a whole chain, and at the few objects that a pushed app waits for."""
_WHOLE = 8
"""When only a few objects are awaited, every so many looks are at all, for what may be in the way."""
_WIDTH = 4
_ROOT = f"Kustomization/{NAMESPACE}/flux-system"
_SOURCE = f"GitRepository/{NAMESPACE}/flux-system"
_API = {
    "GitRepository": "/apis/source.toolkit.fluxcd.io/v1/namespaces/{}/gitrepositories/{}",
    "Kustomization": "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{}/kustomizations/{}",
    "HelmRelease": "/apis/helm.toolkit.fluxcd.io/v2/namespaces/{}/helmreleases/{}",
}


def object_path(identity: str) -> str:
    """Return the API path of one of Flux's objects, given as `Kind/namespace/name`."""
    kind, namespace, name = identity.split("/")
    return _API[kind].format(namespace, name)


def request_reconcile(cluster: Cluster, identity: str) -> None:
    """Ask for a reconcile now, as `flux reconcile` does; the next fetch of a source wakes what depends on it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    names = (REQUEST, RESET) if identity.startswith("HelmRelease/") else (REQUEST,)
    cluster.patch(object_path(identity), {"metadata": {"annotations": dict.fromkeys(names, now)}})


def chain_order(objects: Iterable[FluxObject]) -> list[tuple[int, FluxObject]]:
    """Return a chain's objects with their depth: source, root, then each after what it depends on."""
    known = {one.id: one for one in objects}
    depths: dict[str, int] = {}

    def depth(identity: str, seen: frozenset[str]) -> int:
        one = known.get(identity)
        if one is None or identity in seen:
            return 0
        if identity not in depths:
            before = [*one.needs, one.source, one.chart]
            if one.kind in ("Kustomization", "HelmRelease", "HelmRepository") and identity != _ROOT:
                before.append(_ROOT)
            depths[identity] = 1 + max((depth(b, seen | {identity}) for b in before if b), default=-1)
        return depths[identity]

    return sorted(((depth(name, frozenset()), one) for name, one in known.items()), key=lambda p: (p[0], p[1].id))


@dataclass
class Watch:
    """What a wait has seen so far: it tells changes, and knows since when nothing has moved."""

    clock: Callable[[], float]
    step: Step
    patience: float = PATIENCE
    seen: dict[str, str] = field(default_factory=dict)
    moved: float = 0.0
    cause: Cause | None = None
    stalled_before: frozenset[str] | None = None
    """What was stalled at the first look already, and has been asked to try again."""

    def look(self, facts: FluxFacts) -> None:
        """Tell what changed since the last look; what was ready before, and another try of what failed, are no news."""
        first = not self.seen
        stalled = frozenset(one.id for one in facts.objects if is_stalled(one))
        self.stalled_before = stalled if self.stalled_before is None else self.stalled_before & stalled
        for depth, one in chain_order(facts.objects):
            text = steady(say_condition(one))
            if (is_trying(one) or one.condition("Ready") is None) and not one.suspended and not one.static:
                continue
            if self.seen.get(one.id) != text:
                self.seen[one.id] = text
                self.moved = self.clock()
                if not (first and one.is_ready):
                    self._tell(depth, one, show_condition(one))

    def _tell(self, depth: int, one: FluxObject, text: str) -> None:
        revision = short_revision(one.applied or one.artifact) if text == "ready" else ""
        self.step.say(f"{'  ' * depth}{one.kind} {one.name}: {text}{f' at {revision}' if revision else ''}")

    def stuck(self, facts: FluxFacts, found: Iterable[Cause]) -> Cause | None:
        """Return a cause that has stayed too long while nothing moved; another try of it does not end it.

        What Flux itself has given up during the wait is one at once.
        """
        real = [one for one in found if one.condition not in ("waits", "suspended")]
        given_up = {one.id for one in facts.objects if is_stalled(one)} - (self.stalled_before or frozenset())
        if (final := next((one for one in real if one.object in given_up), None)) is not None:
            return final
        if real:
            self.cause = real[0]
        elif self.cause is not None:
            seen = facts.find(self.cause.object) or facts.workload(self.cause.object)
            if seen is None or seen.is_ready:
                self.cause = None
        return self.cause if self.clock() - self.moved > self.patience else None


def is_trying(one: FluxObject) -> bool:
    """Tell whether Flux is at work on an object, so that its condition says nothing yet."""
    ready = one.condition("Ready")
    return not one.suspended and ready is not None and ready.status == "Unknown"


def is_stalled(one: FluxObject) -> bool:
    """Tell whether Flux has given an object up: without a change it does not try again."""
    stalled = one.condition("Stalled")
    return not one.suspended and stalled is not None and stalled.status == "True"


def steady(text: str) -> str:
    """Take durations and counts out of a message: it says the same with others."""
    return re.sub(r"(\d+(\.\d+)?(ms|s|m|h)?)+", "#", text)


def short_revision(revision: str) -> str:
    """Shorten the digest in a revision: `master@sha1:0123456`."""
    head, colon, digest = revision.partition(":")
    return f"{head}{colon}{digest[:7]}" if colon else revision


def left(facts: FluxFacts, revision: str, but: Collection[str] = ()) -> list[FluxObject]:
    """Return what is not yet ready at a revision; what is suspended, and what waits for it, does not count.

    Args:
        facts: what was seen just now.
        revision: of the source `flux-system`.
        but: names of Kustomizations that are suspended on purpose.
    """
    asleep = {one.id for one in facts.kustomizations if one.suspended and (one.name in but or one.suspended_by)}
    while more := {one.id for one in facts.kustomizations if one.id not in asleep and asleep & set(one.needs)}:
        asleep |= more
    return [one for one in facts.objects if one.id not in asleep and not _is_live(one, revision)]


def _is_live(one: FluxObject, revision: str) -> bool:
    if one.suspended:
        return True
    if one.id == _SOURCE:
        return one.is_ready and one.artifact == revision
    if one.kind == "Kustomization" and one.source == _SOURCE:
        return one.is_ready and one.applied == revision
    return one.is_ready


@dataclass(frozen=True)
class Goal:
    """What a wait is for.

    Attributes:
        revision: that the source must offer, `master@sha1:...`.
        fits: tells whether another revision holds that one: the branch may move on while we wait.
        explain: gives the files in Git, to say where a cause stands; asked only when something fails.
        only: ids that count; all objects when empty.
        but: names of Kustomizations that are suspended on purpose.
        heeds: takes out of the facts what may fail meanwhile without ending the wait.
    """

    revision: str
    explain: Callable[[], GitFacts]
    fits: Callable[[str], bool] = lambda _revision: False
    only: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    heeds: Callable[[FluxFacts], FluxFacts] = lambda facts: facts

    def waits_for(self, facts: FluxFacts) -> list[FluxObject] | None:
        """Return what is not there yet; None while the objects themselves are not."""
        if not facts.objects or any(facts.find(name) is None for name in self.only or (_ROOT,)):
            return None
        source = facts.find(_SOURCE)
        newer = source is not None and source.artifact not in ("", self.revision) and self.fits(source.artifact)
        revision = source.artifact if source is not None and newer else self.revision
        return [one for one in left(facts, revision, self.but) if not self.only or one.id in self.only]


def wait_for_chain(
    cluster: Cluster, access: Access, step: Step, goal: Goal, *, deadline: float = CHAIN_DEADLINE
) -> FluxFacts:
    """Wait until the whole chain, or some Kustomizations of it, are ready at a revision.

    Args:
        cluster: where to look.
        access: the lab's clock.
        step: where progress is told.
        goal: what must be ready.
        deadline: lab seconds.

    Raises:
        StepFailed: it stays stuck; names the deepest cause.
    """
    # On a fast twin, too, there must be time for real programs to do their work.
    patience = access.clock.real(PATIENCE, least=25.0) / access.clock.scale
    watch = Watch(access.clock.monotonic, step, patience, moved=access.clock.monotonic())
    last: list[FluxFacts] = []

    looks = count()

    def probe() -> FluxFacts | None:
        if goal.only and next(looks) % _WHOLE:
            few = ask_patiently(lambda: _read_few(cluster, goal.only))
            return few if few is not None and goal.waits_for(few) == [] else None
        facts = ask_patiently(lambda: read_state(cluster))
        if facts is None:
            return None
        last[:] = [facts]
        watch.look(facts)
        if goal.waits_for(facts) == []:
            return facts
        if stuck := watch.stuck(facts, causes(goal.heeds(facts))):
            raise _failed(stuck, facts, goal)
        return None

    try:
        limit = access.clock.real(deadline, least=120.0) / access.clock.scale
        every = _EVERY_FEW if goal.only else _EVERY
        return access.wait(probe, what="Flux's chain", deadline=limit, every=every, last=lambda: _last(watch))
    except StepFailed as exc:
        if watch.cause is None or exc.message.startswith("Flux is stuck"):
            raise
        raise _failed(watch.cause, last[0], goal) from exc


def _read_few(cluster: Cluster, names: Iterable[str]) -> FluxFacts:
    """Return some of Flux's objects, given as `Kind/namespace/name`, those that are there."""

    def find(identity: str) -> FluxObject | None:
        item = cluster.find(object_path(identity))
        return None if item is None else parse_object(item, identity.partition("/")[0])

    with ThreadPoolExecutor(max_workers=_WIDTH) as pool:
        found = tuple(one for one in pool.map(find, names) if one is not None)
    return FluxFacts(objects=found, read_at=datetime.now(UTC))


def _last(watch: Watch) -> str:
    waiting = [f"{name}: {text}" for name, text in watch.seen.items() if text != "ready"]
    return "; ".join(waiting[:5]) or "no object of Flux"


def _failed(seen: Cause, facts: FluxFacts, goal: Goal) -> StepFailed:
    """Say the cause; a build that fails has its place in the files that were read from Git."""
    try:
        git = goal.explain()
    except LabError:
        git = None  # Git may be what is down: the cause says so, without places
    found = causes(facts, git.places() if git is not None else {})
    cause = next((one for one in found if one.object == seen.object), seen)
    kind, _, name = cause.object.partition("/")
    build = git.build(name) if git is not None and kind == "Kustomization" else None
    problems = [f"\n  in Git: {one.file}:{one.line}: {one.message}" for one in (build.problems if build else ())]
    return StepFailed(f"Flux is stuck; the deepest cause is {cause}{''.join(problems[:3])}")
