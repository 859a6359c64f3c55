"""Claims switched to restored volumes; what was there before is kept.

A switch may be cut off anywhere: each of its steps looks at what is there and does only what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from labkit.errors import StepFailed
from labkit.facts.longhorn import DRIVER, GROUP_LABEL, JOB_LABEL
from labkit.facts.restore import CLAIM, KEPT, KEPT_GROUP, claim_label
from labkit.lab import Lab
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.flux.apply import FLUX_MANAGER
from labkit.systems.gitread import read_git
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.waiting import ask_patiently
from labkit.systems.kubernetes import Cluster, KubeError
from labkit.systems.longhorn.claims import parse_claim
from labkit.systems.longhorn.paths import own
from labkit.systems.longhorn.pvs import PVS, claim_path, find_pv, reserve, wait_until_bound

_GONE_SECONDS = 300.0
_KEEPS = ("Retain",)
_KEPT_GROUP = f"{GROUP_LABEL}{KEPT_GROUP}"
_OURS = ("pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/", "kubectl.kubernetes.io/")
"""Annotations of a claim that its former life has left: the next one gets its own."""


def apply_claim(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Switch a claim to a restored volume: the old one is kept, claim and PersistentVolume are made anew.

    Raises:
        StepFailed: something still uses the claim, the old volume could not be kept, or the new claim does not bind.
    """
    cluster = open_cluster(lab, access)
    name, volume = str(change.after["pv"]), str(change.after["volume"])
    claim = cluster.find(claim_path(change.target))
    if claim is not None and _is_on(cluster, claim, volume):
        wait_until_bound(cluster, access, step, change.target, name)
        return f"on {volume} already"
    body = _claim_body(lab, access, cluster, change, claim)
    kept = _keep(cluster, change, claim, name, volume)
    _remove_claim(cluster, access, step, change.target)
    _remove_pv(cluster, access, step, name, volume)
    for one in kept:
        _check_kept(cluster, one)
    _retire(cluster, change.target, volume)
    _take_back(cluster, volume, change.after.get("labels"))
    reserve(cluster, name, change.after)
    _make_claim(cluster, body)
    wait_until_bound(cluster, access, step, change.target, name)
    return f"on {volume}; kept: {', '.join(kept) or 'nothing was there'}"


def _is_on(cluster: Cluster, claim: Mapping[str, Any], volume: str) -> bool:
    seen = parse_claim(claim, {})
    pv = find_pv(cluster, seen.volume)
    return pv is not None and pv.handle == volume and not seen.deleting and seen.phase != "Lost"


