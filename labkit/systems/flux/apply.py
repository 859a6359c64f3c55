"""Carry out one change of bootstrap-flux."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.errors import LabError, StepFailed
from labkit.facts.flux import NAMESPACE, SUSPENDED_FOR
from labkit.lab import Lab
from labkit.lab.fluxsync import COMPONENTS, KUSTOMIZATION, SYNC
from labkit.plan import Action, Change
from labkit.process import run_program
from labkit.systems.access import Access, Step
from labkit.systems.flux.chain import Goal, object_path, request_reconcile, wait_for_chain
from labkit.systems.flux.read import read_objects
from labkit.systems.flux.secrets import AGE, age_file, render_secret, wanted_values
from labkit.systems.git import checked_out, fetch, holds
from labkit.systems.gitread import read_git
from labkit.systems.gotk import parse_objects
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import MANAGER, Cluster
from labkit.systems.objects import Paths, apply_object, apply_objects

FLUX_MANAGER = "flux"
"""The field manager that `flux bootstrap` applies with; Flux takes the fields over from it."""
_KUSTOMIZE_SECONDS = 60.0
_SYNC_KINDS = ("GitRepository", "Kustomization")
Apply = Callable[[Lab, Access, Change, Step], str]


def apply_change(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Make one change of `plan_flux` true, and return what is there now.

    Raises:
        StepFailed: it did not succeed; names the object and the deepest cause.
        SystemDown: the cluster or the Git server stopped answering.
    """
    apply = _APPLY.get(change.kind)
    if apply is None:
        raise LabError(f"{change.id}: expected a change of Flux, got one that is not known")
    return apply(lab, access, change, step)


def _apply_namespace(lab: Lab, access: Access, change: Change, _step: Step) -> str:
    cluster = open_cluster(lab, access)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": change.target}}
    apply_object(cluster, Paths(cluster), body)
    return f"namespace {change.target}"


def _apply_secret(lab: Lab, access: Access, change: Change, _step: Step) -> str:
    cluster, wanted = open_cluster(lab, access), wanted_values(lab, access)
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/{change.target}"
    is_age = change.after.get("holds") == AGE
    values = {age_file(cluster.find(path)): wanted.age} if is_age else wanted.deploy()
    apply_object(cluster, Paths(cluster), render_secret(change.target, values))
    return ", ".join(sorted(values))


def _apply_components(lab: Lab, access: Access, _change: Change, step: Step) -> str:
    objects = [one for one in _committed(lab, access) if not _is_sync(one)]
    if not any(one["kind"] == "Deployment" for one in objects):
        raise StepFailed(f"{COMPONENTS}: expected Flux's controllers in it, got none",
                         next_step="commit the output of `flux install --export`")  # fmt: skip
    cluster = open_cluster(lab, access)
    step.say(f"applies {len(objects)} objects")
    apply_objects(cluster, access, objects, manager=FLUX_MANAGER)
    names = [str(one["metadata"]["name"]) for one in objects if one["kind"] == "Deployment"]
    _wait_for_controllers(cluster, access, step, names)
    return f"{len(objects)} objects; {', '.join(names)} run"


