"""Which function answers a request: paths outside the API groups, and resources by verb."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from labkit.twin.kube import answers, discovery, openapi, reading, status, subresources, writing
from labkit.twin.kube.call import Call
from labkit.twin.kube.core import Core
from labkit.twin.kube.door import Object
from labkit.twin.kube.paths import Place, Wanted, read_accept, read_path
from labkit.twin.kube.store import dump
from labkit.twin.kube.watching import Watcher

if TYPE_CHECKING:
    from labkit.twin.kube.server import KubeServer

HEALTH = ("healthz", "livez", "readyz")
_CHECKS = ("ping", "log", "etcd", "etcd-readiness", "poststarthook/start-apiserver-admission-initializer")


async def respond(server: KubeServer, request: web.BaseRequest) -> web.StreamResponse:
    """Answer one request; raise ApiError for everything that is no success."""
    path = request.path.rstrip("/")
    first = path.split("/")[1] if path else ""
    wanted = read_accept(request.headers.get("Accept", ""))
    if first in ("api", "apis"):
        place = read_path(path)
        return await _api(server, request, place, wanted) if place.plural else _discover(server, place, wanted)
    if first in (*HEALTH, "metrics"):
        return _health(path, request) if first in HEALTH else answers.text(_metrics(server))
    if first == "version":
        return answers.answer(dump(discovery.version_info(server.version)))
    if first == "openapi":
        return _openapi(server.core, path, request)
    if not first:
        return answers.answer(
            dump({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"]})
        )
    return answers.page_not_found()


def _health(path: str, request: web.BaseRequest) -> web.Response:
    kind, _, check = path.strip("/").partition("/")
    if check:
        return answers.text("ok") if check in _CHECKS else answers.page_not_found()
    if "verbose" not in request.query:
        return answers.text("ok")
    lines = [f"[+]{name} ok" for name in _CHECKS]
    return answers.text("\n".join([*lines, f"{kind} check passed", ""]))


_METRIC = "apiserver_requested_deprecated_apis"
_ABOUT = ("Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, "
          "subresource, and removed_release.")  # fmt: skip


def _metrics(server: KubeServer) -> str:
    """Return the metrics that there are: which deprecated versions somebody has asked for."""
    labels = 'group="{0}",removed_release="",resource="{2}",subresource="{3}",version="{1}"'
    rows = [f"{_METRIC}{{{labels.format(*asked)}}} 1" for asked in sorted(server.deprecated)]
    return "\n".join([f"# HELP {_METRIC} [STABLE] {_ABOUT}", f"# TYPE {_METRIC} gauge", *rows, ""])


def _openapi(core: Core, path: str, request: web.BaseRequest) -> web.Response:
    if path == "/openapi/v2":
        if "protobuf" in request.headers.get("Accept", ""):
            return answers.answer(openapi.SWAGGER_PROTOBUF, media=openapi.PROTOBUF_TYPE)
        return answers.answer(dump(openapi.swagger()))
    if path == "/openapi/v3":
        return answers.answer(dump(openapi.index(core.registry)))
    found = openapi.document(core.registry, path.removeprefix("/openapi/v3/"))
    return answers.answer(dump(found)) if found is not None else answers.page_not_found()


def _discover(server: KubeServer, place: Place, wanted: Wanted) -> web.Response:
    registry = server.core.registry
    if wanted.aggregated and not place.version and not place.group:
        body = discovery.aggregated(registry, wanted.aggregated, core=place.core)
        return answers.answer(dump(body), media=discovery.AGGREGATED.format(version=wanted.aggregated))
    found: Object | None
    if place.version:
        found = discovery.resource_list(registry, place.group, place.version)
    elif place.group:
        found = discovery.group(registry, place.group)
    elif place.core:
        found = discovery.core_versions(server.address)
    else:
        found = discovery.group_list(registry)
    return answers.answer(dump(found)) if found is not None else answers.page_not_found()


async def _api(server: KubeServer, request: web.BaseRequest, place: Place, wanted: Wanted) -> web.StreamResponse:
    registry = server.core.registry
    if not registry.has_version(place.group, place.version):
        return answers.page_not_found()
    resource = registry.at(place.group, place.version, place.plural)
    if resource is None or (place.namespace and not resource.namespaced):
        raise status.no_such_resource()
    if resource.version_spec is not None and resource.version_spec.get("deprecated"):
        server.deprecated.add((place.group, place.version, place.plural, place.subresource))
    if not wanted.acceptable:
        text = "only the following media types are accepted: application/json"
        raise status.failure(406, "NotAcceptable", text)
    call = Call(server.core, request, place, resource, wanted, dict(request.query))
    if place.subresource and place.subresource != "status":
        return await _subresource(server, call)
    if not resource.stored:
        return await _unstored(server, call)
    if place.subresource and not resource.status:
        raise status.no_such_resource()
    if place.name:
        return await _one(server, call)
    return await _many(server, call)


async def _one(server: KubeServer, call: Call) -> web.StreamResponse:
    if call.resource.namespaced and not call.place.namespace:
        raise status.no_such_resource()
    match call.request.method:
        case "GET" if call.place.watch or call.query.get("watch") in ("true", "1"):
            return await Watcher(call).run(server.ended)
        case "GET":
            return await reading.get(call)
        case "PUT":
            return await writing.update(call)
        case "PATCH":
            return await writing.patch(call)
        case "DELETE" if not call.place.subresource:
            return await writing.delete(call)
    raise status.method_not_allowed()


async def _many(server: KubeServer, call: Call) -> web.StreamResponse:
    match call.request.method:
        case "GET" if call.place.watch or call.query.get("watch") in ("true", "1"):
            return await Watcher(call).run(server.ended)
        case "GET":
            return await reading.list_objects(call)
        case "POST" if call.place.namespace or not call.resource.namespaced:
            return await writing.create(call)
        case "DELETE" if "deletecollection" in call.resource.verbs:
            return await writing.delete_collection(call)
    raise status.method_not_allowed()


async def _unstored(server: KubeServer, call: Call) -> web.StreamResponse:
    if call.request.method != "POST":
        raise status.method_not_allowed()
    if call.resource.plural == "bindings":
        return await subresources.binding(call)
    return await subresources.review(call, server.user_of(call.request))


async def _subresource(server: KubeServer, call: Call) -> web.StreamResponse:
    name, method = call.place.subresource, call.request.method
    if name == "scale":
        return await subresources.scale(call)
    if name not in [sub[0] for sub in call.resource.subresources]:
        raise status.no_such_resource()
    if name == "proxy" and call.resource.plural == "services":
        return await server.proxy(call)
    if (name, method) == ("log", "GET"):
        return await _log(server, call)
    if (name, method) == ("token", "POST"):
        return await subresources.token(call, server.issue(call.place.namespace, call.place.name))
    handler = _ACTIONS.get((name, method))
    if handler is None:
        raise status.method_not_allowed()
    return await handler(call)


_ACTIONS = {
    ("eviction", "POST"): subresources.eviction,
    ("binding", "POST"): subresources.binding,
    ("finalize", "PUT"): writing.update,
    ("approval", "PUT"): writing.update,
}


async def _log(server: KubeServer, call: Call) -> web.StreamResponse:
    """Answer with a container's log; following it waits for the pod's end, as far as nothing is added."""
    pod, container = subresources.check_log(call)
    log = server.log_of(pod, container)
    if call.query.get("follow") not in ("true", "1"):
        return subresources.answer_log(call, log)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(call.request)
    sent = 0
    while not server.ended.is_set():
        log = server.log_of(pod, container)
        if len(log) > sent:
            await response.write(log[sent:].encode())
            sent = len(log)
        found = call.core.store.get("pods", call.place.namespace, call.place.name)
        if found is None or found.object.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            break
        await asyncio.sleep(0.1)
    return response
