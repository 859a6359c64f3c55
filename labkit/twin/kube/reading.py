"""GET: one object or a list, in full, as metadata or as a Table."""

from __future__ import annotations

import base64
import json
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from labkit.twin.kube.answers import answer, large
from labkit.twin.kube.call import Call
from labkit.twin.kube.door import ApiError
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.selectors import Matcher, field_matcher, label_matcher
from labkit.twin.kube.status import bad_request, expired, failure
from labkit.twin.kube.store import Record, Store, dump
from labkit.twin.kube.tables import printer_of, table

_KEPT = 64
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter."
)


def matchers(call: Call) -> list[Matcher]:
    """Return the predicates of a request's selectors and of its name."""
    found = [
        label_matcher(call.query.get("labelSelector", "")),
        field_matcher(call.query.get("fieldSelector", ""), call.resource),
    ]
    if call.place.name:
        found.append(lambda obj: bool(obj["metadata"]["name"] == call.place.name))
    return [matcher for matcher in found if matcher is not None]


def selected(call: Call) -> list[Record]:
    """Return the records that a list or a deletion of a collection is about."""
    tests = matchers(call)
    records = call.core.store.shelf(call.resource.key).select(call.place.namespace)
    if not tests:
        return list(records)
    return [record for record in records if all(test(record.object) for test in tests)]


def as_item(resource: Resource, record: Record) -> bytes:
    """Return the JSON of an object in a list: built-in kinds leave out apiVersion and kind."""
    return record.full(resource.group_version, resource.kind) if resource.custom else record.body()


async def get(call: Call) -> web.Response:
    """Answer with one object."""
    record = call.core.get(call.resource, call.place.namespace, call.place.name)
    return answer(encode(call, record))


def encode(call: Call, record: Record) -> bytes:
    """Return one object in the form that the client wants."""
    if call.wanted.form == "PartialObjectMetadata":
        return record.partial()
    if call.wanted.form == "Table":
        return rows(call, [record], dump({"resourceVersion": record.meta.get("resourceVersion", "")}))
    return record.full(call.resource.group_version, call.resource.kind)


def rows(call: Call, records: Iterable[Record], meta: bytes, *, headed: bool = True) -> bytes:
    """Return a Table of records."""
    resource, include = call.resource, call.query.get("includeObject", "Metadata")

    def shown(record: Record) -> bytes:
        if include == "None":
            return b"null"
        return record.full(resource.group_version, resource.kind) if include == "Object" else record.partial()

    return table(printer_of(resource), records, meta, call.core.clock.now(), shown, headed=headed)


async def list_objects(call: Call) -> web.Response:
    """Answer with a list, whole or a page of it."""
    _check_version(call)
    records, revision = _snapshot(call)
    limit = int(call.query.get("limit") or 0)
    meta: dict[str, Any] = {"resourceVersion": str(revision)}
    if limit and len(records) > limit:
        page, rest = records[:limit], len(records) - limit
        meta["continue"] = _token(revision, page[-1].path)
        if not call.query.get("labelSelector") and not call.query.get("fieldSelector"):
            meta["remainingItemCount"] = rest
        _keep(call.core.store, (revision, call.resource.key), records)
        records = page
    return await large(call.request, _encode_list(call, records, dump(meta)))


def _encode_list(call: Call, records: list[Record], meta: bytes) -> bytes:
    resource = call.resource
    if call.wanted.form == "Table":
        return rows(call, records, meta)
    if call.wanted.form == "PartialObjectMetadata":
        items, kind, version = [r.partial() for r in records], "PartialObjectMetadataList", "meta.k8s.io/v1"
    else:
        items = [as_item(resource, record) for record in records]
        kind, version = resource.list_kind, resource.group_version
    head = f'{{"kind":"{kind}","apiVersion":"{version}","metadata":'.encode()
    return b'%s%s,"items":[%s]}' % (head, meta, b",".join(items))


def _snapshot(call: Call) -> tuple[list[Record], int]:
    """Return the records behind a continue token, or those of now."""
    text = call.query.get("continue")
    if not text:
        return selected(call), call.core.store.revision
    revision, start = _read_token(text)
    kept = call.core.store.pages.get((revision, call.resource.key))
    if kept is None:
        if revision != call.core.store.revision:
            raise expired(_TOO_OLD)
        kept = selected(call)
    return kept[bisect_left(kept, start + "\0", key=lambda record: record.path) :], revision


def _keep(store: Store, place: tuple[int, str], records: list[Record]) -> None:
    """Remember a list that is read in pages; records never change, so that costs references only."""
    if len(store.pages.get(place, ())) < len(records):
        store.pages[place] = records
    while len(store.pages) > _KEPT:
        store.pages.popitem(last=False)


def _token(revision: int, path: str) -> str:
    body = dump({"v": "meta.k8s.io/v1", "rv": revision, "start": f"{path}\0"})
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def _read_token(text: str) -> tuple[int, str]:
    try:
        body = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return int(body["rv"]), str(body["start"]).rstrip("\0")
    except (ValueError, KeyError, TypeError) as exc:
        raise bad_request(f"continue key is not valid: {exc}") from exc


def read_version(text: str) -> int:
    """Read a resourceVersion parameter; empty is 0."""
    if not text:
        return 0
    if not text.isdigit():
        raise _bad_version(text)
    return int(text)


def _bad_version(text: str) -> ApiError:
    why = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
    return failure(500, "", why)


def _check_version(call: Call) -> None:
    wanted, now = read_version(call.query.get("resourceVersion", "")), call.core.store.revision
    if wanted > now:
        text = f"Too large resource version: {wanted}, current: {now}"
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        raise failure(504, "Timeout", text, {"causes": [cause], "retryAfterSeconds": 1})
    exact = call.query.get("resourceVersionMatch") == "Exact"
    shelf = call.core.store.shelf(call.resource.key)
    if exact and shelf.log and shelf.log[-1].revision > wanted:
        raise expired(f"The resourceVersion for the provided list is too old: {wanted} ({now})")
