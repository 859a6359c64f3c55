"""Carry out one change of add-app; read claims and configurations."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from labkit.errors import LabError
from labkit.facts.apps import AppFacts, ClaimRow, ConfigRow
from labkit.facts.flux import NAMESPACE, Workload
from labkit.lab import Lab
from labkit.lab.apprender import render_secret
from labkit.lab.apps import AppSpec
from labkit.lab.authelia import PENDING, add_app, remove_app, secret_digest
from labkit.plan import Change
from labkit.redaction import remember
from labkit.systems.access import Access, Step
from labkit.systems.flux.chain import Goal, request_reconcile, wait_for_chain
from labkit.systems.flux.read import read_workload
from labkit.systems.git import fetch, holds
from labkit.systems.gitchange import finish_work, read_book, start_work, work_folder, write_file
from labkit.systems.gitread import read_git
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.waiting import ask_patiently
from labkit.systems.kubernetes import Cluster
from labkit.systems.objects import list_objects
from labkit.systems.routes import probe_route, wait_for_route
from labkit.systems.sops import decrypt, encrypt

_META = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_SOURCE = f"GitRepository/{NAMESPACE}/flux-system"
_ROLLOUT_DEADLINE = 900.0
_EVERY = 0.5
_made: dict[tuple[Path, str], str] = {}
"""Client secrets that were generated and are not yet in Git: the digest and the app's Secret need the same one."""
_woken: dict[Path, str] = {}
"""The commit that was pushed just now, when Flux was told to look at once: it need not be asked for and told again."""
_guard = threading.Lock()
Apply = Callable[[Lab, Access, Change, Step], str]


def read_apps(lab: Lab, access: Access) -> AppFacts:
    """Return all claims with their volumes, and when each ConfigMap changed last."""
    cluster = open_cluster(lab, access)
    volumes = {str(one["metadata"]["name"]): one for one in list_objects(cluster, "/api/v1/persistentvolumes")}
    claims = [_claim(one, volumes) for one in list_objects(cluster, "/api/v1/persistentvolumeclaims")]
    return AppFacts(claims=tuple(claims), configs=tuple(_configs(cluster)), read_at=datetime.now(UTC))


def _claim(item: Mapping[str, Any], volumes: Mapping[str, Mapping[str, Any]]) -> ClaimRow:
    spec, name = item.get("spec") or {}, str((item.get("spec") or {}).get("volumeName") or "")
    volume = (volumes.get(name) or {}).get("spec") or {}
    nfs = volume.get("nfs") or {}
    return ClaimRow(
        namespace=str(item["metadata"]["namespace"]),
        name=str(item["metadata"]["name"]),
        size=str(((spec.get("resources") or {}).get("requests") or {}).get("storage") or ""),
        storage_class=str(spec.get("storageClassName") or ""),
        volume=name,
        phase=str((item.get("status") or {}).get("phase") or ""),
        keeps=not volume or str(volume.get("persistentVolumeReclaimPolicy") or "") == "Retain",
        nfs=f"{nfs.get('server')}:{nfs.get('path')}" if nfs else "",
    )


def _configs(cluster: Cluster) -> Iterator[ConfigRow]:
    token = ""
    while True:
        query = {"limit": 500, **({"continue": token} if token else {})}
        page = json.loads(cluster.request("GET", "/api/v1/configmaps", query=query, accept=_META))
        for item in page.get("items") or ():
            metadata = item["metadata"]
            times = [str(one["time"]) for one in metadata.get("managedFields") or ()
                     if one.get("time") and "f:data" in (one.get("fieldsV1") or {})]  # fmt: skip
            changed = max([*times, *([str(metadata["creationTimestamp"])] if not times else [])])
            yield ConfigRow(namespace=str(metadata["namespace"]), name=str(metadata["name"]),
                            changed=datetime.fromisoformat(changed))  # fmt: skip
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return


