"""Claims, PersistentVolumes and who uses them, as facts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.facts.longhorn import Claim, PersistentVolume
from labkit.systems.longhorn.parse import moment

Item = Mapping[str, Any]
_FLUX = "kustomize.toolkit.fluxcd.io"
_SOURCES = ("nfs", "local", "hostPath", "iscsi", "rbd", "cephfs")
_SUFFIXES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
             "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}  # fmt: skip


def parse_claim(item: Item, users: Mapping[tuple[str, str], list[str]]) -> Claim:
    """Return a claim; `users` has the pods of each (namespace, claim)."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    labels = {str(key): str(value) for key, value in (metadata.get("labels") or {}).items()}
    space, name = str(metadata.get("namespace")), str(metadata["name"])
    owner, of = labels.get(f"{_FLUX}/name", ""), labels.get(f"{_FLUX}/namespace", "")
    return Claim(
        namespace=space,
        name=name,
        phase=str(status.get("phase") or ""),
        volume=str(spec.get("volumeName") or ""),
        storage_class=str(spec.get("storageClassName") or ""),
        requested=quantity(((spec.get("resources") or {}).get("requests") or {}).get("storage")),
        access_modes=tuple(str(one) for one in spec.get("accessModes") or ()),
        labels=labels,
        created_at=moment(metadata.get("creationTimestamp")),
        deleting=bool(metadata.get("deletionTimestamp")),
        pods=tuple(sorted(users.get((space, name), ()))),
        kustomization=f"{of}/{owner}" if owner else "",
    )


def parse_pv(item: Item) -> PersistentVolume:
    """Return a PersistentVolume."""
    spec, status = item.get("spec") or {}, item.get("status") or {}
    csi, ref = spec.get("csi") or {}, spec.get("claimRef") or {}
    return PersistentVolume(
        name=str(item["metadata"]["name"]),
        phase=str(status.get("phase") or ""),
        driver=str(csi.get("driver") or next((one for one in _SOURCES if one in spec), "")),
        handle=str(csi.get("volumeHandle") or ""),
        storage_class=str(spec.get("storageClassName") or ""),
        reclaim=str(spec.get("persistentVolumeReclaimPolicy") or ""),
        capacity=quantity((spec.get("capacity") or {}).get("storage")),
        claim_namespace=str(ref.get("namespace") or ""),
        claim=str(ref.get("name") or ""),
        claim_uid=str(ref.get("uid") or ""),
        access_modes=tuple(str(one) for one in spec.get("accessModes") or ()),
        fs_type=str(csi.get("fsType") or ""),
    )


def users_of(pods: Iterable[Item]) -> dict[tuple[str, str], list[str]]:
    """Return the pods that have not ended by the (namespace, claim) that they use."""
    found: dict[tuple[str, str], list[str]] = {}
    for pod in pods:
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            metadata = pod["metadata"]
            for claim in set(_claims(pod)):
                found.setdefault((str(metadata.get("namespace")), claim), []).append(str(metadata["name"]))
    return found


def _claims(pod: Item) -> Iterator[str]:
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if name:
            yield str(name)


def quantity(text: object) -> int:
    """Read a quantity such as `10Gi` in bytes; 0 for what is none."""
    word = str(text or "0")
    digits = word.rstrip("KMGTPkmi")
    factor = _SUFFIXES.get(word[len(digits) :], 1)
    try:
        return int(float(digits) * factor) if "." in digits or "e" in digits else int(digits) * factor
    except ValueError:
        return 0
