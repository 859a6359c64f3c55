"""Compare the twin's answers with those that a real server gave to the same requests."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx

CHANGING = ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields", "selfLink")
UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ENTRY = ("name", "singularName", "kind", "namespaced", "verbs", "shortNames", "group", "version")
# Annotations that controllers write at their own pace.
PACED = ("deployment.kubernetes.io/revision", "node.alpha.kubernetes.io/ttl")
Facts = dict[str, Any]


def at(value: Any, path: str) -> Any:
    """Return what is at a dotted path (`~` stands for a dot in a key), None when nothing is."""
    for step in filter(None, path.split(".")):
        if isinstance(value, dict):
            value = value.get(step.replace("~", "."))
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the dotted path of every leaf."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    empty = True
    for key, item in parts:
        empty = False
        yield from leaves(item, (*path, str(key).replace(".", "~")))
    if empty:
        yield ".".join(path)


def steady(value: Any) -> str:
    """Write a value so that two runs give the same text."""
    return UID.sub("<uid>", json.dumps(value, sort_keys=True))


class Player:
    """Sends the requests in order, with the names that earlier answers gave."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.names: dict[str, str] = {}

    def _named(self, text: str) -> str:
        for name, value in self.names.items():
            text = text.replace("{{" + name + "}}", str(value))
        return text

    def send(self, request: Facts) -> Facts:
        """Send one request, again until it gives what it waits for, and return the answer."""
        end = time.monotonic() + request.get("within", 0)
        answer = self._once(request)
        while not self._is_there(request, answer) and time.monotonic() < end:
            time.sleep(0.02)
            answer = self._once(request)
        for name, path in request.get("keep", {}).items():
            self.names[name] = at(answer["body"], path)
        return answer

    def _is_there(self, request: Facts, answer: Facts) -> bool:
        body = answer["body"]
        for path, wanted in request.get("until", {}).items():
            found = answer["status"] if path == "code" else at(body, path)
            if (found is None) if wanted == "*" else (found != wanted):
                return False
        return True

    def _once(self, request: Facts) -> Facts:
        body = request.get("body")
        text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
        headers = {"Accept": "application/json", "User-Agent": "Python-urllib/3.11", **request.get("headers", {})}
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        done = self.client.request(
            request["method"], self._named(request["path"]), content=self._named(text).encode(), headers=headers
        )
        media = done.headers.get("Content-Type", "").split(";")[0]
        return {"status": done.status_code, "type": media, "body": decoded(done.text)}


def decoded(text: str) -> Any:
    """Return a JSON body, the events of a watch, or the text."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return {"watch": [json.loads(line) for line in text.splitlines()]}
    except ValueError:
        return text


def facts_of(request: Facts, answer: Facts) -> Facts:
    """Return what of an answer a client relies on, as label -> value."""
    body = answer["body"]
    facts: Facts = {"http status": answer["status"], "media type": answer["type"]}
    if not isinstance(body, dict):
        return facts | {"text": body}
    if "watch" in body or (request.get("watch") and body.get("kind") != "Status"):
        return facts | _watched(body.get("watch", [body]))
    facts |= {"apiVersion": body.get("apiVersion"), "kind": body.get("kind")}
    if body.get("kind") == "Status":
        parts = ("code", "reason", "status", *(() if request.get("loose") else ("message", "details")))
        return facts | {part: steady(body.get(part)) for part in parts}
    if "resources" in request:
        entries = {entry["name"]: entry for entry in body.get("resources", ())}
        return facts | {name: _entry(entries.get(name) or {}) for name in request["resources"]}
    return facts | _objects(request, body)


def _objects(request: Facts, body: Facts) -> Facts:
    if body.get("kind") == "Table":
        first = [column["name"] for column in body["columnDefinitions"]][:1]
        return {"columns": first, "rows": [at(row, "object.metadata.name") for row in body["rows"]]}
    return _listed(request, body) if "items" in body else _object(request, body)


def _watched(events: list[Facts]) -> Facts:
    seen = [
        (event["type"], at(event, "object.kind"), at(event, "object.metadata.name"))
        for event in events
        if event["type"] != "BOOKMARK"
    ]
    ends = [at(event, "object.metadata.annotations.k8s~io/initial-events-end") for event in events]
    return {"events": seen, "initial events end": "true" in ends}


def _entry(entry: Facts) -> Facts:
    return {key: sorted(value) if isinstance(value, list) else value for key, value in entry.items() if key in ENTRY}


def _listed(request: Facts, body: Facts) -> Facts:
    names = [at(item, "metadata.name") for item in body["items"] or ()]
    meta = body.get("metadata", {})
    return {
        "names": [name for name in names if name in request.get("names", names)],
        "has a version": bool(meta.get("resourceVersion")),
        "goes on": bool(meta.get("continue")),
        "remaining": meta.get("remainingItemCount"),
    }


def _object(request: Facts, body: Facts) -> Facts:
    meta = dict(body.get("metadata") or {})
    notes = {key: value for key, value in meta.pop("annotations", {}).items() if key not in PACED}
    facts = {"annotations": notes}
    facts |= {f"meta {key}": key in CHANGING or steady(value) for key, value in meta.items()}
    if request.get("generated"):
        facts |= {f"meta {key}": bool(meta.get(key)) for key in ("name", "generateName")}
    if isinstance(request.get("body"), dict) and request["method"] != "DELETE":
        sent = [path for path in leaves(request["body"]) if not path.startswith("metadata.")]
        facts |= {path: at(body, path) for path in sent}
    facts |= {path: steady(at(body, path)) for path in request.get("also", ())}
    return facts | {path: at(body, path) is not None for path in request.get("present", ())}


def differences(request: Facts, recorded: Facts, got: Facts) -> list[str]:
    """Say where an answer differs from the recorded one; metadata may hold more than was recorded."""
    before, now = facts_of(request, recorded), facts_of(request, got)
    labels = [label for label in {**before, **now} if label in before or not label.startswith("meta ")]
    return [
        f"{request['id']}: {label}: recorded {before.get(label)!r}, got {now.get(label)!r}"
        for label in labels
        if before.get(label) != now.get(label)
    ]
