"""Deleting: grace, finalizers, propagation and preconditions."""

from __future__ import annotations

from labkit.twin.kube import status
from labkit.twin.kube.clock import stamp
from labkit.twin.kube.clone import clone
from labkit.twin.kube.core import Core, is_finished
from labkit.twin.kube.door import Object
from labkit.twin.kube.options import DeleteOptions
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.store import Record

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


def delete(core: Core, resource: Resource, record: Record, options: DeleteOptions) -> tuple[Record, bool]:
    """Delete an object, or mark it when somebody still has to let go of it.

    Returns:
        The object as it is answered, and whether it is gone.

    Raises:
        ApiError: a precondition does not hold (409), or a webhook refuses.
    """
    _check_preconditions(resource, record, options)
    if resource.key in core.webhooks and not record.meta.get("deletionTimestamp"):
        core.webhooks[resource.key].leave(record.object)
    obj = clone(record.object)
    meta = obj["metadata"]
    _set_finalizers(resource, meta, options)
    grace = _grace(resource, obj, options)
    already = meta.get("deletionTimestamp")
    if already and grace >= meta.get("deletionGracePeriodSeconds", 0) and grace > 0:
        return record, False
    if not already and meta.get("generation") and resource.key not in (CRDS, "namespaces"):
        meta["generation"] += 1
    if not already or grace < meta.get("deletionGracePeriodSeconds", 0):
        meta["deletionTimestamp"] = stamp(core.clock.now() + grace)
    _special(resource, obj, grace)
    if options.dry_run:
        return Record(record.path, obj, record.revision), is_finished(obj)
    if is_finished(obj):
        return core.store.remove(resource.key, record), True
    if obj == record.object:
        return record, False
    return core.store.put(resource.key, obj), False


def delete_collection(core: Core, resource: Resource, records: list[Record], options: DeleteOptions) -> list[Record]:
    """Delete all of these objects and return them as they were answered."""
    return [delete(core, resource, record, options)[0] for record in records]


def _check_preconditions(resource: Resource, record: Record, options: DeleteOptions) -> None:
    name, uid, version = record.meta["name"], record.meta["uid"], record.meta["resourceVersion"]
    if options.uid and options.uid != uid:
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated"
        )
        raise status.conflict(resource.kind, resource.group, name, why)
    if options.resource_version and options.resource_version != version:
        why = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
            f"ResourceVersion in record ({version}). The object might have been modified"
        )
        raise status.conflict(resource.kind, resource.group, name, why)


def _set_finalizers(resource: Resource, meta: Object, options: DeleteOptions) -> None:
    policy = options.propagation
    if policy is None and resource.key == "jobs.batch":
        policy = "Orphan"  # batch/v1 orphans unless it is told otherwise
    finalizers = list(meta.get("finalizers", []))
    if policy is not None:
        finalizers = [name for name in finalizers if name not in (FOREGROUND, ORPHAN)]
    if policy == "Foreground":
        finalizers.append(FOREGROUND)
    elif policy == "Orphan":
        finalizers.append(ORPHAN)
    if resource.key == CRDS and CLEANUP not in finalizers:
        finalizers.append(CLEANUP)
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)


def _grace(resource: Resource, obj: Object, options: DeleteOptions) -> int:
    if resource.key != "pods":
        return 0
    spec = obj.get("spec", {})
    if not spec.get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    wanted = options.grace if options.grace is not None else spec.get("terminationGracePeriodSeconds", 30)
    return 1 if wanted < 0 else int(wanted)


def _special(resource: Resource, obj: Object, grace: int) -> None:
    meta = obj["metadata"]
    if resource.key == "namespaces":
        obj.setdefault("status", {})["phase"] = "Terminating"
    elif resource.key == CRDS:
        _set_condition(obj, meta["deletionTimestamp"])
    else:
        meta["deletionGracePeriodSeconds"] = min(grace, meta.get("deletionGracePeriodSeconds", grace))


def _set_condition(crd: Object, now: str) -> None:
    conditions = crd.setdefault("status", {}).setdefault("conditions", None) or []
    text = "CustomResource deletion is in progress"
    if all(condition["type"] != "Terminating" for condition in conditions):
        conditions.append(
            {
                "type": "Terminating",
                "status": "True",
                "lastTransitionTime": now,
                "reason": "InstanceDeletionInProgress",
                "message": text,
            }
        )
    crd["status"]["conditions"] = conditions