def _wait_for_controllers(cluster: Cluster, access: Access, step: Step, names: list[str]) -> None:
    seen = [""]

    def probe() -> bool | None:
        found = {str(one["metadata"]["name"]): one.get("status") or {}
                 for one in cluster.items(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments")}  # fmt: skip
        waiting = [name for name in names if not (found.get(name) or {}).get("readyReplicas")]
        if waiting and seen[0] != (text := f"waits for {', '.join(waiting)}"):
            seen[0] = text
            step.say(text)
        return None if waiting else True

    access.wait(probe, what="Flux's controllers", deadline=600.0, every=2.0, last=lambda: seen[0],
                causes=f"look at their pods: kubectl -n {NAMESPACE} describe pods")  # fmt: skip


def _apply_sync(lab: Lab, access: Access, change: Change, _step: Step) -> str:
    kind = {"gitrepository": "GitRepository", "kustomization": "Kustomization"}[change.kind]
    wanted = [one for one in _committed(lab, access) if _is_sync(one) and one["kind"] == kind]
    if not wanted:
        raise StepFailed(f"{SYNC}: expected {kind} flux-system in it, got none",
                         next_step="look at that file in Git: bootstrap writes it")  # fmt: skip
    cluster = open_cluster(lab, access)
    apply_objects(cluster, access, wanted, manager=FLUX_MANAGER)
    return f"{kind} flux-system"


def _is_sync(one: Mapping[str, Any]) -> bool:
    group = str(one.get("apiVersion") or "")
    named = (one.get("metadata") or {}).get("name") == "flux-system"
    return named and one.get("kind") in _SYNC_KINDS and ".toolkit.fluxcd.io/" in group


def _committed(lab: Lab, access: Access) -> list[dict[str, Any]]:
    """The objects of Flux's own folder at the head, through its kustomization, so that patches count."""
    folder = lab.git.path.removeprefix("./").strip("/")
    with checked_out(fetch(lab, access)) as tree:
        flux = tree / folder / "flux-system"
        if (flux / KUSTOMIZATION).is_file():
            return parse_objects(_kustomize(flux))
        files = [flux / name for name in (COMPONENTS, SYNC) if (flux / name).is_file()]
        return [one for file in files for one in parse_objects(file.read_text(encoding="utf-8"))]


def _kustomize(folder: Path) -> str:
    beside = Path(sys.executable).parent / "kubectl"
    kubectl = beside if beside.exists() else Path(shutil.which("kubectl") or "kubectl")
    return run_program([kubectl, "kustomize", folder], timeout=_KUSTOMIZE_SECONDS).text


def _apply_kustomization(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """The sync object, or a suspension: our own field manager holds nothing but `suspend` in the end."""
    if change.target == "flux-system" and "suspend" not in change.after:
        return _apply_sync(lab, access, change, step)
    cluster = open_cluster(lab, access)
    space = str(change.after["namespace"])
    path = object_path(f"Kustomization/{space}/{change.target}")
    if change.after["suspend"]:
        return _suspend(lab, access, cluster, path, change)
    return _resume(cluster, path, change.target, space)


def _suspend(lab: Lab, access: Access, cluster: Cluster, path: str, change: Change) -> str:
    space = str(change.after["namespace"])
    body: dict[str, Any] = _shell(change.target, space)
    if change.action is Action.CREATE:
        # The API wants the required fields; what Flux applies later takes them over, and not this one.
        build = read_git(lab, access).build(f"{space}/{change.target}")
        if build is None:
            raise StepFailed(f"Kustomization {space}/{change.target}: expected it in the repository, got none")
        spec = build.source.get("spec") or {}
        body["spec"] = {key: spec[key] for key in ("interval", "path", "prune", "sourceRef") if key in spec}
    body.setdefault("spec", {})["suspend"] = True
    if why := change.after.get("for"):
        body["metadata"]["annotations"] = {SUSPENDED_FOR: why}
    cluster.apply(path, body, force=True)
    return "suspended"


def _resume(cluster: Cluster, path: str, name: str, space: str) -> str:
    """Give the field back: what only we hold goes, what Flux holds as well stays."""
    seen = cluster.get(path)
    fields = seen["metadata"].get("managedFields") or ()
    specs = {m.get("manager"): (m.get("fieldsV1") or {}).get("f:spec") or {} for m in fields}
    others = [name for name, spec in specs.items() if name != MANAGER and "f:interval" in spec]
    body = _shell(name, space)
    if not others:
        # Flux has not applied it yet, so the required fields are still ours; it will take them over.
        spec = seen.get("spec") or {}
        body["spec"] = {key: spec[key] for key in ("interval", "path", "prune", "sourceRef") if key in spec}
    cluster.apply(path, body, force=True)
    if (cluster.get(path).get("spec") or {}).get("suspend"):
        cluster.patch(path, {"spec": {"suspend": None}})  # somebody else held it as well: `flux suspend`
    request_reconcile(cluster, f"Kustomization/{space}/{name}")
    return "resumed"


def _shell(name: str, space: str) -> dict[str, Any]:
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": name, "namespace": space},
    }  # fmt: skip


def _apply_chain(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Wake the source, and what failed at the newest revision already; then wait for all of it."""
    cluster, git = open_cluster(lab, access), read_git(lab, access)
    for identity in (f"GitRepository/{NAMESPACE}/flux-system", f"Kustomization/{NAMESPACE}/flux-system"):
        request_reconcile(cluster, identity)
    for identity in _failed_already(cluster):
        request_reconcile(cluster, identity)
    goal = Goal(
        git.revision, lambda: git, fits=holds(lab, access, git.head), but=tuple(_texts(change.after.get("but")))
    )
    facts = wait_for_chain(cluster, access, step, goal)
    ready = sum(one.is_ready for one in facts.objects)
    return f"{ready} of {len(facts.objects)} objects ready at {git.revision[: len(git.branch) + 13]}"


def _failed_already(cluster: Cluster) -> Iterator[str]:
    for one in read_objects(cluster):
        if one.kind in ("Kustomization", "HelmRelease") and one.trouble is not None and not one.suspended:
            yield one.id


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


_APPLY: Mapping[str, Apply] = {
    "namespace": _apply_namespace,
    "secret": _apply_secret,
    "components": _apply_components,
    "gitrepository": _apply_sync,
    "kustomization": _apply_kustomization,
    "chain": _apply_chain,
}
