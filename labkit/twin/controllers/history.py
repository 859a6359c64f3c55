"""ControllerRevisions: the numbered templates of StatefulSets and DaemonSets."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Api, Object

from .objects import labels_of, meta, name_of, owner_of, owner_reference, spec_of, template_hash, uid_of

RESOURCE = "controllerrevisions.apps"
HASH = "controller-revision-hash"


def ensure_revision(api: Api, owner: Object) -> Object:
    """Return the ControllerRevision of the owner's template, made or moved to the newest number if needed."""
    template = spec_of(owner)["template"]
    short = template_hash(template)
    known = revisions(api, owner)
    number = max([r["revision"] for r in known], default=0)
    found = next((r for r in known if labels_of(r).get(HASH) == short), None)
    if found is None:
        return api.create(RESOURCE, _body(owner, template, short, number + 1))
    if found["revision"] < number:
        return api.patch(RESOURCE, name_of(found), {"revision": number + 1}, meta(owner)["namespace"])
    return found


def revisions(api: Api, owner: Object) -> list[Object]:
    """Return the revisions of an owner, oldest number first."""
    found = api.list(RESOURCE, meta(owner)["namespace"])
    mine = [r for r in found if (owner_of(r) or {}).get("uid") == uid_of(owner)]
    return sorted(mine, key=lambda r: int(r["revision"]))


def forget_revisions(api: Api, owner: Object, used: set[str]) -> None:
    """Delete the oldest revisions beyond revisionHistoryLimit, save the used ones, told by name."""
    spare = [r for r in revisions(api, owner) if name_of(r) not in used]
    limit = int(spec_of(owner).get("revisionHistoryLimit", 10))
    for one in spare[: max(0, len(spare) - limit)]:
        api.delete(RESOURCE, name_of(one), meta(owner)["namespace"])


def template_of(revision: Object) -> dict[str, Any]:
    """Return the pod template that a revision keeps."""
    kept = dict(revision["data"]["spec"]["template"])
    kept.pop("$patch", None)
    return kept


def _body(owner: Object, template: dict[str, Any], short: str, number: int) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{name_of(owner)}-{short}",
            "namespace": meta(owner)["namespace"],
            "labels": {**labels_of(template), HASH: short},
            "ownerReferences": [owner_reference(owner)],
        },
        "data": {"spec": {"template": {**template, "$patch": "replace"}}},
        "revision": number,
    }
