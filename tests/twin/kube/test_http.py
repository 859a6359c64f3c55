"""What the server does over HTTP beyond the recorded answers."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from labkit.twin.kube.crds import new_core
from labkit.twin.kube.server import KubeServer

from .certificates import Authority
from .conftest import Running
from .recorded import at

MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
PARTIAL = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"}


def make(web: httpx.Client, name: str, **labels: str) -> dict[str, Any]:
    body = {"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}}
    done = web.post(MAPS, json=body)
    assert done.status_code == 201, done.text
    return done.json()


def watched(web: httpx.Client, query: str, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    done = web.get(f"{MAPS}?watch=1&timeoutSeconds=1&{query}", headers=headers)
    return [json.loads(line) for line in done.text.splitlines()]


def test_a_watch_follows_its_selector(web: httpx.Client) -> None:
    start = make(web, "sel", mark="no")["metadata"]["resourceVersion"]
    for value in ("yes", "yes", "no"):
        web.patch(
            f"{MAPS}/sel",
            json={"metadata": {"labels": {"mark": value, "n": value + str(time.monotonic_ns())}}},
            headers=merge(),
        )
    web.delete(f"{MAPS}/sel")
    events = watched(web, f"resourceVersion={start}&labelSelector=mark%3Dyes")
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]


def merge() -> dict[str, str]:
    return {"Content-Type": "application/merge-patch+json"}


def test_watches_in_other_forms(web: httpx.Client) -> None:
    make(web, "form", form="x")
    query = "labelSelector=form%3Dx"
    (row,) = watched(web, query, TABLE)
    assert row["object"]["kind"] == "Table"
    assert row["object"]["rows"][0]["cells"][:2] == ["form", 1]
    (partial,) = watched(web, query, PARTIAL)
    assert set(partial["object"]) == {"kind", "apiVersion", "metadata"}
    ends = watched(
        web, f"{query}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", PARTIAL
    )
    assert [event["type"] for event in ends] == ["ADDED", "BOOKMARK"]
    assert ends[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_initial_events_need_their_match(web: httpx.Client) -> None:
    done = web.get(f"{MAPS}?watch=1&sendInitialEvents=true")
    assert done.status_code == 422
    assert "resourceVersionMatch" in done.json()["message"]


def test_versions_that_are_too_old_or_too_new(running: Running, web: httpx.Client) -> None:
    make(web, "old")
    shelf = running.server.core.store.shelf("configmaps")
    running.do(shelf.forget, len(shelf.log))
    (event,) = watched(web, "resourceVersion=1")
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert web.get(f"{MAPS}?resourceVersion=999999999").json()["reason"] == "Timeout"
    make(web, "newer")
    exact = web.get(f"{MAPS}?resourceVersion=1&resourceVersionMatch=Exact")
    assert exact.status_code == 410


def test_a_continue_token_shows_one_moment(web: httpx.Client) -> None:
    for number in range(4):
        make(web, f"page-{number}", page="x")
    first = web.get(f"{MAPS}?labelSelector=page%3Dx&limit=2").json()
    make(web, "page-2a", page="x")
    web.delete(f"{MAPS}/page-3")
    token = first["metadata"]["continue"]
    second = web.get(f"{MAPS}?labelSelector=page%3Dx&limit=2&continue={token}").json()
    assert [item["metadata"]["name"] for item in second["items"]] == ["page-2", "page-3"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert web.get(f"{MAPS}?limit=2&continue=rubbish").status_code == 400


def test_an_old_continue_token_is_gone(running: Running, web: httpx.Client) -> None:
    for number in range(3):
        make(web, f"gone-{number}")
    token = web.get(f"{MAPS}?limit=1").json()["metadata"]["continue"]
    make(web, "gone-3")
    running.do(running.server.core.store.pages.clear)
    done = web.get(f"{MAPS}?limit=1&continue={token}")
    assert (done.status_code, done.json()["reason"]) == (410, "Expired")


@pytest.mark.parametrize(
    ("include", "shown"),
    [("None", None), ("Metadata", "PartialObjectMetadata"), ("Object", "ConfigMap"), ("", "PartialObjectMetadata")],
)
def test_tables_show_as_much_of_the_object_as_is_wanted(web: httpx.Client, include: str, shown: str | None) -> None:
    make(web, f"t{include.lower()}")
    query = f"?includeObject={include}" if include else ""
    row = web.get(f"{MAPS}/t{include.lower()}{query}", headers=TABLE).json()["rows"][0]
    assert (row["object"] or {}).get("kind") == shown


def test_metadata_alone(web: httpx.Client) -> None:
    make(web, "meta", meta="x")
    found = web.get(f"{MAPS}?labelSelector=meta%3Dx", headers=PARTIAL).json()
    assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert set(found["items"][0]) == {"kind", "apiVersion", "metadata"}


def test_large_lists_are_compressed_when_that_is_asked_for(web: httpx.Client) -> None:
    for number in range(3):
        web.post(
            "/api/v1/namespaces/kube-public/configmaps",
            json={"metadata": {"name": f"big-{number}"}, "data": {"x": "y" * 60000}},
        )
    path = "/api/v1/namespaces/kube-public/configmaps"
    packed = web.get(path, headers={"Accept-Encoding": "gzip"})
    plain = web.get(path, headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert "Content-Encoding" not in web.get("/version", headers={"Accept-Encoding": "gzip"}).headers


def test_warnings_name_the_fields_that_were_dropped(web: httpx.Client) -> None:
    done = web.post(MAPS, json={"metadata": {"name": "warned"}, "dta": {}})
    assert done.headers["Warning"] == '299 - "unknown field \\"dta\\""'
    ignored = web.post(f"{MAPS}?fieldValidation=Ignore", json={"metadata": {"name": "ignored"}, "dta": {}})
    assert "Warning" not in ignored.headers
    assert web.post(f"{MAPS}?fieldValidation=Maybe", json={"metadata": {"name": "x"}}).status_code == 400


def test_yaml_bodies(web: httpx.Client) -> None:
    text = "metadata: {name: yaml}\ndata: {when: 2026-11-23T00:00:00Z, 'on': 'yes'}\n"
    done = web.post(MAPS, content=text, headers={"Content-Type": "application/yaml"})
    assert done.json()["data"] == {"when": "2026-11-23T00:00:00Z", "on": "yes"}
    assert web.post(MAPS, content="{a: [", headers={"Content-Type": "application/yaml"}).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/api/v1/configmaps", 405),
        ("GET", "/api/v1/configmaps/x", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("DELETE", "/api/v1/namespaces", 405),
        ("GET", "/api/v1/bindings", 405),
        ("GET", f"{MAPS}/x/scale", 404),
        ("GET", f"{MAPS}/x/status", 404),
        ("GET", "/api/v1/namespaces/default/pods/x/exec", 405),
        ("POST", "/apis/apps/v1/namespaces/default/deployments/x/scale", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/healthz/nosuch", 404),
        ("GET", "/openapi/v3/apis/nosuch/v1", 404),
        ("GET", "/apis/nosuch.example.org", 404),
    ],
)
def test_paths_that_lead_nowhere(web: httpx.Client, method: str, path: str, code: int) -> None:
    assert web.request(method, path).status_code == code


def test_a_client_that_takes_no_json_gets_nothing(web: httpx.Client) -> None:
    assert web.get(MAPS, headers={"Accept": "application/vnd.kubernetes.protobuf"}).status_code == 406


def test_bodies_that_are_too_large(web: httpx.Client) -> None:
    done = web.post(MAPS, json={"metadata": {"name": "huge"}, "data": {"x": "y" * 4_000_000}})
    assert (done.status_code, done.json()["reason"]) == (413, "RequestEntityTooLarge")


def test_discovery_of_everything_at_once(web: httpx.Client) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    done = web.get("/apis", headers={"Accept": accept})
    assert "as=APIGroupDiscoveryList" in done.headers["Content-Type"]
    groups = {group["metadata"]["name"]: group for group in done.json()["items"]}
    (apps,) = [r for r in groups["apps"]["versions"][0]["resources"] if r["resource"] == "deployments"]
    assert apps["shortNames"] == ["deploy"]
    assert [sub["subresource"] for sub in apps["subresources"]] == ["scale", "status"]
    core = web.get("/api", headers={"Accept": accept}).json()["items"]
    assert [group["metadata"]["name"] for group in core] == [""]


def test_the_documents_that_kubectl_reads(web: httpx.Client) -> None:
    paths = web.get("/openapi/v3").json()["paths"]
    document = web.get(paths["apis/apps/v1"]["serverRelativeURL"]).json()
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert web.get("/openapi/v2").json()["swagger"] == "2.0"
    packed = web.get("/openapi/v2", headers={"Accept": "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"})
    assert packed.content == b"\x0a\x032.0"


def test_the_state_of_etcd_is_told(web: httpx.Client) -> None:
    lines = web.get("/readyz?verbose").text.splitlines()
    assert "[+]etcd ok" in lines
    assert lines[-1] == "readyz check passed"
    assert web.get("/livez/etcd").text == "ok"
    assert "/api/v1" in web.get("/").json()["paths"]


@pytest.mark.parametrize(
    ("group", "plural", "kind", "path", "value"),
    [
        ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", "allowed", True),
        ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", "incomplete", False),
        ("authentication.k8s.io", "tokenreviews", "TokenReview", "authenticated", True),
        ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", "userInfo.username", "system:anonymous"),
    ],
)
def test_reviews(web: httpx.Client, group: str, plural: str, kind: str, path: str, value: Any) -> None:
    body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": {}}
    done = web.post(f"/apis/{group}/v1/{plural}", json=body)
    assert done.status_code == 201
    assert at(done.json()["status"], path) == value


def test_only_what_writes_is_counted(running: Running, web: httpx.Client) -> None:
    server = running.server
    before, by = server.writes, dict(server.writes_by)
    web.get(MAPS)
    web.post(f"{MAPS}?dryRun=All", json={"metadata": {"name": "dry"}})
    web.post(
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        json={"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}},
    )
    assert server.writes == before
    make(web, "counted")
    web.delete(f"{MAPS}/counted")
    assert server.writes == before + 2
    assert server.writes_by[("DELETE", "configmaps")] == by.get(("DELETE", "configmaps"), 0) + 1


def test_a_service_is_answered_by_a_function(running: Running, web: httpx.Client) -> None:
    from aiohttp import web as aio

    async def handler(request: aio.BaseRequest, path: str) -> aio.StreamResponse:
        return aio.json_response({"method": request.method, "path": path, "query": dict(request.query)})

    spec = {"ports": [{"name": "http", "port": 9500}]}
    web.post("/api/v1/namespaces/default/services", json={"metadata": {"name": "front"}, "spec": spec})
    place = "/api/v1/namespaces/default/services"
    assert web.get(f"{place}/front:http/proxy/v1").status_code == 503
    running.do(running.server.serve_proxy, "default", "front", handler)
    done = web.post(f"{place}/front:9500/proxy/v1/volumes/x?action=attach")
    assert done.json() == {"method": "POST", "path": "/v1/volumes/x", "query": {"action": "attach"}}
    assert web.get(f"{place}/http:front:9500/proxy/").json()["path"] == "/"
    assert web.get(f"{place}/nosuch:80/proxy/").status_code == 404


def test_logs(running: Running, web: httpx.Client) -> None:
    pods = "/api/v1/namespaces/default/pods"
    containers = [{"name": name, "image": "registry.example/c:1"} for name in ("a", "b")]
    web.post(pods, json={"metadata": {"name": "logged"}, "spec": {"containers": containers, "schedulerName": "none"}})
    said = web.get(f"{pods}/logged/log")
    assert said.json()["message"] == "a container name must be specified for pod logged, choose one of: [a b]"
    assert "does not have a host assigned" in web.get(f"{pods}/logged/log?container=a").json()["message"]
    assert "is not valid for pod" in web.get(f"{pods}/logged/log?container=c").json()["message"]
    target = {"kind": "Node", "name": "far"}
    web.post(f"{pods}/logged/binding", json={"metadata": {"name": "logged"}, "target": target})
    assert web.get(f"{pods}/logged/log?container=a&tailLines=1").text == "logged a\n"

    def end() -> None:
        time.sleep(0.3)
        running.do(running.server.door.delete, "pods", "logged", "default", grace=0)

    ending = threading.Thread(target=end)
    ending.start()
    assert web.get(f"{pods}/logged/log?container=a&follow=true").text == "logged a\n" * 3
    ending.join()


@pytest.fixture
def own(running: Running) -> Iterator[KubeServer]:
    """A server of one test, on the loop of the others."""
    server = running.do(lambda: KubeServer(new_core(), tokens={"right": "admin"}))
    running.call(server.start())
    yield server
    running.call(server.stop())


def test_tokens(own: KubeServer) -> None:
    with httpx.Client(base_url=own.url, trust_env=False) as client:
        assert client.get("/readyz").status_code == 200
        assert client.get("/version").status_code == 200
        refused = client.get("/api/v1/nodes")
        assert (refused.status_code, refused.json()["message"]) == (401, "Unauthorized")
        assert client.get("/api/v1/nodes", headers={"Authorization": "Bearer wrong"}).status_code == 401
        right = {"Authorization": "Bearer right"}
        assert client.get("/api/v1/nodes", headers=right).status_code == 200
        account = "/api/v1/namespaces/default/serviceaccounts"
        client.post(account, json={"metadata": {"name": "bot"}}, headers=right)
        issued = client.post(f"{account}/bot/token", json={"spec": {}}, headers=right).json()["status"]["token"]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        who = client.post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            json=body,
            headers={"Authorization": f"Bearer {issued}"},
        )
        assert who.json()["status"]["userInfo"]["username"] == "system:serviceaccount:default:bot"


def test_client_certificates(running: Running, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = running.do(lambda: KubeServer(new_core(), client_ca=True))
    running.call(server.start(context=authority.server_context("127.0.0.1", clients=True)))
    try:
        context = ssl.create_default_context(cafile=str(authority.file))
        with httpx.Client(base_url=server.url, verify=context, trust_env=False) as client:
            assert client.get("/api/v1/nodes").status_code == 401
        context = ssl.create_default_context(cafile=str(authority.file))
        context.load_cert_chain(*authority.files("system:admin"))
        with httpx.Client(base_url=server.url, verify=context, trust_env=False) as client:
            assert client.get("/api/v1/nodes").status_code == 200
    finally:
        running.call(server.stop())


def test_faults(running: Running, own: KubeServer) -> None:
    with httpx.Client(base_url=own.url, trust_env=False) as client:
        own.faults.delay = 0.2
        begun = time.monotonic()
        client.get("/readyz")
        assert time.monotonic() - begun >= 0.2
        own.faults.delay = 0
        own.faults.closing = True
        with pytest.raises(httpx.TransportError):
            client.get("/readyz")
        own.faults.closing = False
        assert client.get("/readyz").text == "ok"
        port = own.port
        running.call(own.refuse())
        with pytest.raises(httpx.ConnectError):
            client.get("/readyz")
        running.call(own.accept())
        assert own.port == port
        assert client.get("/readyz").text == "ok"


def test_watches_end_with_the_server(running: Running, own: KubeServer) -> None:
    lines: list[str] = []
    url = f"{own.url}{MAPS}?watch=1"

    def look() -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            lines.append(client.get(url, headers={"Authorization": "Bearer right"}).text)

    looking = threading.Thread(target=look)
    looking.start()
    end = time.monotonic() + 5
    while not own.core.store.shelf("configmaps").wakers and time.monotonic() < end:
        time.sleep(0.01)
    running.call(own.stop())
    looking.join(5)
    assert lines == [""]
    assert not own.core.store.shelf("configmaps").wakers
    running.call(own.accept())
