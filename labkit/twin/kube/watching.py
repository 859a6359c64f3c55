"""Watch: a stream of changes from the log, in the form that the client wants."""

from __future__ import annotations

import asyncio
import random

from aiohttp import web

from labkit.twin.kube.call import Call
from labkit.twin.kube.door import Object
from labkit.twin.kube.reading import matchers, read_version, rows
from labkit.twin.kube.selectors import Matcher
from labkit.twin.kube.status import denied, invalid, status
from labkit.twin.kube.store import Change, Record, Shelf, dump, event_line

END = "k8s.io/initial-events-end"
BOOKMARK_EVERY = 60.0


class Watcher:
    """One client's stream."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.shelf: Shelf = call.core.store.shelf(call.resource.key)
        self.tests: list[Matcher] = matchers(call)
        self.prefix = f"{call.place.namespace}/" if call.place.namespace else ""
        self.bookmarks = call.query.get("allowWatchBookmarks") in ("true", "1")
        self.initial = call.query.get("sendInitialEvents") in ("true", "1")
        self.headed = True
        _check(call, initial=self.initial)
        self.start = read_version(call.query.get("resourceVersion", ""))

    async def run(self, ended: asyncio.Event) -> web.StreamResponse:
        """Stream until the client goes, the time is over, the resource ends or `ended` is set."""
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache"})
        changed = asyncio.Event()
        self.shelf.wakers.add(changed.set)
        try:
            await response.prepare(self.call.request)
            await self._stream(response, changed, ended)
        except (ConnectionError, TimeoutError):
            return response
        finally:
            self.shelf.wakers.discard(changed.set)
        return response

    async def _stream(self, response: web.StreamResponse, changed: asyncio.Event, ended: asyncio.Event) -> None:
        place, first = self._begin()
        if first:
            await response.write(first)
        if place < 0:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + _timeout(self.call)
        marked = loop.time() + BOOKMARK_EVERY
        while loop.time() < end and not ended.is_set() and self._is_served():
            if place < self.shelf.dropped:
                await response.write(self._gone(self.shelf.compacted))
                return
            changed.clear()
            changes, place = self.shelf.since(place), self.shelf.end
            lines = b"".join([self._line(change) for change in changes])
            if self.bookmarks and loop.time() >= marked:
                lines += self._bookmark()
                marked = loop.time() + BOOKMARK_EVERY
            if lines:
                await response.write(lines)
            if place == self.shelf.end:
                await _wait(changed, min(end, marked if self.bookmarks else end) - loop.time())

    def _is_served(self) -> bool:
        resource = self.call.resource
        return self.call.core.registry.at(resource.group, resource.version, resource.plural) is resource

    def _begin(self) -> tuple[int, bytes]:
        """Return the place in the log to go on from, and what to send before; -1 when the stream ends there."""
        if not self.initial and self.start > 0:
            if self.start < self.shelf.compacted:
                return -1, self._gone(self.start)
            return self.shelf.position(self.start), b""
        if self.initial or self.call.query.get("sendInitialEvents") != "false":
            lines = [self._shown("ADDED", r) for r in self.shelf.select(self.call.place.namespace) if self._fits(r)]
            if self.initial and self.bookmarks:
                lines.append(self._bookmark({END: "true"}))
            return self.shelf.end, b"".join(lines)
        return self.shelf.end, b""

    def _fits(self, record: Record | None) -> bool:
        return record is not None and all(test(record.object) for test in self.tests)

    def _line(self, change: Change) -> bytes:
        """Return the line of a change, empty when the client does not select it."""
        if not change.record.path.startswith(self.prefix):
            return b""
        kind: str = change.type
        if self.tests:
            was, fits = self._fits(change.before), self._fits(change.record)
            if kind == "DELETED":
                fits = was or fits
            elif fits:
                kind = "MODIFIED" if was else "ADDED"
            elif was:
                kind, fits = "DELETED", True
            if not fits:
                return b""
        if self.call.wanted.form == "object":
            return change.line(kind, self.call.resource.group_version, self.call.resource.kind)
        return self._shown(kind, change.record)

    def _shown(self, kind: str, record: Record) -> bytes:
        wanted, resource = self.call.wanted.form, self.call.resource
        if wanted == "Table":
            meta = dump({"resourceVersion": str(record.revision)})
            body = rows(self.call, [record], meta, headed=self.headed)
            self.headed = False
        elif wanted == "PartialObjectMetadata":
            body = record.partial()
        else:
            body = record.full(resource.group_version, resource.kind)
        return event_line(kind, body)

    def _bookmark(self, annotations: dict[str, str] | None = None) -> bytes:
        resource, version = self.call.resource, str(self.call.core.store.revision)
        meta: Object = {"resourceVersion": version} | ({"annotations": annotations} if annotations else {})
        if self.call.wanted.form == "Table":
            return event_line("BOOKMARK", rows(self.call, [], dump(meta), headed=False))
        kind, group = resource.kind, resource.group_version
        if self.call.wanted.form == "PartialObjectMetadata":
            kind, group = "PartialObjectMetadata", "meta.k8s.io/v1"
        return event_line("BOOKMARK", dump({"kind": kind, "apiVersion": group, "metadata": meta}))

    def _gone(self, revision: int) -> bytes:
        text = f"too old resource version: {revision} ({self.shelf.compacted})"
        return event_line("ERROR", dump(status(410, "Expired", text)))


def _timeout(call: Call) -> float:
    text = call.query.get("timeoutSeconds", "")
    return float(text) if text.isdigit() and text != "0" else random.uniform(1800, 3600)  # noqa: S311 - no secret


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await changed.wait()
    except TimeoutError:
        return


def _check(call: Call, *, initial: bool) -> None:
    match = call.query.get("resourceVersionMatch", "")
    if initial and match != "NotOlderThan":
        text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        if not match:
            text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise invalid("ListOptions", "meta.k8s.io", "", [denied("resourceVersionMatch", text)])
