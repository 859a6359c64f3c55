"""What controllers ask of objects again and again: names, owners, conditions, selectors, quantities, times."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from labkit.twin.kube.door import Object

SAFE = "bcdfghjklmnpqrstvwxz2456789"
SUFFIXES = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip
QUANTITY = re.compile(r"^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(m|[kMGTP]i?|Ki)?$")


def meta(obj: Object) -> dict[str, Any]:
    """Return the metadata of an object, {} when it has none."""
    found: dict[str, Any] = obj.get("metadata") or {}
    return found


def name_of(obj: Object) -> str:
    """Return metadata.name."""
    return str(meta(obj).get("name", ""))


def namespace_of(obj: Object) -> str:
    """Return metadata.namespace, "" for a cluster-wide object."""
    return str(meta(obj).get("namespace", ""))


def uid_of(obj: Object) -> str:
    """Return metadata.uid."""
    return str(meta(obj).get("uid", ""))


def labels_of(obj: Object) -> dict[str, str]:
    """Return metadata.labels."""
    return meta(obj).get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    """Return metadata.annotations."""
    return meta(obj).get("annotations") or {}


def spec_of(obj: Object) -> dict[str, Any]:
    """Return spec, {} when there is none."""
    return obj.get("spec") or {}


def status_of(obj: Object) -> dict[str, Any]:
    """Return status, {} when there is none."""
    return obj.get("status") or {}


def is_deleting(obj: Object) -> bool:
    """Tell whether a deletion timestamp is set."""
    return bool(meta(obj).get("deletionTimestamp"))


def finalizers_of(obj: Object) -> list[str]:
    """Return metadata.finalizers."""
    return meta(obj).get("finalizers") or []


def stamp(seconds: float) -> str:
    """Write twin time as the API does: RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(seconds: float) -> str:
    """Write twin time with microseconds, as Leases have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unstamp(text: str | None, default: float = 0.0) -> float:
    """Read an RFC 3339 time as seconds since the epoch; `default` when there is none."""
    return datetime.fromisoformat(text).timestamp() if text else default


def quantity(text: Any) -> float:
    """Read a Kubernetes quantity (`500m`, `1Gi`, 2) as a number of base units; 0 when it cannot be read."""
    found = QUANTITY.match(str(text).strip())
    return float(found[1]) * SUFFIXES[found[2] or ""] if found else 0.0


def share(value: Any, whole: int, *, up: bool) -> int:
    """Read an int-or-percent against a whole, rounding up or down."""
    text = str(value)
    if text.endswith("%"):
        percent = int(text[:-1]) * whole
        return -(-percent // 100) if up else percent // 100
    return int(text)


def owner_of(obj: Object) -> dict[str, Any] | None:
    """Return the owner reference that controls the object."""
    for ref in meta(obj).get("ownerReferences") or []:
        if ref.get("controller"):
            return dict(ref)
    return None


def is_owned_by(obj: Object, owner: Object) -> bool:
    """Tell whether `owner` controls the object."""
    ref = owner_of(obj)
    return ref is not None and ref.get("uid") == uid_of(owner)


def owner_reference(owner: Object) -> dict[str, Any]:
    """Build the reference that a controller puts into what it makes."""
    return {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name_of(owner), "uid": uid_of(owner),
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def owner_key(obj: Object, kind: str) -> list[tuple[str, str]]:
    """Return the key of the controlling owner of that kind, as a list of none or one."""
    ref = owner_of(obj)
    return [(namespace_of(obj), ref["name"])] if ref and ref["kind"] == kind else []


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Match a LabelSelector; None matches nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    return all(match_expression(e, labels) for e in selector.get("matchExpressions") or [])


def match_expression(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Match one requirement of a label or node selector; an unknown operator matches nothing."""
    value, values = labels.get(term["key"]), term.get("values") or []
    rule = OPERATORS.get(term["operator"])
    return rule is not None and rule(value, values)


OPERATORS: dict[str, Callable[[str | None, list[str]], bool]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
    "Gt": lambda value, values: value is not None and int(value) > int(values[0]),
    "Lt": lambda value, values: value is not None and int(value) < int(values[0]),
}


def condition(obj: Object, kind: str) -> dict[str, Any] | None:
    """Return the condition of that type."""
    for found in status_of(obj).get("conditions") or []:
        if found.get("type") == kind:
            return dict(found)
    return None


def is_true(obj: Object, kind: str) -> bool:
    """Tell whether the condition of that type is True."""
    found = condition(obj, kind)
    return found is not None and found.get("status") == "True"


def with_condition(
    conditions: Iterable[Mapping[str, Any]] | None, kind: str, status: str, now: str, **fields: Any
) -> list[dict[str, Any]]:
    """Return conditions with one of them set; the transition time moves only when the status does."""
    out = [dict(c) for c in conditions or []]
    old = next((c for c in out if c.get("type") == kind), None)
    moved = old is None or old.get("status") != status
    new = {"type": kind, "status": status, **fields}
    new["lastTransitionTime"] = now if moved or old is None else old.get("lastTransitionTime", now)
    if old is None:
        return [*out, new]
    return [new if c is old else c for c in out]


def is_ready(pod: Object) -> bool:
    """Tell whether a pod's Ready condition is True."""
    return is_true(pod, "Ready")


def is_active(pod: Object) -> bool:
    """Tell whether a pod counts for its controller: neither ended nor being deleted."""
    return not is_deleting(pod) and not is_finished(pod)


def is_finished(pod: Object) -> bool:
    """Tell whether a pod has ended for good."""
    return status_of(pod).get("phase") in ("Succeeded", "Failed")


def template_hash(template: Any, collisions: int = 0) -> str:
    """Return the short hash of a pod template that goes into names, in the API's safe alphabet."""
    text = json.dumps([template, collisions] if collisions else template, sort_keys=True)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return "".join(SAFE[ord(c) % 27] for c in str(number))


def controller_pods(pods: Iterable[Object], owner: Object) -> list[Object]:
    """Return the pods that the owner controls."""
    uid = uid_of(owner)
    return [p for p in pods if (owner_of(p) or {}).get("uid") == uid]


def pod_from(template: Object, owner: Object, **metadata: Any) -> Object:
    """Build a pod from a template, controlled by its owner; `metadata` adds name, labels, finalizers."""
    base = meta(template)
    labels = {**(base.get("labels") or {}), **metadata.pop("labels", {})}
    annotations = {**(base.get("annotations") or {}), **metadata.pop("annotations", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": namespace_of(owner),
            "labels": labels,
            **({"annotations": annotations} if annotations else {}),
            **({"finalizers": base["finalizers"]} if base.get("finalizers") else {}),
            "ownerReferences": [owner_reference(owner)],
            **metadata,
        },
        "spec": json.loads(json.dumps(spec_of(template))),
    }


def without_zeros(status: Mapping[str, Any], keep: Iterable[str] = ()) -> dict[str, Any]:
    """Drop zero numbers and empty lists, as the API's omitempty does, save the named fields."""
    kept = set(keep)
    return {k: v for k, v in status.items() if k in kept or v not in (0, None, [], {}, "")}
