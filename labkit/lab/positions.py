"""YAML text as a plain tree that remembers where each key and value stands, with every mistake of its syntax."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from labkit.errors import Mistake
from labkit.lab.types import NO_LITERAL

Path: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]

_TAG = "tag:yaml.org,2002:"
_TEXTS = ("str", "timestamp", "value", "merge")
_NUMBERS: dict[str, tuple[re.Pattern[str], Callable[[str], int | float], str]] = {
    "int": (re.compile(r"[-+]?(0|[1-9][0-9]{0,17})"), int, "a plain decimal number without leading zeros"),
    "float": (re.compile(r"[-+]?[0-9]{1,15}\.[0-9]{1,15}"), float, "a plain decimal number"),
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SYNTAX_HINTS = {
    "mapping values are not allowed": "is the indentation right, and is a value with `: ` in quotes?",
    "cannot start any token": "put the value in quotes",
    "undefined alias": "an anchor stands before its alias; a text that begins with * needs quotes",
}
_SYNTAX_HINT = "is a bracket, a brace or a quote left open, or a line indented wrongly?"
_TOKEN = re.compile("'<(alias|anchor|block|byte|comment|directive|document|scalar|stream|tag)[a-z ]*>'")
_QUOTED = re.compile("""'[^']*'|"[^"]*\"""")
_MOST_VALUES = 50_000
_DEEPEST = 40