def _claim_body(
    lab: Lab, access: Access, cluster: Cluster, change: Change, claim: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The claim as it is to be made: as Git has it; else as it was, which its new volume remembers meanwhile."""
    space, _, name = change.target.partition("/")
    wanted = read_git(lab, access).resource("PersistentVolumeClaim", name, space)
    volume = own("volumes", str(change.after["volume"]))
    notes = cluster.get(volume)["metadata"].get("annotations") or {}
    if claim is not None:
        text = json.dumps(plain_claim(claim), sort_keys=True)
        if notes.get(CLAIM) != text:
            cluster.patch(volume, {"metadata": {"annotations": {CLAIM: text}}})
        body = plain_claim(claim)
    elif notes.get(CLAIM):
        body = json.loads(notes[CLAIM])
    else:
        body = _from_change(change)
    if wanted is not None:
        body = _as_in_git(body, wanted.tree, wanted.by)
    body["spec"]["volumeName"] = str(change.after["pv"])
    return body


def plain_claim(claim: Mapping[str, Any]) -> dict[str, Any]:
    """Return a claim without what its life has added. Pure."""
    metadata, spec = claim["metadata"], dict(claim["spec"])
    notes = {k: v for k, v in (metadata.get("annotations") or {}).items() if not k.startswith(_OURS)}
    kept = {"name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata.get("labels") or {},
            "annotations": notes}  # fmt: skip
    spec.pop("volumeName", None)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": kept, "spec": spec}


def _from_change(change: Change) -> dict[str, Any]:
    space, _, name = change.target.partition("/")
    after = change.after
    spec = {"accessModes": after["modes"], "storageClassName": after["class"],
            "resources": {"requests": {"storage": str(after["size"])}}}  # fmt: skip
    metadata: dict[str, Any] = {"name": name, "namespace": space, "labels": {}, "annotations": {}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def _as_in_git(body: dict[str, Any], tree: Mapping[str, Any], by: str) -> dict[str, Any]:
    """The claim with all that Git says of it, and the labels by which Flux knows what it has applied."""
    metadata, wanted = body["metadata"], json.loads(json.dumps(tree))
    space, _, name = by.partition("/")
    flux = {"kustomize.toolkit.fluxcd.io/name": name, "kustomize.toolkit.fluxcd.io/namespace": space} if by else {}
    for key in ("labels", "annotations"):
        metadata[key] = {**metadata[key], **((wanted.get("metadata") or {}).get(key) or {})}
    metadata["labels"] |= flux
    body["spec"] |= wanted.get("spec") or {}
    return body


def _keep(cluster: Cluster, change: Change, claim: Mapping[str, Any] | None, name: str, volume: str) -> tuple[str, ...]:
    """Have every volume that gives way outlive its claim and its PersistentVolume; return their names."""
    named = str((claim or {}).get("spec", {}).get("volumeName") or "")
    kept: list[str] = []
    for one in dict.fromkeys((named, name)):
        pv = find_pv(cluster, one)
        if pv is None or pv.handle == volume:
            continue
        if pv.driver != DRIVER:
            raise StepFailed(f"PersistentVolume {one}: expected one of Longhorn, got one on {pv.driver}",
                             next_step=f"look at the claim {change.target}: it is left as it is")  # fmt: skip
        if pv.reclaim not in _KEEPS:
            cluster.patch(f"{PVS}/{one}", {"spec": {"persistentVolumeReclaimPolicy": "Retain"}})
        _mark(cluster, pv.handle, change.target)
        kept.append(pv.handle)
        seen = find_pv(cluster, one)
        if seen is not None and seen.reclaim not in _KEEPS:
            raise StepFailed(f"PersistentVolume {one}: expected it to be set to Retain, got {seen.reclaim}: nothing "
                             "was taken away", next_step="run again")  # fmt: skip
    return tuple(kept)


def _mark(cluster: Cluster, volume: str, claim: str) -> None:
    """Write on a volume which claim it is kept for, so that people, reports and the next run know what it is."""
    if cluster.find(own("volumes", volume)) is not None:
        cluster.patch(own("volumes", volume), {"metadata": {"labels": {KEPT: claim_label(*claim.split("/"))}}})


def _retire(cluster: Cluster, claim: str, volume: str) -> None:
    """Take what is kept for a claim out of all recurring jobs: its backups would else be the claim's newest.

    Longhorn copies these labels from a claim to its volume, so this counts only when the claim has gone.
    """
    label = claim_label(*claim.split("/"))
    for item in cluster.items(own("volumes"), labelSelector=f"{KEPT}={label}"):
        if item["metadata"]["name"] != volume:
            labels = dict.fromkeys(_jobs(item)) | {_KEPT_GROUP: "enabled"}
            cluster.patch(own("volumes", item["metadata"]["name"]), {"metadata": {"labels": labels}})


def _jobs(item: Mapping[str, Any]) -> list[str]:
    labels = item["metadata"].get("labels") or {}
    return [key for key in labels if key.startswith((JOB_LABEL, GROUP_LABEL)) and key != _KEPT_GROUP]


def _take_back(cluster: Cluster, volume: str, jobs: object) -> None:
    """Take the mark off a volume that is in use again, and put it into the jobs of the one that gave way."""
    item = cluster.get(own("volumes", volume))
    if KEPT in (item["metadata"].get("labels") or {}):
        labels = {KEPT: None, _KEPT_GROUP: None, **(jobs if isinstance(jobs, Mapping) else {})}
        cluster.patch(own("volumes", volume), {"metadata": {"labels": labels}})


def _check_kept(cluster: Cluster, volume: str) -> None:
    item = cluster.find(own("volumes", volume))
    if item is not None and item["metadata"].get("deletionTimestamp"):
        raise StepFailed(f"volume {volume}: expected it to be kept, but it is being deleted",
                         next_step="stop everything and look who deletes it; its backups are in the store")  # fmt: skip


def _remove_claim(cluster: Cluster, access: Access, step: Step, claim: str) -> None:
    path = claim_path(claim)
    if not cluster.delete(path):
        return
    step.say(f"claim {claim} is taken away")
    space, _, name = claim.partition("/")

    def users() -> str:
        pods = [pod for pod in cluster.items(f"/api/v1/namespaces/{space}/pods") if _mounts(pod, name)]
        return ", ".join(str(pod["metadata"]["name"]) for pod in pods)

    _wait_until_gone(cluster, access, path, f"claim {claim}", lambda: f"used by {users() or 'nobody'}")


def _mounts(pod: Mapping[str, Any], claim: str) -> bool:
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return not ended and any((v.get("persistentVolumeClaim") or {}).get("claimName") == claim for v in volumes)


def _remove_pv(cluster: Cluster, access: Access, step: Step, name: str, volume: str) -> None:
    """Take the object of a PersistentVolume away when it stands for another volume: that one is set to Retain."""
    found = find_pv(cluster, name)
    if found is None or found.handle == volume:
        return
    if found.reclaim not in _KEEPS:
        raise StepFailed(f"PersistentVolume {name}: expected Retain, got {found.reclaim}", next_step="run again")
    cluster.delete(f"{PVS}/{name}")
    step.say(f"PersistentVolume {name} made way; volume {found.handle} stays")
    _wait_until_gone(cluster, access, f"{PVS}/{name}", f"PersistentVolume {name}", lambda: "it is still there")


def _wait_until_gone(cluster: Cluster, access: Access, path: str, what: str, last: Any) -> None:
    def probe() -> bool | None:
        left = ask_patiently(lambda: cluster.find(path) is not None)
        return None if left is None or left else True

    causes = "a finalizer keeps it: a pod that uses it, or an attachment; run again, and it is gone on with"
    access.wait(probe, what=f"{what} gone", deadline=_GONE_SECONDS, every=1.0, last=last, causes=causes)


def _make_claim(cluster: Cluster, body: Mapping[str, Any]) -> None:
    """Make the claim as Flux's own bootstrap applies things: Flux takes the fields over when it looks again."""
    metadata = body["metadata"]
    path = claim_path(f"{metadata['namespace']}/{metadata['name']}")
    try:
        cluster.apply(path, body, force=True, manager=FLUX_MANAGER)
    except KubeError as exc:
        raise StepFailed(f"claim {metadata['namespace']}/{metadata['name']}: expected the API to take it, got "
                         f"{exc.status}: {exc.said}", next_step="mend it in Git, then run again") from exc  # fmt: skip
