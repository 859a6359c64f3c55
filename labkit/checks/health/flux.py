"""Health checks of Flux: is everything applied, at the newest commit, and nothing held back for long. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from labkit.checks.flux import check_stored_versions
from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.words import ago, count, listed
from labkit.facts.causes import Cause, causes
from labkit.facts.flux import NAMESPACE, FluxFacts, FluxObject
from labkit.facts.git import GitFacts
from labkit.plan import Severity

READS = ("flux",)
BOTH = ("flux", "git")
_SOURCE = f"GitRepository/{NAMESPACE}/flux-system"
_RETRIES = ("RetriesExceeded", "RemediationFailed")
_KINDS = ("Deployment", "StatefulSet", "DaemonSet")


def seen(scene: Scene) -> FluxFacts:
    """Return the facts of Flux."""
    facts: FluxFacts = scene["flux"]
    return facts


def _git(scene: Scene) -> GitFacts:
    facts: GitFacts = scene["git"]
    return facts


@health("flux.installed", Area.FLUX, "Flux runs in the cluster", Severity.ERROR, reads=READS)
def installed(scene: Scene) -> Iterator[Found]:
    """Find a cluster without Flux, and controllers that do not run."""
    facts = seen(scene)
    if not facts.controllers:
        yield Found("Flux", "its controllers in the cluster", "none", "run bootstrap-flux")
    for one in facts.controllers:
        if not one.is_ready:
            yield Found(one.id, f"{one.wanted} ready", one.problem or f"{one.ready} ready",
                        f"`kubectl -n {one.namespace} describe deployment {one.name}`")  # fmt: skip


@health("flux.ready", Area.FLUX, "everything that Flux manages is ready", Severity.ERROR, reads=BOTH)
def ready(scene: Scene) -> Iterator[Found]:
    """Find the deepest causes of what is not ready; what merely waits for them is not told."""
    for one in _causes(scene):
        if not _has_given_up(seen(scene).find(one.object)) and not one.condition.startswith("suspended"):
            yield _told(one)


@health("flux.retries", Area.FLUX, "no release has used up its retries", Severity.ERROR, reads=BOTH)
def retries(scene: Scene) -> Iterator[Found]:
    """Find releases that Flux has given up: they stay so until somebody acts, even when the cause goes away."""
    for one in _causes(scene):
        found = seen(scene).find(one.object)
        if found is not None and _has_given_up(found):
            told = _told(one)
            again = f"flux reconcile helmrelease {found.name} -n {found.namespace} --reset"
            yield Found(told.subject, "retries left", told.got, f"{told.remedy}; then `{again}`")


def _causes(scene: Scene) -> tuple[Cause, ...]:
    facts = seen(scene)
    running = bool(facts.controllers) and all(one.is_ready for one in facts.controllers)
    return causes(facts, _git(scene).places()) if running else ()


def _told(one: Cause) -> Found:
    place = f" ({one.file})" if one.file else ""
    return Found(f"{one.object}{place}", "ready", f"{one.condition}: {one.message}", one.remedy)


def _has_given_up(one: FluxObject | None) -> bool:
    stalled = one.condition("Stalled") if one is not None else None
    return stalled is not None and stalled.status == "True" and stalled.reason in _RETRIES


@health("flux.suspended", Area.FLUX, "nothing is suspended for long", Severity.WARNING, reads=READS)
def suspended(scene: Scene) -> Iterator[Found]:
    """Find what Flux has been told to leave alone: at once when a runbook left it so, else after the limit."""
    limit = timedelta(hours=scene.lab.health.limits.flux.suspended_hours)
    for one in seen(scene).objects:
        if not one.suspended:
            continue
        since = one.suspended_since
        resume = f"`flux resume {one.kind.lower()} {one.name} -n {one.namespace}` when the reason is over"
        when = f"suspended {ago(since, scene.now)}" if since else "suspended, nobody knows since when"
        by = f" by {one.suspended_by}" if one.suspended_by else ""
        if one.suspended_for:
            yield Found(one.id, "resumed at the end of the runbook", f"{when} for {one.suspended_for}",
                        f"run {one.suspended_for} again: it goes on and resumes it")  # fmt: skip
        elif since is None or scene.now - since > limit:
            yield Found(one.id, f"suspended for at most {count(int(limit.total_seconds() // 3600), 'hour')}",
                        f"{when}{by}", resume)  # fmt: skip


@health("flux.revision", Area.FLUX, "the newest commit is what is live", Severity.WARNING, reads=BOTH)
def revision(scene: Scene) -> Iterator[Found]:
    """Find an older revision that is live although nothing says that it failed."""
    facts, git = seen(scene), _git(scene)
    if not facts.controllers or not git.head or _causes(scene):
        return
    for one in facts.objects:
        is_source = one.id == _SOURCE
        follows = one.kind == "Kustomization" and one.source == _SOURCE
        live = one.artifact if is_source else one.applied
        if (is_source or follows) and not one.suspended and live != git.revision:
            command = f"flux reconcile {'source git' if is_source else 'kustomization'} {one.name} -n {one.namespace}"
            yield Found(one.id, f"revision {_short(git.revision)}", _short(live) or "none",
                        f"`{command}`; if it stays, look at the webhook and the interval")  # fmt: skip


@health("flux.drift", Area.FLUX, "workloads run the images that stand in Git", Severity.WARNING, reads=BOTH)
def drift(scene: Scene) -> Iterator[Found]:
    """Find workloads whose images somebody changed in the cluster: Flux undoes it, or was told not to look."""
    facts, git = seen(scene), _git(scene)
    builds = git.cluster.builds if git.cluster is not None else ()
    live = {f"{one.namespace}/{one.name}": one.applied for one in facts.objects if one.kind == "Kustomization"}
    for build in builds:
        if build.is_foreign or live.get(build.name) != git.revision:
            continue  # it is behind, which is told elsewhere
        for resource in build.resources:
            found = facts.workload(f"{resource.kind}/{resource.namespace}/{resource.name}")
            containers = resource.get("spec", "template", "spec", "containers") or []
            wanted = tuple(str(one.get("image") or "") for one in containers)
            if resource.kind in _KINDS and found is not None and found.images[: len(wanted)] != wanted:
                yield Found(f"{found.id} ({resource.file}:{resource.line})", listed(wanted), listed(found.images),
                            f"commit it, or undo it: `flux reconcile kustomization {build.source.name}`")  # fmt: skip


@health("flux.versions", Area.FLUX, "Flux in the cluster is the one in Git, and brings every stored version",
        Severity.WARNING, reads=BOTH)  # fmt: skip
def versions(scene: Scene) -> Iterator[Found]:
    """Find API versions that the committed Flux would no longer know, and a cluster that is ahead of Git."""
    for one in check_stored_versions(_git(scene), seen(scene)):
        yield Found(one.subject, one.expected, one.got, one.remedy, one.severity)


def _short(text: str) -> str:
    """Shorten `master@sha1:<40 digits>` to what people compare."""
    branch, mark, digits = text.partition("@sha1:")
    return f"{branch}@{digits[:7]}" if mark else text
