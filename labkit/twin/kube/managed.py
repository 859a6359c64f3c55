"""Who owns which field: managedFields of updates, and server-side apply with its conflicts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from labkit.twin.kube import fieldsets
from labkit.twin.kube.door import ApiError, Object
from labkit.twin.kube.fieldsets import Fields
from labkit.twin.kube.shapes import Shape
from labkit.twin.kube.status import failure

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_UNOWNED_META = {
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields",
    "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds",
}  # fmt: skip


class Owner(NamedTuple):
    """Who writes: a manager by its operation, on the object or on a subresource, in one API version."""

    manager: str
    operation: str
    subresource: str
    api_version: str


@dataclass
class Claim:
    """What an owner has, and since when."""

    fields: Fields
    time: str


Claims = dict[Owner, Claim]


def read_claims(obj: Object | None) -> Claims:
    """Read the managedFields of an object."""
    claims: Claims = {}
    for entry in (obj or {}).get("metadata", {}).get("managedFields") or ():
        owner = Owner(
            entry.get("manager", ""),
            entry.get("operation", ""),
            entry.get("subresource", ""),
            entry.get("apiVersion", ""),
        )
        if owner.operation:
            claims[owner] = Claim(entry.get("fieldsV1", {}), entry.get("time", ""))
    return claims


def write_claims(obj: Object, claims: Claims) -> None:
    """Write managedFields into an object: applies first, then by time and name."""
    entries = []
    for owner, claim in sorted(claims.items(), key=lambda i: (i[0].operation, i[1].time, i[0].manager)):
        if claim.fields:
            entry: Object = {
                "manager": owner.manager,
                "operation": owner.operation,
                "apiVersion": owner.api_version,
                "time": claim.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": claim.fields,
            }
            entries.append(entry | ({"subresource": owner.subresource} if owner.subresource else {}))
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def owned_view(obj: Object | None, ignored: tuple[str, ...] = ()) -> Object:
    """Return the object without what nobody can own; `ignored` names further fields at the top."""
    view = {k: v for k, v in (obj or {}).items() if k not in ("apiVersion", "kind", "metadata", *ignored)}
    meta = {k: v for k, v in (obj or {}).get("metadata", {}).items() if k not in _UNOWNED_META}
    return {"metadata": meta, **view} if meta else view


def record_update(
    claims: Claims,
    versions: tuple[Object | None, Object],
    shape: Shape,
    owner: Owner,
    *,
    time: str,
    ignored: tuple[str, ...] = (),
) -> Claims:
    """Return the claims after an update: what it changed is the owner's, what it removed is nobody's.

    Args:
        claims: those before.
        versions: the object before (None when it is new) and after.
        shape: rules of its lists and maps.
        owner: who writes.
        time: now, as the API writes it.
        ignored: fields at the top that this endpoint does not write.
    """
    old, new = versions
    changed, removed = fieldsets.compare(owned_view(old, ignored), owned_view(new, ignored), shape)
    if changed is None and removed is None:
        return claims
    lost = fieldsets.join(changed or {}, removed or {})
    after = {o: Claim(fieldsets.without(c.fields, lost), c.time) for o, c in claims.items()}
    own = claims[owner].fields if owner in claims else {}
    after[owner] = Claim(fieldsets.join(fieldsets.without(own, removed or {}), changed or {}), time)
    return after


def apply_fields(
    live: Object | None,
    applied: Object,
    shape: Shape,
    owner: Owner,
    *,
    time: str,
    force: bool,
    ignored: tuple[str, ...] = (),
) -> tuple[Object, Claims]:
    """Lay an applied configuration over the live object.

    Returns:
        The new object and its claims.

    Raises:
        ApiError: fields belong to others, and `force` is off (409).
    """
    claims = read_claims(live)
    wanted = owned_view(applied, ignored)
    fields = fieldsets.all_fields(wanted, shape) if wanted else {}
    last = claims[owner].fields if owner in claims else {}
    others = {o: c for o, c in claims.items() if o != owner}
    merged = fieldsets.merge(live or {}, _kept_identity(applied, ignored), shape)
    kept = fields
    for claim in others.values():
        kept = fieldsets.join(kept, claim.fields)
    doomed = fieldsets.without(last, kept) if last else {}
    if doomed:
        merged = fieldsets.strip(merged, doomed, kept or None, shape)
    before = owned_view(live, ignored)
    changed, removed = fieldsets.compare(before, owned_view(merged, ignored), shape)
    if changed is not None and not force:
        moved = _last_applied_fields(live, shape) if owner.manager == "kubectl" else {}
        _refuse_conflicts(others, fieldsets.without(changed, moved))
    lost = fieldsets.join(changed or {}, removed or {})
    after = {o: Claim(fieldsets.without(c.fields, lost), c.time) for o, c in others.items()}
    same = owner in claims and fields == last
    after[owner] = Claim(fields, claims[owner].time if same else time)
    return merged, after


def _kept_identity(applied: Object, ignored: tuple[str, ...]) -> Object:
    rest = {k: v for k, v in applied.items() if k not in ignored}
    meta = {k: v for k, v in applied.get("metadata", {}).items() if k != "managedFields"}
    return {**rest, "metadata": meta}


def _last_applied_fields(live: Object | None, shape: Shape) -> Fields:
    """Return what kubectl once applied on the client's side and nobody changed since: it may take that over."""
    text = (live or {}).get("metadata", {}).get("annotations", {}).get(LAST_APPLIED)
    if live is None or not text:
        return {}
    told = owned_view(json.loads(text))
    fields = fieldsets.all_fields(told, shape)
    changed, _ = fieldsets.compare(owned_view(live), fieldsets.merge(owned_view(live), told, shape), shape)
    return fieldsets.without(fields, changed or {})


def _refuse_conflicts(others: Claims, changed: Fields) -> None:
    found: list[tuple[str, str]] = []
    for owner, claim in sorted(others.items()):
        both = fieldsets.intersection(claim.fields, changed) if claim.fields else None
        if both is not None:
            found += [(_said(owner), path) for path in fieldsets.paths(both)]
    if found:
        raise _conflict_error(found)


def _said(owner: Owner) -> str:
    name = f'"{owner.manager}"'
    if owner.subresource:
        name += f' with subresource "{owner.subresource}"'
    return f"{name} using {owner.api_version}" if owner.operation == "Update" else name


def _conflict_error(found: list[tuple[str, str]]) -> ApiError:
    causes: list[dict[str, Any]] = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": path} for who, path in found
    ]
    if len(found) == 1:
        text = f"Apply failed with 1 conflict: conflict with {found[0][0]}: {found[0][1]}"
    else:
        lines: list[str] = []
        for who in dict.fromkeys(who for who, _ in found):
            lines.append(f"conflicts with {who}:")
            lines += [f"- {path}" for owner, path in found if owner == who]
        text = f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)
    return failure(409, "Conflict", text, {"causes": causes})
