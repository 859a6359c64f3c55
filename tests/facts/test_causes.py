"""From facts of Flux to the one cause that everything waits for: a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from labkit.facts.causes import causes, deepest_cause, show_condition
from labkit.facts.flux import Condition, FluxFacts, FluxObject, Workload
from labkit.facts.remedies import remedy_for

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NS = "flux-system"
REVISION = "master@sha1:0123456789"


def one(kind: str, name: str, reason: str = "", message: str = "", **more: Any) -> FluxObject:
    """An object: ready without a reason, failed with one; `waits` for one that has not reported."""
    status = "True" if not reason else "False"
    conditions = () if reason == "waits" else (Condition(type="Ready", status=status, reason=reason, message=message),)
    return FluxObject(**{"kind": kind, "namespace": NS, "name": name, "generation": 1, "observed": 1,
                         "conditions": conditions, **more})  # fmt: skip


def ks(name: str, reason: str = "", message: str = "", **more: Any) -> FluxObject:
    return one("Kustomization", name, reason, message,
               **{"source": f"GitRepository/{NS}/{NS}", "attempted": REVISION, **more})  # fmt: skip


def facts(*objects: FluxObject, workloads: tuple[Workload, ...] = ()) -> FluxFacts:
    return FluxFacts(objects=objects, workloads=workloads, read_at=NOW)


GIT = one("GitRepository", NS, artifact=REVISION)
DEPENDS = "DependencyNotReady"
TABLE: list[tuple[str, FluxFacts, str, str]] = [
    (
        "the Git host is not reached",
        facts(one("GitRepository", NS, "GitOperationFailed", "dial tcp: connection refused"), ks(NS), ks("apps")),
        f"GitRepository/{NS}/{NS}",
        "cannot be reached",
    ),
    (
        "the deploy key is refused, and everything else is behind",
        facts(
            one("GitRepository", NS, "AuthenticationFailed", "unable to authenticate"),
            ks(NS, "ArtifactFailed", "Source artifact not found, retrying in 30s"),
        ),
        f"GitRepository/{NS}/{NS}",
        "deploy keys",
    ),
    (
        "a chain of dependencies ends at a build that fails",
        facts(
            GIT,
            ks("controllers", "BuildFailed", "kustomize build failed: no such file or directory"),
            ks(
                "configs",
                DEPENDS,
                f"dependency '{NS}/controllers' is not ready",
                needs=(f"Kustomization/{NS}/controllers",),
            ),
            ks("apps", DEPENDS, f"dependency '{NS}/configs' is not ready", needs=(f"Kustomization/{NS}/configs",)),
        ),
        f"Kustomization/{NS}/controllers",
        "labkit check repo",
    ),
    (
        "the age key does not open a secret",
        facts(GIT, ks("apps", "BuildFailed", "Secret/default/linkding decryption failed: cannot get sops data key")),
        f"Kustomization/{NS}/apps",
        "git.age_key",
    ),
    (
        "a health check waits for a chart, which is not in its repository",
        facts(
            GIT,
            ks(
                "controllers",
                "HealthCheckFailed",
                "timeout waiting for: [HelmRelease/longhorn/longhorn status: 'Failed']",
            ),
            one(
                "HelmRelease",
                "longhorn",
                "SourceNotReady",
                "HelmChart not ready",
                namespace="longhorn",
                target="longhorn",
                chart="HelmChart/longhorn/longhorn-longhorn",
            ),
            one(
                "HelmChart",
                "longhorn-longhorn",
                "InvalidChartReference",
                "no chart version found for longhorn-9.9.9",
                namespace="longhorn",
            ),
        ),
        "HelmChart/longhorn/longhorn-longhorn",
        "does not exist in the repository",
    ),
    (
        "a chart waits for another release",
        facts(
            GIT,
            one(
                "HelmRelease",
                "traefik",
                DEPENDS,
                "dependency 'metallb/metallb' is not ready",
                namespace="traefik",
                needs=("HelmRelease/metallb/metallb",),
            ),
            one(
                "HelmRelease",
                "metallb",
                "InstallFailed",
                "Helm install failed: context deadline exceeded",
                namespace="metallb",
                target="metallb",
            ),
        ),
        "HelmRelease/metallb/metallb",
        "pods",
    ),
    (
        "a release hangs because of an image",
        facts(
            GIT,
            one("HelmRelease", "web", "InstallFailed", "timed out waiting for the condition", target=NS),
            workloads=(
                Workload(
                    kind="Deployment",
                    namespace=NS,
                    name="web",
                    wanted=1,
                    problem="ImagePullBackOff: x:9",
                    labels={"app.kubernetes.io/instance": "web"},
                ),
            ),
        ),
        f"Deployment/{NS}/web",
        "image cannot be pulled",
    ),
    (
        "a health check waits for a Deployment without a volume",
        facts(
            GIT,
            ks("apps", "HealthCheckFailed", "timeout waiting for: [Deployment/default/actual status: 'InProgress']"),
            workloads=(
                Workload(
                    kind="Deployment",
                    namespace="default",
                    name="actual",
                    wanted=1,
                    problem="Unschedulable: pod has unbound immediate PersistentVolumeClaims",
                ),
            ),
        ),
        "Deployment/default/actual",
        "a volume is missing",
    ),
    (
        "Flux's own controller is down",
        facts(
            GIT,
            ks("apps", "waits"),
            workloads=(
                Workload(
                    kind="Deployment",
                    namespace=NS,
                    name="kustomize-controller",
                    wanted=1,
                    labels={"app.kubernetes.io/part-of": "flux"},
                    problem="CrashLoopBackOff: back-off",
                ),
            ),
        ),
        f"Deployment/{NS}/kustomize-controller",
        "kubectl logs",
    ),
    (
        "what others wait for is suspended",
        facts(
            GIT,
            ks("configs", "waits", suspended=True, suspended_by="labkit"),
            ks("apps", DEPENDS, f"dependency '{NS}/configs' is not ready", needs=(f"Kustomization/{NS}/configs",)),
        ),
        f"Kustomization/{NS}/configs",
        "resume=[configs]",
    ),
    (
        "a stalled object says why",
        facts(
            GIT,
            ks(
                "apps",
                conditions=(
                    Condition(
                        type="Ready", status="False", reason="BuildFailed", message="kustomization path not found: apps"
                    ),
                    Condition(
                        type="Stalled",
                        status="True",
                        reason="BuildFailed",
                        message="kustomization path not found: apps",
                    ),
                ),
            ),
        ),
        f"Kustomization/{NS}/apps",
        "labkit check repo",
    ),
    (
        "dependencies in a circle end",
        facts(
            GIT,
            ks("a", DEPENDS, f"dependency '{NS}/b' is not ready", needs=(f"Kustomization/{NS}/b",)),
            ks("b", DEPENDS, f"dependency '{NS}/a' is not ready", needs=(f"Kustomization/{NS}/a",)),
        ),
        f"Kustomization/{NS}/",
        "",
    ),
    (
        "a failure counts before something that has not come yet",
        facts(GIT, ks("aaa", "waits"), ks("zzz", "BuildFailed", "yaml: line 3: mapping values are not allowed")),
        f"Kustomization/{NS}/zzz",
        "labkit check repo",
    ),
]


@pytest.mark.parametrize(("seen", "identity", "remedy"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_deepest_cause_is_named(seen: FluxFacts, identity: str, remedy: str) -> None:
    cause = deepest_cause(seen, {identity: "kubernetes/x.yaml:7"})
    assert cause is not None
    assert cause.object.startswith(identity)
    assert remedy in cause.remedy
    if cause.object == identity:
        assert cause.file == "kubernetes/x.yaml:7"
        assert "in Git: kubernetes/x.yaml:7" in str(cause)


def test_nothing_wrong_has_no_cause() -> None:
    asleep = ks("asleep", "waits", suspended=True)
    static = one("HelmRepository", "oci", "waits", static=True)
    assert deepest_cause(facts(GIT, ks(NS), ks("apps"), asleep, static)) is None


def test_a_look_at_what_is_applied_already_is_no_trouble() -> None:
    again = (Condition(type="Ready", status="Unknown", reason="Progressing"),)
    assert deepest_cause(facts(GIT, ks("apps", conditions=again, applied=REVISION))) is None
    assert deepest_cause(facts(GIT, ks("apps", conditions=again, applied="master@sha1:old"))) is not None


def test_independent_causes_are_all_told() -> None:
    seen = facts(GIT, ks("a", "BuildFailed", "yaml: x"), ks("b", "BuildFailed", "yaml: y"))
    assert {cause.object for cause in causes(seen)} == {f"Kustomization/{NS}/a", f"Kustomization/{NS}/b"}


def test_the_revision_that_failed_is_told() -> None:
    cause = deepest_cause(facts(GIT, ks("a", "BuildFailed", "yaml: x", attempted="")))
    assert cause is not None
    assert cause.revision == REVISION


def test_an_object_that_flux_has_not_looked_at_in_its_new_form_is_not_ready() -> None:
    assert not ks("a", generation=2).is_ready
    assert show_condition(ks("a", "waits")) == "waits for its controller"
    assert show_condition(ks("a", "BuildFailed", "no  such\nfile")) == "BuildFailed: no such file"
    assert show_condition(ks("a", suspended=True)) == "suspended"


@pytest.mark.parametrize(("message", "part"), [
    ("GitOperationFailed ssh: handshake failed: knownhosts: key mismatch", "another host key"),
    ("ReconciliationFailed Deployment/x dry-run failed: spec.selector: field is immutable", "cannot change"),
    ("BuildFailed post build failed: variable not set (strict mode): DOMAIN", "default"),
    ('no matches for kind "Certificate" in version "cert-manager.io/v1"', "install its chart"),
    ('namespaces "media" not found', "declare the namespace"),
    ('secrets "sops-age" not found', "bootstrap-flux"),
    ("something new", "mend it in Git"),
])  # fmt: skip
def test_remedies(message: str, part: str) -> None:
    assert part in remedy_for(message)
