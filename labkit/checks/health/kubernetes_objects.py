"""Health checks of jobs, claims, Services, webhooks, budgets, quotas and API versions. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.kubernetes import READS, seen
from labkit.checks.health.words import ago, listed, span
from labkit.cron import CronError, parse_cron
from labkit.facts.kubehealth import CronJobRow, JobRow
from labkit.plan import Severity

_LONGHORN = "longhorn-system"
_BUILT_IN = frozenset({"", "apps", "batch", "autoscaling", "policy", "extensions", "events.k8s.io"})


def _stuck(scene: Scene) -> timedelta:
    return timedelta(minutes=scene.lab.health.limits.kubernetes.stuck_minutes)


@health("kubernetes.job-failed", Area.KUBERNETES, "no job has failed lately", Severity.WARNING, reads=READS)
def job_failed(scene: Scene) -> Iterator[Found]:
    """Find jobs that failed, of a CronJob only when its last one did."""
    newest = timedelta(days=scene.lab.health.limits.kubernetes.job_days)
    last: dict[str, JobRow] = {}
    for job in sorted(seen(scene).jobs, key=lambda one: (one.created is not None, str(one.created))):
        if job.status in ("Complete", "Failed"):
            last[f"CronJob {job.namespace}/{job.cronjob}" if job.cronjob else f"Job {job.namespace}/{job.name}"] = job
    for subject, job in last.items():
        when = job.ended or job.created
        if job.status != "Failed" or (when is not None and scene.now - when > newest):
            continue
        why = f": {job.message}" if job.message else ""
        ended = f"failed {ago(when, scene.now)}" if when else "failed"
        yield Found(subject, "a last run that ended well", f"{ended}{why}",
                    f"`kubectl -n {job.namespace} logs job/{job.name}`")  # fmt: skip


@health(
    "kubernetes.cronjob-missed", Area.KUBERNETES, "every CronJob runs when it is due", Severity.WARNING, reads=READS
)
def cronjob_missed(scene: Scene) -> Iterator[Found]:
    """Find CronJobs that did not start a job although it was time."""
    for job in seen(scene).cronjobs:
        due = _missed(job, scene.now - _stuck(scene))
        if due is not None:
            last = f"last {ago(job.last, scene.now)}" if job.last else "never"
            yield Found(f"CronJob {job.namespace}/{job.name}", f"a run at {due:%Y-%m-%d %H:%M} ({job.schedule})", last,
                        f"`kubectl -n {job.namespace} describe cronjob {job.name}`; too many missed times end it: "
                        "make it anew")  # fmt: skip


def _missed(job: CronJobRow, until: datetime) -> datetime | None:
    """Return the first time after its last run at which a CronJob was due; None when it is on time."""
    since = max((moment for moment in (job.last, job.created) if moment is not None), default=None)
    if job.suspended or job.active or since is None:
        return None
    try:
        return next(parse_cron(job.schedule, job.zone).fires(since, until), None)
    except CronError:
        return None


@health("kubernetes.claim", Area.KUBERNETES, "every claim has its volume", Severity.ERROR, reads=READS)
def claim(scene: Scene) -> Iterator[Found]:
    """Find PersistentVolumeClaims that wait for a volume, or have lost theirs."""
    for one in seen(scene).claims:
        waits = one.status == "Pending" and not one.message.startswith("waiting for first consumer")
        late = one.created is None or scene.now - one.created > _stuck(scene)
        if one.status == "Lost" or (waits and late):
            since = f" for {span(scene.now - one.created)}" if waits and one.created else ""
            why = f": {one.message}" if one.message else ""
            yield Found(f"claim {one.namespace}/{one.name}", "a bound volume", f"{one.status}{since}{why}",
                        f"`kubectl -n {one.namespace} describe pvc {one.name}`; is its storage class "
                        f"({one.storage_class or 'none'}) there, and has Longhorn room?")  # fmt: skip


@health("kubernetes.service-address", Area.KUBERNETES, "load balancers have addresses", Severity.ERROR, reads=READS)
def service_address(scene: Scene) -> Iterator[Found]:
    """Find Services that wait for an address of the LAN."""
    for one in seen(scene).services:
        late = one.created is None or scene.now - one.created > _stuck(scene)
        if one.kind == "LoadBalancer" and not one.addresses and late:
            ranges = listed(scene.lab.network.load_balancer) or "none"
            yield Found(f"Service {one.namespace}/{one.name}", "an address of the LAN", "none",
                        f"`kubectl -n {one.namespace} describe service {one.name}`; are the ranges of the lab file "
                        f"({ranges}) used up, and does MetalLB run?")  # fmt: skip


@health("kubernetes.webhook", Area.KUBERNETES, "somebody answers every webhook", Severity.ERROR, reads=READS)
def webhook(scene: Scene) -> Iterator[Found]:
    """Find webhooks that nobody answers: the API refuses what they guard."""
    for one in seen(scene).webhooks:
        if one.backends <= 0:
            got = "no such Service" if one.backends < 0 else "no ready pod behind it"
            refuses = "; the API refuses what it guards" if one.fails else "; what it guards goes unchecked"
            yield Found(f"{one.kind} webhook {one.configuration}", f"an answer of {one.service}", got + refuses,
                        f"bring {one.service} up; left over from something that is gone: `kubectl delete "
                        f"{one.kind}webhookconfiguration {one.configuration}`",
                        None if one.fails else Severity.WARNING)  # fmt: skip


@health("kubernetes.api-service", Area.KUBERNETES, "every part of the API is served", Severity.ERROR, reads=READS)
def api_service(scene: Scene) -> Iterator[Found]:
    """Find parts of the API that another program should serve: without them namespaces cannot be deleted."""
    for one in seen(scene).broken_apis:
        yield Found(f"APIService {one.name}", "available", one.reason,
                    f"bring {one.service} up: `kubectl describe apiservice {one.name}`")  # fmt: skip


@health("kubernetes.budget", Area.KUBERNETES, "every disruption budget lets a drain end", Severity.WARNING, reads=READS)
def budget(scene: Scene) -> Iterator[Found]:
    """Find budgets that allow no disruption although all pods are well; Longhorn's own are meant so."""
    for one in seen(scene).budgets:
        if one.namespace == _LONGHORN or one.allowed > 0 or not 0 < one.expected <= one.healthy:
            continue
        asks = f"minAvailable {one.minimum}" if one.minimum else f"maxUnavailable {one.most}"
        yield Found(f"PodDisruptionBudget {one.namespace}/{one.name}", "room for one pod to move",
                    f"none: {asks} of {one.expected}",
                    "more replicas, or a budget that lets one go: else a drain of its node never ends")  # fmt: skip


