"""The subresources that act: scale, eviction, binding, logs, tokens, reviews and the service proxy."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from labkit.twin.kube import patching, status
from labkit.twin.kube.answers import answer, answer_status, text
from labkit.twin.kube.binding import bind
from labkit.twin.kube.bodies import media_type, parse, read_object
from labkit.twin.kube.call import Call
from labkit.twin.kube.clock import stamp
from labkit.twin.kube.door import Object
from labkit.twin.kube.eviction import evict
from labkit.twin.kube.managed import Owner, record_update, write_claims
from labkit.twin.kube.patching import patched
from labkit.twin.kube.scale import scale_of, set_scale
from labkit.twin.kube.store import dump
from labkit.twin.kube.writing import check_patch


async def scale(call: Call) -> web.Response:
    """Read or write the replicas of an object."""
    resource, place = call.resource, call.place
    record = call.core.get(resource, place.namespace, place.name)
    now = scale_of(resource, record)
    match call.request.method:
        case "GET":
            return answer(dump(now))
        case "PUT":
            wanted = await read_object(call.request, "Scale")
        case "PATCH":
            media = media_type(call.request)
            body = parse(await call.request.read(), check_patch(call, media), "Scale")
            kind = patching.MERGE if media in (patching.APPLY, patching.STRATEGIC) else media
            wanted = patched(resource, now, body, kind)
        case _:
            raise status.method_not_allowed()
    new = set_scale(call.core, call.target, wanted, call.options())
    return answer(dump(scale_of(resource, new)))


async def eviction(call: Call) -> web.Response:
    """Evict a pod (201)."""
    body = await read_object(call.request, "Eviction")
    if call.dry_run:
        body.setdefault("deleteOptions", {})["dryRun"] = ["All"]
    evict(call.core, call.place.namespace, call.place.name, body)
    return answer_status(status.success(code=201), 201)


async def binding(call: Call) -> web.Response:
    """Bind a pod to a node (201)."""
    body = await read_object(call.request, "Binding")
    name = call.place.name if call.resource.plural == "pods" else body.get("metadata", {}).get("name", "")
    bind(call.core, call.place.namespace, name, body)
    return answer_status(status.success(code=201), 201)


def check_log(call: Call) -> tuple[Object, str]:
    """Return the pod and the container whose log is wanted; raise ApiError (400, 404)."""
    pod = call.core.get(call.resource, call.place.namespace, call.place.name).object
    name = pod["metadata"]["name"]
    spec = pod["spec"]
    names = [c["name"] for c in spec.get("containers", ())]
    wanted = call.query.get("container", "")
    if not wanted and len(names) > 1:
        raise status.bad_request(
            f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
        )
    wanted = wanted or names[0]
    if wanted not in [*names, *(c["name"] for c in spec.get("initContainers", ()))]:
        raise status.bad_request(f"container {wanted} is not valid for pod {name}")
    if not spec.get("nodeName"):
        raise status.bad_request(f"pod {name} does not have a host assigned")
    return pod, wanted


def answer_log(call: Call, log: str) -> web.Response:
    """Answer with a log, cut as the query says."""
    lines = log.splitlines(keepends=True)
    tail = call.query.get("tailLines", "")
    if tail.isdigit():
        lines = lines[max(0, len(lines) - int(tail)) :]
    return text("".join(lines))


async def review(call: Call, user: Object) -> web.Response:
    """Answer a review of access or identity; everyone who is let in may do everything."""
    resource, options = call.resource, call.options()
    sent = call.core.read(resource, await read_object(call.request, resource.kind), options)
    owner = Owner(options.manager, "Update", "", resource.group_version)
    body = {**sent, "metadata": {}}
    write_claims(body, record_update({}, (None, body), resource.shape, owner, time=call.core.now()))
    body["status"] = _judgement(resource.kind, user)
    return answer(dump(body), 201, warnings=options.warnings)


def _judgement(kind: str, user: Object) -> Object:
    everything: dict[str, Any] = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    match kind:
        case "SelfSubjectReview":
            return {"userInfo": user}
        case "TokenReview":
            return {"authenticated": True, "user": user}
        case "SelfSubjectRulesReview":
            others = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
            return {"resourceRules": [everything], "nonResourceRules": others, "incomplete": False}
    return {"allowed": True}


async def token(call: Call, issued: str) -> web.Response:
    """Answer a request for a service account's token with the one that was issued (201)."""
    body = await read_object(call.request, "TokenRequest")
    call.core.get(call.resource, call.place.namespace, call.place.name)
    seconds = int((body.get("spec") or {}).get("expirationSeconds") or 3600)
    state = {"token": issued, "expirationTimestamp": stamp(call.core.clock.now() + seconds)}
    return answer(dump({**body, "status": state}), 201)