def apply_app(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Make one change of `plan_app` true, and return what is there now.

    Raises:
        StepFailed: it did not succeed; names the object and the deepest cause.
        SystemDown: the cluster or the Git server stopped answering.
    """
    apply = _APPLY.get(change.kind)
    if apply is None:
        raise LabError(f"{change.id}: expected a change of an app, got one that is not known")
    return apply(lab, access, change, step)


def _apply_file(lab: Lab, access: Access, change: Change, _step: Step) -> str:
    book = read_book(access, change.system)
    app = AppSpec.model_validate_json(json.dumps(book["app"]))
    folder = work_folder(access, change.system)
    text = _text(lab, access, folder, change.target, do=book["files"][change.target], app=app, preview=False)
    return write_file(folder, change.target, text)


def _text(
    lab: Lab, access: Access, folder: Path, path: str, *, do: Mapping[str, Any], app: AppSpec, preview: bool
) -> str | None:
    """The new text of a file; a preview has stand-ins for secrets."""
    if "text" in do:
        return str(do["text"])
    if do.get("remove"):
        return None
    if do.get("secret"):
        values = dict.fromkeys(app.secret_keys, "preview") if preview else _values(lab, access, folder, path, app)
        return encrypt(folder, path, render_secret(app, values))
    text = (folder / path).read_text(encoding="utf-8")
    if do.get("authelia") == "remove":
        return remove_app(text, app.name, [str(host) for host in do.get("hosts") or ()])
    digest = PENDING if preview or app.oidc is None else _digest(access, app.name)
    return add_app(text, app, digest)


def _values(lab: Lab, access: Access, folder: Path, path: str, app: AppSpec) -> dict[str, str]:
    """Every value of an app's Secret: by reference, as it was before, or made now."""
    values: dict[str, str] = {}
    if (folder / path).is_file() and not _has_new_client(access, app):
        old = YAML(typ="safe", pure=True).load(decrypt(folder, path, access.secrets.resolve(lab.git.age_key)))
        values = {str(k): str(v) for k, v in (old.get("stringData") or {}).items() if k in app.secret_keys}
    values |= {key: access.secrets.resolve_other(ref) for key, ref in app.secrets.items()}
    if app.authentication == "oidc" and app.oidc is not None and app.oidc.secret_key not in values:
        values[app.oidc.secret_key] = _client_secret(access, app.name)
    for value in values.values():
        remember(value)
    return values


def _has_new_client(access: Access, app: AppSpec) -> bool:
    with _guard:
        return (access.state, app.name) in _made


def _client_secret(access: Access, name: str) -> str:
    with _guard:
        return remember(_made.setdefault((access.state, name), secrets.token_urlsafe(54)))


def _digest(access: Access, name: str) -> str:
    return secret_digest(_client_secret(access, name), secrets.token_bytes(16))


def render_tree(lab: Lab, access: Access, change: Change, folder: Path) -> None:
    """Write the files of a plan's checkout into a folder with the repository, with stand-ins for secrets."""
    app = AppSpec.model_validate_json(json.dumps(change.after["app"]))
    files = change.after["files"]
    for path, do in files.items() if isinstance(files, dict) else ():
        if isinstance(do, dict):
            write_file(folder, path, _text(lab, access, folder, path, do=do, app=app, preview=True))


def _apply_commit(lab: Lab, access: Access, change: Change, step: Step) -> str:
    commit = _push(lab, access, change, step, branch=change.target)
    return f"{change.target} at {commit[:7]}"


def _push(lab: Lab, access: Access, change: Change, step: Step, *, branch: str) -> str:
    message = str(change.after["message"])

    woken: list[bool] = []

    def wake_flux() -> None:
        if branch == lab.git.branch:
            with suppress(LabError):  # the next change asks again, and says what is wrong
                request_reconcile(open_cluster(lab, access), _SOURCE)
                woken.append(True)

    commit = finish_work(lab, access, step, system=change.system, branch=branch, message=message, pushed=wake_flux)
    with _guard:
        _made.pop((access.state, str(change.after["app"])), None)
        if woken:
            _woken[access.state] = commit
    return commit or fetch(lab, access).head


def _apply_reconcile(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Fetch now, wait for the new revision, then for the Deployment."""
    cluster = open_cluster(lab, access)
    also = change.after.get("also")
    names = (change.target, *(also if isinstance(also, list) else ()))
    head = _reconcile(lab, access, cluster, step, names=tuple(f"Kustomization/{NAMESPACE}/{name}" for name in names))
    workload = str(change.after["workload"])
    _wait_for_workload(access, cluster, workload, step)
    return f"{workload} runs at {head[:7]}"


def _reconcile(lab: Lab, access: Access, cluster: Cluster, step: Step, *, names: tuple[str, ...]) -> str:
    """Have Flux look now, and wait until it has applied the head of the branch; return that commit."""
    with _guard:
        head = _woken.pop(access.state, "")
    if not head:
        request_reconcile(cluster, _SOURCE)
        head = fetch(lab, access).head
    revision = f"{lab.git.branch}@sha1:{head}"
    goal = Goal(revision, lambda: read_git(lab, access), fits=holds(lab, access, head), only=(_SOURCE, *names))
    wait_for_chain(cluster, access, step, goal)
    return head


def _wait_for_workload(access: Access, cluster: Cluster, identity: str, step: Step) -> None:
    seen = ["it is not there yet"]

    def probe() -> bool | None:
        row = ask_patiently(lambda: read_workload(cluster, identity))
        text = "it is not there yet" if row is None else _state(row)
        if text != seen[0]:
            seen[0] = text
            step.say(text)
        return True if row is not None and row.is_ready else None

    access.wait(probe, what=identity, deadline=_ROLLOUT_DEADLINE, every=_EVERY, last=lambda: seen[0],
                causes="mend what its pods say, in Git, and push")  # fmt: skip


def _state(row: Workload) -> str:
    if not row.current:
        return "its pods are being replaced"
    return row.problem or f"{row.ready} of {row.wanted} pods are ready"


def _apply_restart(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Start the pods of a workload anew, as `kubectl rollout restart` does."""
    cluster = open_cluster(lab, access)
    kind, space, name = change.target.split("/")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    annotations = {"kubectl.kubernetes.io/restartedAt": now}
    path = f"/apis/apps/v1/namespaces/{space}/{kind.lower()}s/{name}"
    cluster.patch(path, {"spec": {"template": {"metadata": {"annotations": annotations}}}})
    _wait_for_workload(access, cluster, change.target, step)
    return "restarted"


def _apply_route(lab: Lab, access: Access, change: Change, step: Step) -> str:
    row = wait_for_route(lab, access, step, change.target)
    return f"status {row.status}" + (f" to {row.location}" if row.location else "")


def _apply_removal(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Push the removal, and wait until Flux has taken the app out."""
    _push(lab, access, change, step, branch=str(change.after["branch"]))
    cluster = open_cluster(lab, access)
    build = read_git(lab, access).builds
    folder = str(change.after["folder"])
    owner = next((f"Kustomization/{one.name}" for one in build if folder.startswith(f"{one.path}/")), "")
    head = _reconcile(lab, access, cluster, step, names=(owner,) if owner else ())
    identity = f"Deployment/{change.after['namespace']}/{change.target}"

    def probe() -> bool | None:
        gone = ask_patiently(lambda: read_workload(cluster, identity) is None)
        return True if gone else None

    access.wait(probe, what=identity, deadline=_ROLLOUT_DEADLINE, every=_EVERY, last=lambda: "it is still there",
                causes="look whether its Kustomization prunes, and at finalizers")  # fmt: skip
    host = str(change.after["host"])
    if host:
        access.wait(lambda: None if probe_route(lab, access, host).is_routed else True, what=f"https://{host}",
                    deadline=60.0, every=1.0, last=lambda: "an app still answers there",
                    causes="look for another route of that host")  # fmt: skip
    return f"gone at {head[:7]}"


def _apply_volume(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Flux prunes the claim with the app; here it is awaited."""
    cluster = open_cluster(lab, access)
    space = str(change.before["namespace"])
    path = f"/api/v1/namespaces/{space}/persistentvolumeclaims/{change.target}"

    def probe() -> bool | None:
        return True if ask_patiently(lambda: cluster.find(path) or {}) == {} else None

    step.say("waits until Flux has pruned it")
    access.wait(probe, what=f"claim {change.target}", deadline=300.0, every=2.0, last=lambda: "it is still there",
                causes="a pod may still use it, or it is annotated to be kept")  # fmt: skip
    return "gone"


_APPLY: Mapping[str, Apply] = {
    "checkout": start_work,
    "file": _apply_file,
    "commit": _apply_commit,
    "reconcile": _apply_reconcile,
    "restart": _apply_restart,
    "route": _apply_route,
    "app": _apply_removal,
    "volume": _apply_volume,
}