@health("kubernetes.quota", Area.KUBERNETES, "no resource quota is nearly used up", Severity.WARNING, reads=READS)
def quota(scene: Scene) -> Iterator[Found]:
    """Find namespaces in which soon nothing can be made any more."""
    most = scene.lab.health.limits.kubernetes.quota_percent
    for one in seen(scene).quotas:
        if one.percent >= most:
            yield Found(f"ResourceQuota {one.namespace}/{one.name}", f"less than {most} % of {one.resource} used",
                        f"{one.used} of {one.hard} ({one.percent:.0f} %)",
                        "raise it in Git, or ask for less")  # fmt: skip


@health("kubernetes.namespace-ending", Area.KUBERNETES, "no namespace hangs at its end", Severity.WARNING, reads=READS)
def namespace_ending(scene: Scene) -> Iterator[Found]:
    """Find namespaces that something keeps from being deleted."""
    for one in seen(scene).ending:
        if scene.now - one.since > _stuck(scene):
            yield Found(f"namespace {one.name}", "gone soon after it is deleted", f"for {span(scene.now - one.since)}",
                        f"`kubectl get namespace {one.name} -o jsonpath='{{.status.conditions}}'` names what is left; "
                        "mostly finalizers of a program that is gone")  # fmt: skip


@health("kubernetes.deprecated", Area.KUBERNETES, "nobody asks for API versions that will be removed", Severity.WARNING,
        reads=READS)  # fmt: skip
def deprecated(scene: Scene) -> Iterator[Found]:
    """Find versions of APIs that somebody uses and that the next upgrade may take away."""
    for one in seen(scene).deprecated:
        custom = one.group not in _BUILT_IN and not one.group.endswith(".k8s.io")
        if one.removed or custom:
            when = f"Kubernetes {one.removed}" if one.removed else "an update of what brings it"
            name = f"{one.resource}.{one.group}" if one.group else one.resource
            yield Found(f"API {name}/{one.version}", "asked for by nobody",
                        f"asked for since the API's start; it goes with {when}",
                        "`labkit check repo` names manifests in Git that use it; else a program does")  # fmt: skip


@health("kubernetes.stored-version", Area.KUBERNETES, "objects are stored in versions that last", Severity.WARNING,
        reads=READS)  # fmt: skip
def stored_version(scene: Scene) -> Iterator[Found]:
    """Find kinds with objects in an old version: an update of their definition is refused, as with Flux."""
    for one in seen(scene).old_versions:
        flux = one.definition.endswith("toolkit.fluxcd.io")
        remedy = "`flux migrate`" if flux else (
            f"`kubectl get {one.definition} -A -o yaml | kubectl replace -f -`, then take it out of the definition's "
            "status.storedVersions")  # fmt: skip
        yield Found(f"definition {one.definition}", f"objects stored in {one.newest} only",
                    f"{listed(one.versions)} too, which the next version of it may not know", remedy)  # fmt: skip
