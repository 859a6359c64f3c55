"""YAML text as plain data that remembers its lines: the C parser's nodes, turned into dicts and lists with places."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from yaml._yaml import CParser
from yaml.error import MarkedYAMLError, YAMLError
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

Steps: TypeAlias = Sequence[str | int]

_DEEPEST = 200
_MOST = 2_000_000
_WORDS: dict[str, object] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?([0-9]{1,15}\.[0-9]{0,15}|\.[0-9]{1,15})([eE][-+]?[0-9]{1,2})?")
_BIG = 100_000
_SPLIT = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_CRD = re.compile(r"^kind: CustomResourceDefinition\s*$", re.MULTILINE)
_CRD_NAME = re.compile(r"^  name: ([a-z0-9.-]+)\s*$", re.MULTILINE)


class Map(dict[str, Any]):
    """A mapping; `line` is where it begins, `lines` where each key stands (from 1)."""

    __slots__ = ("line", "lines")
    line: int
    lines: dict[str, int]


class Items(list[Any]):
    """A list; `line` is where it begins, `lines` where each item stands (from 1)."""

    __slots__ = ("line", "lines")
    line: int
    lines: list[int]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a text could not be read as YAML, and where (line from 1, 0 when unknown)."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """The documents that a text holds up to its first mistake, and that mistake."""

    trees: tuple[Any, ...]
    trouble: Trouble | None = None
    repeated: tuple[Trouble, ...] = ()
    """Keys that stand twice in one mapping: YAML that Kubernetes' own tools refuse."""


class _TooMuchError(Exception):
    """Nested or repeated by aliases beyond what a manifest can be."""


def parse_manifests(text: str) -> Parsed:
    """Parse every YAML document of a text; never raises.

    A large text is cut at its document marks first: custom resource definitions in it become stubs with
    apiVersion, kind and name, since nothing here looks into them and they make most of its size.
    """
    if len(text) > _BIG and "CustomResourceDefinition" in text:
        return _parse_large(text)
    return _parse(text, 0)


def _parse_large(text: str) -> Parsed:
    trees: list[Any] = []
    repeated: list[Trouble] = []
    starts = [0, *(match.start() for match in _SPLIT.finditer(text)), len(text)]
    line = 0
    for start, end in pairwise(starts):
        part = text[start:end]
        if _CRD.search(part) and (name := _CRD_NAME.search(part)):
            trees.append(_crd_stub(name[1], line + 1))
        else:
            parsed = _parse(part, line)
            trees += parsed.trees
            repeated += parsed.repeated
            if parsed.trouble:
                return Parsed(tuple(trees), parsed.trouble, tuple(repeated))
        line += part.count("\n")
    return Parsed(tuple(trees), None, tuple(repeated))


def _crd_stub(name: str, line: int) -> Map:
    metadata = _map(line, {"name": name})
    return _map(
        line,
        {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata},
    )


def _map(line: int, values: dict[str, Any]) -> Map:
    tree = Map(values)
    tree.line, tree.lines = line, dict.fromkeys(values, line)
    return tree


def _parse(text: str, before: int) -> Parsed:
    done: list[Any] = []
    trouble = None
    builder = _Builder(before + 1)
    try:
        for tree in builder.documents(text):
            done.append(tree)  # noqa: PERF402  # what came before a mistake is kept
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = " ".join(str(exc.problem or exc.context or "no YAML").split())
        trouble = Trouble(0 if mark is None else before + mark.line + 1, problem)
    except (YAMLError, _TooMuchError, UnicodeError, ValueError) as exc:
        trouble = Trouble(0, " ".join(str(exc).split())[:200] or type(exc).__name__)
    return Parsed(tuple(done), trouble, tuple(builder.repeated))


def _nothing() -> None:
    return None


