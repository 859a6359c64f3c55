"""The objects, in memory: versions, a log of changes for watches, and each object's JSON made once."""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Literal

from labkit.twin.kube.door import Object

ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]
_write = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def dump(value: Any) -> bytes:
    """Encode as compact JSON."""
    return _write(value).encode()


class Record:
    """One version of one object; never changed, so what is derived from it is kept."""

    __slots__ = ("_body", "_partial", "object", "path", "revision")

    def __init__(self, path: str, obj: Object, revision: int) -> None:
        self.path = path
        self.object = obj
        self.revision = revision
        self._body: bytes | None = None
        self._partial: bytes | None = None

    @property
    def meta(self) -> Object:
        """The object's metadata."""
        found: Object = self.object["metadata"]
        return found

    def body(self) -> bytes:
        """Return the JSON without apiVersion and kind, as built-in kinds appear in lists."""
        if self._body is None:
            rest = {k: v for k, v in self.object.items() if k not in ("apiVersion", "kind")}
            self._body = dump(rest)
        return self._body

    def full(self, api_version: str, kind: str) -> bytes:
        """Return the JSON with apiVersion and kind."""
        return b'{"kind":"%s","apiVersion":"%s",%s' % (kind.encode(), api_version.encode(), self.body()[1:])

    def partial(self) -> bytes:
        """Return the JSON as PartialObjectMetadata, without its closing brace's sisters spec and status."""
        if self._partial is None:
            head = b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":'
            self._partial = head + dump(self.meta) + b"}"
        return self._partial


class Change:
    """One entry of the log."""

    __slots__ = ("_lines", "before", "record", "revision", "type")

    def __init__(self, kind: ChangeType, record: Record, before: Record | None) -> None:
        self.type: ChangeType = kind
        self.record = record
        self.before = before
        self.revision = record.revision
        self._lines: dict[tuple[str, str], bytes] = {}

    def line(self, kind: str, api_version: str, name: str) -> bytes:
        """Return the line of a watch; the same bytes go to every watcher."""
        found = self._lines.get((kind, api_version))
        if found is None:
            found = event_line(kind, self.record.full(api_version, name))
            self._lines[(kind, api_version)] = found
        return found


def event_line(kind: str, body: bytes) -> bytes:
    """Return one line of a watch."""
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), body)


class Shelf:
    """All objects of one resource and the log of their changes."""

    def __init__(self, history: int) -> None:
        self.records: dict[str, Record] = {}
        self.paths: list[str] = []
        self.log: list[Change] = []
        self.dropped = 0  # entries that the log has lost at its front
        self.compacted = 0  # changes up to this revision are forgotten
        self.history = history
        self.listeners: set[Callable[[Change], None]] = set()  # told every change
        self.wakers: set[Callable[[], None]] = set()  # told that the log has grown

    @property
    def end(self) -> int:
        """The position behind the last entry of the log."""
        return self.dropped + len(self.log)

    def position(self, revision: int) -> int:
        """Return the position of the first change after a revision."""
        return self.dropped + bisect_left(self.log, revision + 1, key=lambda change: change.revision)

    def since(self, position: int) -> list[Change]:
        """Return the changes from a position on."""
        return self.log[position - self.dropped :]

    def enter(self, change: Change) -> None:
        """Add to the log, forget the oldest when it is long, and tell who waits."""
        self.log.append(change)
        if len(self.log) > 2 * self.history:
            self.forget(len(self.log) - self.history)
        for listener in tuple(self.listeners):
            listener(change)
        for waker in tuple(self.wakers):
            waker()

    def forget(self, count: int) -> None:
        """Drop the oldest entries; watches that start before them get 410."""
        if count > 0:
            self.compacted = self.log[count - 1].revision
            del self.log[:count]
            self.dropped += count

    def select(self, namespace: str = "") -> Iterator[Record]:
        """Yield the records of one or all namespaces in the order of their keys."""
        if not namespace:
            yield from (self.records[path] for path in self.paths)
            return
        prefix = f"{namespace}/"
        for index in range(bisect_left(self.paths, prefix), len(self.paths)):
            if not self.paths[index].startswith(prefix):
                return
            yield self.records[self.paths[index]]


class Store:
    """Shelves by resource key, and one counter of revisions over all of them."""

    def __init__(self, *, history: int = 5000) -> None:
        self.revision = 1
        self.history = history
        self.shelves: dict[str, Shelf] = {}
        self.hooks: list[Callable[[str, Change], None]] = []
        # Lists that are being read in pages, by revision and resource.
        self.pages: OrderedDict[tuple[int, str], list[Record]] = OrderedDict()

    def shelf(self, key: str) -> Shelf:
        """Return the shelf of a resource; made when it is first asked for."""
        found = self.shelves.get(key)
        if found is None:
            found = self.shelves[key] = Shelf(self.history)
        return found

    def get(self, key: str, namespace: str, name: str) -> Record | None:
        """Return the newest version of an object."""
        return self.shelf(key).records.get(f"{namespace}/{name}")

    def put(self, key: str, obj: Object) -> Record:
        """Keep a new version of an object, which from now on belongs to the store."""
        shelf = self.shelf(key)
        path = f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
        before = shelf.records.get(path)
        record = self._version(path, obj)
        shelf.records[path] = record
        if before is None:
            insort(shelf.paths, path)
        self._enter(key, shelf, Change("MODIFIED" if before else "ADDED", record, before))
        return record

    def remove(self, key: str, record: Record, last: Object | None = None) -> Record:
        """Forget an object; the watchers see `last` (or what was there) under a new revision."""
        shelf = self.shelf(key)
        before = shelf.records.pop(record.path)
        del shelf.paths[bisect_left(shelf.paths, record.path)]
        source = last or before.object
        obj = {**source, "metadata": dict(source["metadata"])}
        gone = self._version(record.path, obj)
        self._enter(key, shelf, Change("DELETED", gone, before))
        return gone

    def drop_shelf(self, key: str) -> None:
        """Forget a resource that is served no more; its watchers end on their own."""
        self.shelves.pop(key, None)

    def _version(self, path: str, obj: Object) -> Record:
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        return Record(path, obj, self.revision)

    def _enter(self, key: str, shelf: Shelf, change: Change) -> None:
        shelf.enter(change)
        for hook in self.hooks:
            hook(key, change)