@dataclass
class Document:
    """A parsed file: its tree of plain values, the line and column of each key and value, its mistakes."""

    file: str
    tree: Any = None
    mistakes: list[Mistake] = field(default_factory=list)
    bad: set[Path] = field(default_factory=set)
    """Paths of values that stand in the tree only as a placeholder: their mistake is already told."""
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)

    def add(self, place: Place, path: Path, expected: str, got: str, hint: str = "") -> None:
        """Note a mistake at a place."""
        self.mistakes.append(Mistake(self.file, *place, dotted(path), expected, got, hint))

    def key_place(self, path: Path) -> Place:
        """Where the key of a value stands; for an item of a list, the item."""
        return self.keys.get(path) or self.value_place(path)

    def value_place(self, path: Path) -> Place:
        """Where a value stands; for one that is not in the file, the nearest mapping around it."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, (1, 1))


def dotted(path: Path) -> str:
    """Write a path as people do: `proxmox.api[1]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def parse_yaml(text: str, file: str, is_secret: Callable[[Path], bool]) -> Document:
    """Parse YAML text; what cannot be read as plain data is noted as a mistake, and the rest is kept.

    Args:
        text: the whole file.
        file: its name, for the mistakes.
        is_secret: tells whether the value at a path must not be shown.
    """
    document = Document(file)
    if (odd := _UNPRINTABLE.search(text)) is not None:
        got = f"the character U+{ord(odd[0]):04X}"
        document.add(_place_of(text, odd.start()), (), "text without control characters", got)
        return document
    root = _compose(text, document)
    if root is None:
        return document
    count, height = _measure(root)
    if height > _DEEPEST:
        document.add((1, 1), (), "a lab file", "values nested too deeply, or an alias inside its own anchor")
    elif count > _MOST_VALUES:
        document.add((1, 1), (), f"a lab file of at most {_MOST_VALUES} values", "more, by its aliases")
    else:
        document.tree = _Reader(document, is_secret).read(root, ())
    return document


def _compose(text: str, document: Document) -> Node | None:
    try:
        yaml = YAML(typ="rt", pure=True)
        yaml.composer.warn_double_anchors = False  # YAML 1.2 allows it
        return yaml.compose(text)  # type: ignore[no-any-return]
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        document.add(place, (), *_syntax(exc, text, place))
    except RecursionError:
        document.add((1, 1), (), "a lab file", "values nested too deeply")
    except Exception as exc:  # noqa: BLE001  # on odd input ruamel lets slip whatever its parts raise
        document.add((1, 1), (), "YAML", f"text that the parser gave up on ({type(exc).__name__})")
    return None


def _syntax(exc: MarkedYAMLError, text: str, place: Place) -> tuple[str, str, str]:
    """Put a syntax error into words that never hold text of the file."""
    lines = text.split("\n")
    line = lines[place[0] - 1] if place[0] <= len(lines) else ""
    problem = _QUOTED.sub(_hide, str(exc.problem or exc.context))
    problem = " ".join(problem.split())
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "YAML", "a tab in the indentation", "indent with spaces"
    if "single document" in str(exc.context) or "but found another" in problem:
        return "one YAML document", "a second one", "remove the line ---"
    hint = next((hint for words, hint in _SYNTAX_HINTS.items() if words in problem), _SYNTAX_HINT)
    return "YAML", f"a syntax error: {problem}", hint


def _hide(match: re.Match[str]) -> str:
    """Take text of the file out of a message: all in quotes but single characters and <names of tokens>."""
    return match[0] if len(match[0]) <= 4 or _TOKEN.fullmatch(match[0]) else "..."


def _measure(root: Node) -> tuple[int, int]:
    """Count the values of a tree and the levels of its nesting, aliases counted as often as they are used."""
    known: dict[int, tuple[int, int]] = {}
    endless = (0, _DEEPEST + 1)

    def measure(node: Node, level: int) -> tuple[int, int]:
        if level > _DEEPEST:
            return endless
        if id(node) not in known:
            known[id(node)] = endless  # until it is known: an alias inside its own anchor
            inner = [measure(child, level + 1) for child in _children(node)]
            known[id(node)] = 1 + sum(one for one, _ in inner), 1 + max((high for _, high in inner), default=0)
        return known[id(node)]

    return measure(root, 1)


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, SequenceNode):
        yield from node.value


class _Reader:
    """Turn nodes into plain values."""

    def __init__(self, document: Document, is_secret: Callable[[Path], bool]) -> None:
        self._document = document
        self._is_secret = is_secret

    def read(self, node: Node, path: Path) -> Any:
        self._document.values[path] = _place(node)
        tag = str(node.tag or "").removeprefix(_TAG)
        if isinstance(node, MappingNode) and tag == "map":
            return self._mapping(node, path)
        if isinstance(node, SequenceNode) and tag == "seq":
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return self._scalar(node, tag, path)
        return self._unsupported(node, path)

    def _unsupported(self, node: Node, path: Path) -> None:
        if self._is_secret(path):
            self._wrong(node, path, NO_LITERAL, "a text that begins with !")
            return
        got = f"the tag {short(str(node.tag).replace(_TAG, '!!'))}"
        self._wrong(node, path, "plain YAML without tags", got, "remove the tag")

    def _wrong(self, node: Node, path: Path, expected: str, got: str, hint: str = "") -> None:
        self._document.bad.add(path)
        self._document.add(_place(node), path, expected, got, hint)

    def _scalar(self, node: ScalarNode, tag: str, path: Path) -> Any:
        raw = str(node.value)
        if tag in _TEXTS:
            if _CONTROL.search(raw):
                self._wrong(node, path, "text without control characters", "one with an escape for such")
            return _CONTROL.sub("", raw)
        if tag in ("null", "bool"):
            return None if tag == "null" else raw.lower() in ("true", "yes", "on", "y")
        if tag in _NUMBERS:
            return self._number(node, tag, path)
        return self._unsupported(node, path)

    def _number(self, node: ScalarNode, tag: str, path: Path) -> int | float | None:
        raw = str(node.value)
        form, make, expected = _NUMBERS[tag]
        if form.fullmatch(raw):
            return make(raw)
        if self._is_secret(path):
            self._wrong(node, path, NO_LITERAL, f"a literal of {len(raw)} characters")
        else:
            self._wrong(node, path, expected, f"`{short(raw)}`", "put it in quotes when it is a text")
        return None

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if str(key.tag).removeprefix(_TAG) == "merge":
                merged.append(value)
                continue
            name = self._key(key, path)
            if name is None:
                continue
            here = (*path, name)
            if name in tree:
                self._duplicate(key, here)
                continue
            self._document.keys[here] = _place(key)
            tree[name] = self.read(value, here)
            if isinstance(value, ScalarNode) and value.style is None and not value.value:
                self._document.values[here] = _place(key)  # nothing has no place of its own
        for value in merged:
            self._merge(value, path, tree)
        return tree

    def _merge(self, node: Node, path: Path, tree: dict[str, Any]) -> None:
        """Take over what is not yet there; of several, the first counts."""
        for source in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(source, MappingNode):
                expected = "a mapping, or a list of mappings, to merge"
                self._document.add(_place(node), (*path, "<<"), expected, "something else")
                return
            for key, value in self._pairs(source, path):
                here = (*path, key.value)
                if key.value not in tree:
                    self._document.keys[here] = _place(key)
                    tree[key.value] = self.read(value, here)

    def _pairs(self, source: MappingNode, path: Path) -> Iterator[tuple[ScalarNode, Node]]:
        """The pairs of a mapping that is merged, its own merges included; its mistakes are told at itself."""
        inner = [value for key, value in source.value if str(key.tag).removeprefix(_TAG) == "merge"]
        for key, value in source.value:
            if isinstance(key, ScalarNode) and str(key.tag).removeprefix(_TAG) != "merge":
                yield key, value
        for value in inner:
            for nested in value.value if isinstance(value, SequenceNode) else [value]:
                if isinstance(nested, MappingNode):
                    yield from self._pairs(nested, path)

    def _key(self, node: Node, path: Path) -> str | None:
        tag = str(node.tag or "").removeprefix(_TAG)
        if not isinstance(node, ScalarNode) or tag == "null" or tag.startswith("!"):
            self._document.add(_place(node), path, "a text as key", "something else", "write `key: value`")
            return None
        name = str(node.value)
        if _CONTROL.search(name):
            self._document.add(_place(node), path, "a key without control characters", "an escape for one")
            return None
        if tag not in _TEXTS:
            self._document.add(
                _place(node), path, "a text as key", f"{self._shown(name, path)} ({tag})", "put it in quotes"
            )
        return name

    def _shown(self, name: str, path: Path) -> str:
        """A key for a message; below a secret, an unknown one may be the secret itself."""
        hidden = self._is_secret(path) and name not in ("id", "secret")
        return f"one of {len(name)} characters" if hidden else f"`{short(name)}`"

    def _duplicate(self, node: Node, path: Path) -> None:
        kind = {"vms": "VM", "hosts": "host"}.get(str(path[0])) if len(path) == 2 else None
        name = self._shown(str(path[-1]), path[:-1])
        expected = f"one {kind} of the name {name}" if kind else f"the key {name} once"
        line = self._document.keys[path][0]
        hint = "give one of them another name" if kind else "remove one of them"
        where = path if name.startswith("`") else path[:-1]
        self._document.add(_place(node), where, expected, f"a second one; the first is in line {line}", hint)


def short(text: str, most: int = 60) -> str:
    """Cut a long text for a message, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."


def _place(node: Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _place_of(text: str, index: int) -> Place:
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1
