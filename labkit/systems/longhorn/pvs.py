"""PersistentVolumes for restored volumes, each reserved for one claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.errors import StepFailed
from labkit.facts.longhorn import DRIVER, PersistentVolume
from labkit.lab import Lab
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.waiting import ask_patiently
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn.claims import parse_claim, parse_pv
from labkit.systems.longhorn.restore import find_volume

PVS = "/api/v1/persistentvolumes"
_BOUND_SECONDS = 120.0
_STALE = "30"


def apply_pv(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Make the PersistentVolume of a restored volume, reserved for its claim; wait for the claim when it is there.

    Raises:
        StepFailed: one of that name stands for another volume, or the claim does not bind.
    """
    cluster = open_cluster(lab, access)
    reserve(cluster, change.target, change.after)
    claim = str(change.after["claim"])
    if cluster.find(claim_path(claim)) is None:
        return f"reserved for {claim}"
    wait_until_bound(cluster, access, step, claim, change.target)
    return f"bound to {claim}"


def claim_path(claim: str) -> str:
    """Return the API path of a claim, given as `namespace/name`."""
    space, _, name = claim.partition("/")
    return f"/api/v1/namespaces/{space}/persistentvolumeclaims/{name}"


def find_pv(cluster: Cluster, name: str) -> PersistentVolume | None:
    """Return a PersistentVolume as it is now, or None."""
    item = cluster.find(f"{PVS}/{name}") if name else None
    return parse_pv(item) if item is not None else None


def reserve(cluster: Cluster, name: str, after: Mapping[str, Any]) -> None:
    """Have a PersistentVolume of that name for the volume, free for the claim and for nobody else."""
    found = find_pv(cluster, name)
    if found is None:
        attributes = _attributes(cluster, str(after["volume"]))
        cluster.post(PVS, pv_body(name, after, attributes))
    elif found.handle != after["volume"]:
        raise StepFailed(f"PersistentVolume {name}: expected none, or one for {after['volume']}, got {found.handle}",
                         next_step="run again: the plan is made anew")  # fmt: skip
    elif found.phase == "Released" or (found.claim_uid and found.phase != "Bound"):
        space, _, claim = str(after["claim"]).partition("/")
        ref = {"namespace": space, "name": claim, "uid": None, "resourceVersion": None}
        cluster.patch(f"{PVS}/{name}", {"spec": {"claimRef": ref}})


def _attributes(cluster: Cluster, volume: str) -> dict[str, str]:
    found = find_volume(cluster, volume)
    if found is None:
        raise StepFailed(f"volume {volume}: expected it in Longhorn, got none", next_step="run again: it is restored")
    return {
        "numberOfReplicas": str(found.replicas), "staleReplicaTimeout": _STALE,
        **({"encrypted": "true"} if found.encrypted else {}),
    }  # fmt: skip


def pv_body(name: str, after: Mapping[str, Any], attributes: Mapping[str, str]) -> dict[str, Any]:
    """Return the manifest of a PersistentVolume that only one claim can bind to: a claimRef without a uid. Pure."""
    space, _, claim = str(after["claim"]).partition("/")
    csi: dict[str, Any] = {
        "driver": DRIVER, "fsType": after["fs"], "volumeHandle": after["volume"], "volumeAttributes": dict(attributes),
        **_secrets(after.get("secrets") or {}, space=space, claim=claim),
    }  # fmt: skip
    spec: dict[str, Any] = {
        "capacity": {"storage": str(after["size"])}, "accessModes": [*after["modes"]], "volumeMode": "Filesystem",
        "persistentVolumeReclaimPolicy": "Retain", "storageClassName": after["class"], "csi": csi,
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": space, "name": claim},
    }  # fmt: skip
    if after.get("mount"):
        spec["mountOptions"] = [*after["mount"]]
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def _secrets(given: Mapping[str, str], *, space: str, claim: str) -> dict[str, dict[str, str]]:
    """The references of an encrypted volume, from the parameters of its class."""
    found: dict[str, dict[str, str]] = {}
    for words, key in (("node-stage", "nodeStageSecretRef"), ("node-publish", "nodePublishSecretRef")):
        name = given.get(f"csi.storage.k8s.io/{words}-secret-name")
        where = given.get(f"csi.storage.k8s.io/{words}-secret-namespace")
        if name and where:
            found[key] = {"name": _filled(name, space, claim), "namespace": _filled(where, space, claim)}
    return found


def _filled(text: str, space: str, claim: str) -> str:
    return text.replace("${pvc.name}", claim).replace("${pvc.namespace}", space)


def wait_until_bound(cluster: Cluster, access: Access, step: Step, claim: str, pv: str) -> None:
    """Wait until a claim is bound to the PersistentVolume, and the other way round."""
    told = ["it is not there"]

    def probe() -> bool | None:
        item = ask_patiently(lambda: cluster.find(claim_path(claim)))
        if not item:
            return None
        seen, volume = parse_claim(item, {}), find_pv(cluster, pv)
        if seen.phase == "Bound" and seen.volume == pv and volume is not None and volume.phase == "Bound":
            return True
        text = f"{seen.phase or 'Pending'}{f' on {seen.volume}' if seen.volume else ''}"
        if text != told[0]:
            told[0] = text
            step.say(f"claim {claim}: {text}")
        return None

    access.wait(probe, what=f"claim {claim} bound to {pv}", deadline=_BOUND_SECONDS, every=1.0, last=lambda: told[0],
                causes=f"look at its events: kubectl -n {claim.partition('/')[0]} describe pvc; class, size and access "
                "modes must fit")  # fmt: skip
