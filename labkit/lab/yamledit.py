"""Change a YAML text where it stands: parsed for the places, edited by lines, so that everything else stays as it is.

Templates (`{{ ... }}`) are masked while parsing, so a configuration that a program fills in later can be edited, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from labkit.errors import LabError

_WHOLE_LINE = re.compile(r"^([ \t]*)\{\{.*\}\}[ \t]*$", re.MULTILINE)
_INLINE = re.compile(r"\{\{.*?\}\}")


class EditError(LabError):
    """Report a text that cannot be edited safely; nothing was changed."""


@dataclass(frozen=True)
class Region:
    """A YAML document inside a text: itself, or the literal block of a ConfigMap.

    Attributes:
        lines: its lines, without the block's indentation.
        start: the first line in the whole text, from 0.
        indent: how far the block is indented.
        root: the mapping that holds the wanted key.
    """

    lines: tuple[str, ...]
    start: int
    indent: int
    root: MappingNode


def mask(text: str) -> str:
    """Hide templates: every character keeps its place."""
    text = _WHOLE_LINE.sub(lambda m: m[1] + "#" * (len(m[0]) - len(m[1])), text)
    return _INLINE.sub(lambda m: "T" * len(m[0]), text)


@lru_cache(maxsize=32)
def find_region(text: str, key: str) -> Region | None:
    """Return the document of a text that has a mapping with a key; None when there is none that can be parsed."""
    for root in _compose(text):
        for node in _nodes(root):
            if isinstance(node, MappingNode) and get(node, key) is not None:
                return Region(tuple(text.split("\n")), 0, 0, node)
            if isinstance(node, ScalarNode) and node.style == "|" and f"{key}:" in node.value:
                found = _block(text, node, key)
                if found is not None:
                    return found
    return None


def _block(text: str, node: ScalarNode, key: str) -> Region | None:
    lines = text.split("\n")
    first = node.start_mark.line + 1
    end = first
    indent = next((len(line) - len(line.lstrip()) for line in lines[first:] if line.strip()), 0)
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" " * indent)):
        end += 1
    while end > first and not lines[end - 1].strip():
        end -= 1
    inner = tuple(line[indent:] for line in lines[first:end])
    for root in _compose("\n".join(inner)):
        for mapping in _nodes(root):
            if isinstance(mapping, MappingNode) and get(mapping, key) is not None:
                return Region(inner, first, indent, mapping)
    return None


def _compose(text: str) -> Iterator[Node]:
    yaml = YAML(typ="rt", pure=True)
    try:
        yield from yaml.compose_all(mask(text))
    except YAMLError:
        return


def _nodes(node: Node | None) -> Iterator[Node]:
    if node is None:
        return
    yield node
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _nodes(key)
            yield from _nodes(value)
    elif isinstance(node, SequenceNode):
        for one in node.value:
            yield from _nodes(one)


def get(node: Node | None, *keys: str) -> Node | None:
    """Return the node that a path of keys leads to, or None."""
    for key in keys:
        if not isinstance(node, MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    return node


def plain(node: Node | None) -> Any:
    """Return a node as plain data; all scalars are texts."""
    if isinstance(node, MappingNode):
        return {str(key.value): plain(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [plain(one) for one in node.value]
    return None if node is None else str(node.value)


def last_line(node: Node) -> int:
    """Return the last line that belongs to a node, from 0."""
    below = [one for one in _nodes(node) if not isinstance(one, MappingNode | SequenceNode) or one.flow_style]
    ends: list[int] = [
        one.end_mark.line - (1 if isinstance(one, ScalarNode) and one.style in ("|", ">") else 0) for one in below
    ]
    return max(ends, default=int(node.start_mark.line))


def insert_item(region: Region, sequence: Node | None, text: str, index: int | None) -> list[str]:
    """Return the region's lines with one more item in a block sequence, before an index or at the end.

    Args:
        region: where.
        sequence: the node of the list.
        text: the item as YAML, its first line beginning with `- `.
        index: before which item; None for the end.

    Raises:
        EditError: the list is not written one item a line.
    """
    if not isinstance(sequence, SequenceNode) or sequence.flow_style or not sequence.value:
        raise EditError("expected a list with one entry a line, got none or one in brackets")
    dash = sequence.start_mark.column
    new = [" " * dash + line if line else "" for line in text.rstrip("\n").split("\n")]
    lines = list(region.lines)
    if index is None:
        at = last_line(sequence.value[-1]) + 1
    else:
        at = sequence.value[index].start_mark.line
        while at > 0 and lines[at - 1].lstrip().startswith("#") and _indent(lines[at - 1]) == dash:
            at -= 1  # a comment above an entry belongs to it
    return [*lines[:at], *new, *lines[at:]]


def insert_key(region: Region, before: Node, text: str) -> list[str]:
    """Return the region's lines with more keys in the mapping of a key, just before that key."""
    at = before.start_mark.line
    new = [" " * before.start_mark.column + line for line in text.rstrip("\n").split("\n")]
    lines = list(region.lines)
    return [*lines[:at], *new, *lines[at:]]


def remove_node(region: Region, node: Node) -> list[str]:
    """Return the region's lines without an entry of a list; comments above it stay."""
    lines = list(region.lines)
    return [*lines[: node.start_mark.line], *lines[last_line(node) + 1 :]]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def splice(text: str, region: Region, lines: list[str]) -> str:
    """Return the whole text with a region's new lines."""
    whole = text.split("\n")
    inner = [" " * region.indent + line if line.strip() else line for line in lines]
    if region.indent == 0 and region.start == 0 and len(region.lines) == len(whole):
        return "\n".join(lines)
    return "\n".join([*whole[: region.start], *inner, *whole[region.start + len(region.lines) :]])