class _Builder:
    """Builds trees from the parser's events, down to a limit: the C composer overruns its stack on deep texts."""

    def __init__(self, first: int) -> None:
        self._next: Callable[[], Any] = _nothing
        self._first = first
        self._anchors: dict[str, Any] = {}
        self._weights: dict[str, int] = {}
        self._count = 0
        self.repeated: list[Trouble] = []

    def documents(self, text: str) -> Iterator[Any]:
        """Yield the tree of each document; an empty one gives None."""
        self._next = CParser(text).get_event
        while (event := self._next()) is not None:
            if isinstance(event, DocumentStartEvent):
                self._anchors.clear()
                self._weights.clear()
                yield self._value(self._next(), 0)

    def _value(self, event: Any, depth: int) -> Any:
        self._count += 1
        if depth > _DEEPEST or self._count > _MOST:
            raise _TooMuchError("values nested too deeply, or repeated too often by aliases")
        if isinstance(event, AliasEvent):
            return self._alias(event)
        before = self._count
        if isinstance(event, ScalarEvent):
            value = _scalar(event)
        elif isinstance(event, SequenceStartEvent):
            value = self._items(event, depth)
        else:
            value = self._mapping(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
            self._weights[event.anchor] = self._count - before + 1
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise MarkedYAMLError(None, None, f"found undefined alias {event.anchor}", event.start_mark)
        self._count += self._weights[event.anchor]
        return self._anchors[event.anchor]

    def _items(self, event: Any, depth: int) -> Items:
        items = Items()
        items.line = event.start_mark.line + self._first
        items.lines = []
        while not isinstance(child := self._next(), SequenceEndEvent):
            items.lines.append(child.start_mark.line + self._first)
            items.append(self._value(child, depth + 1))
        return items

    def _mapping(self, event: Any, depth: int) -> Map:
        tree = Map()
        tree.line = event.start_mark.line + self._first
        tree.lines = {}
        merged: list[Any] = []
        while not isinstance(key := self._next(), MappingEndEvent):
            name = self._key(key, depth)
            value = self._value(self._next(), depth + 1)
            if name == "<<" and isinstance(key, ScalarEvent) and not key.style:
                merged += value if isinstance(value, list) else [value]
                continue
            line = key.start_mark.line + self._first
            if name in tree:
                self.repeated.append(Trouble(line, f"the key {name} stands twice, first in line {tree.lines[name]}"))
            else:
                tree[name] = value
                tree.lines[name] = line
        for other in merged:
            for name, value in other.items() if isinstance(other, Map) else ():
                if name not in tree:
                    tree[name], tree.lines[name] = value, other.lines[name]
        return tree

    def _key(self, event: Any, depth: int) -> str:
        if isinstance(event, ScalarEvent) and event.anchor is None:
            return str(event.value)
        value = self._value(event, depth + 1)
        return value if isinstance(value, str) else repr(value)[:100]


def _scalar(event: ScalarEvent) -> Any:
    text: str = event.value
    if event.style or event.tag is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "0123456789-+.":
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def line_at(tree: Any, steps: Steps, default: int = 0) -> int:
    """Return the line of the key or item that a path leads to, or of the nearest one on the way there."""
    line = getattr(tree, "line", 0) or default
    for step in steps:
        if isinstance(tree, Map):
            known = step in tree
        else:
            known = isinstance(tree, Items) and isinstance(step, int) and step < len(tree)
        if not known:
            break
        line, tree = tree.lines[step], tree[step]
    return line


def dig(tree: Any, *steps: str | int) -> Any:
    """Return what a path leads to in nested mappings and lists, or None."""
    for step in steps:
        if isinstance(tree, dict):
            tree = tree.get(str(step))
        elif isinstance(tree, list) and isinstance(step, int) and -1 < step < len(tree):
            tree = tree[step]
        else:
            return None
    return tree


def maps(value: Any) -> list[dict[str, Any]]:
    """Return the mappings of a list; anything else counts as an empty list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    """Return the texts of a list or a single text; anything else counts as an empty list."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def walk_leaves(tree: Any, steps: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield every value that is neither mapping nor list, with its path."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [(steps, tree)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            stack += [((*path, key), child) for key, child in reversed(value.items())]
        elif isinstance(value, list):
            stack += [((*path, index), child) for index, child in reversed(list(enumerate(value)))]
        else:
            yield path, value
