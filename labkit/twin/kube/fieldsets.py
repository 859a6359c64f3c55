"""Sets of fields as managedFields writes them: nested dictionaries of path elements.

A node is a member of the set when it is empty or holds ".". Elements are `f:name` for a field, `k:{...}` for a list
item found by its keys, `v:...` for an item of a set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from labkit.twin.kube.shapes import ANY, Shape

Fields = dict[str, Any]


def is_member(node: Fields) -> bool:
    """Whether the node's own path is in the set."""
    return not node or "." in node


def union(left: Fields, right: Fields) -> Fields:
    """Return what is in either set; the arguments stay as they are."""
    if not left or not right:
        filled = left or right
        return {".": {}, **filled} if filled else {}
    merged = dict(left)
    for key, node in right.items():
        merged[key] = union(merged[key], node) if key in merged else node
    return merged


def join(left: Fields, right: Fields) -> Fields:
    """Return the union of two whole sets, where an empty dictionary means the empty set."""
    return union(left, right) if left and right else left or right


def difference(left: Fields, right: Fields) -> Fields | None:
    """Return what is in the left set only, None when nothing is left."""
    kept: Fields = {}
    if is_member(left) and not is_member(right):
        kept["."] = {}
    for key, node in left.items():
        if key != ".":
            rest = difference(node, right[key]) if key in right else node
            if rest is not None:
                kept[key] = rest
    if not kept:
        return None
    return {} if set(kept) == {"."} else kept


def without(left: Fields, right: Fields) -> Fields:
    """Return the difference of two whole sets, where an empty dictionary means the empty set."""
    return (difference(left, right) or {}) if left and right else left


def intersection(left: Fields, right: Fields) -> Fields | None:
    """Return what is in both sets, None when that is nothing."""
    kept: Fields = {}
    if is_member(left) and is_member(right):
        kept["."] = {}
    for key, node in left.items():
        if key != "." and key in right:
            both = intersection(node, right[key])
            if both is not None:
                kept[key] = both
    if not kept:
        return None
    return {} if set(kept) == {"."} else kept


def paths(fields: Fields, prefix: str = "") -> Iterator[str]:
    """Yield the members as the server prints them: `.spec.containers[name="c"].image`."""
    if is_member(fields) and prefix:
        yield prefix
    for key, node in sorted(fields.items()):
        if key != ".":
            yield from paths(node, prefix + _printed(key))


def _printed(element: str) -> str:
    mark, _, rest = element.partition(":")
    if mark == "f":
        return f".{rest}"
    if mark == "k":
        return f"[{','.join(f'{k}={json.dumps(v)}' for k, v in sorted(json.loads(rest).items()))}]"
    return f"[={rest}]" if mark == "v" else f"[{rest}]"


def item_element(item: Any, shape: Shape) -> str:
    """Return the path element of one item of a keyed list or a set."""
    if shape.list_type == "set":
        return f"v:{_compact(item)}"
    found = item if isinstance(item, dict) else {}
    keys = {key: found[key] for key in shape.keys if key in found}
    if "protocol" in shape.keys and "protocol" not in keys:
        keys["protocol"] = "TCP"
    return f"k:{_compact(dict(sorted(keys.items())))}"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def is_granular_list(shape: Shape) -> bool:
    """Whether items of the list are owned one by one."""
    return shape.list_type in ("map", "set")


def all_fields(value: Any, shape: Shape, *, marked: bool = False) -> Fields:
    """Return every field of a value.

    Args:
        value: what was applied, or what appeared.
        shape: rules of the lists and maps in it.
        marked: also name the maps and lists themselves, as an update does that made them.
    """
    if isinstance(value, dict) and value and not shape.atomic:
        found = {f"f:{k}": all_fields(v, shape.child(k), marked=marked) for k, v in value.items()}
        own = marked and not (shape.kind == "object" and shape.name)
        return {".": {}, **found} if own else found
    if isinstance(value, list) and value and is_granular_list(shape):
        items = {item_element(i, shape): _item_fields(i, shape, marked=marked) for i in value}
        return {".": {}, **items} if marked else items
    return {}


def _item_fields(item: Any, shape: Shape, *, marked: bool) -> Fields:
    found = all_fields(item, shape.item or ANY, marked=marked)
    return {".": {}, **found} if found else {}


def compare(old: Any, new: Any, shape: Shape) -> tuple[Fields | None, Fields | None]:
    """Return the fields that were added or changed, and those that were removed; None when there are none."""
    if old == new:
        return None, None
    if isinstance(old, dict) and isinstance(new, dict) and not shape.atomic:
        return _compare_parts(
            {f"f:{k}": (v, shape.child(k)) for k, v in old.items()},
            {f"f:{k}": (v, shape.child(k)) for k, v in new.items()},
        )
    if isinstance(old, list) and isinstance(new, list) and is_granular_list(shape):
        inner = shape.item or ANY
        return _compare_parts(
            {item_element(i, shape): (i, inner) for i in old},
            {item_element(i, shape): (i, inner) for i in new},
        )
    return {}, None


def _compare_parts(
    old: dict[str, tuple[Any, Shape]], new: dict[str, tuple[Any, Shape]]
) -> tuple[Fields | None, Fields | None]:
    changed: Fields = {}
    removed: Fields = {}
    for key, (value, shape) in new.items():
        if key not in old:
            found = all_fields(value, shape, marked=True)
            changed[key] = {".": {}, **found} if key[0] == "k" and found else found
            continue
        inner_changed, inner_removed = compare(old[key][0], value, shape)
        if inner_changed is not None:
            changed[key] = inner_changed
        if inner_removed is not None:
            removed[key] = inner_removed
    for key, (value, shape) in old.items():
        if key not in new:
            found = all_fields(value, shape, marked=True)
            removed[key] = {".": {}, **found} if found else {}
    return changed or None, removed or None


def merge(live: Any, applied: Any, shape: Shape) -> Any:
    """Return the live value with the applied one laid over it."""
    if isinstance(live, dict) and isinstance(applied, dict) and not shape.atomic:
        merged = dict(live)
        for key, value in applied.items():
            merged[key] = merge(live[key], value, shape.child(key)) if key in live else value
        return merged
    if isinstance(live, list) and isinstance(applied, list) and is_granular_list(shape):
        by_key = {item_element(item, shape): item for item in live}
        for item in applied:
            key = item_element(item, shape)
            by_key[key] = merge(by_key[key], item, shape.item or ANY) if key in by_key else item
        return list(by_key.values())
    return applied


def strip(value: Any, doomed: Fields, kept: Fields | None, shape: Shape) -> Any:
    """Return a value without the doomed fields; what holds a kept field stays."""
    if isinstance(value, dict):
        elements = {f"f:{key}": key for key in value}
        left = {key: item for key, item in value.items() if f"f:{key}" not in doomed}
        for element, key in elements.items():
            if element in doomed:
                _strip_part((left, key, value[key]), doomed[element], _down(kept, element), shape.child(key))
        return {key: left[key] for key in value if key in left}
    if isinstance(value, list) and is_granular_list(shape):
        survivors: dict[int, Any] = {}
        for index, item in enumerate(value):
            element = item_element(item, shape)
            if element in doomed:
                inner = shape.item or ANY
                _strip_part((survivors, index, item), doomed[element], _down(kept, element), inner)
            else:
                survivors[index] = item
        return list(survivors.values())
    return value


def _strip_part(place: tuple[Any, Any, Any], doomed: Fields, kept: Fields | None, shape: Shape) -> None:
    """Put what survives of one part into its place: what to put it in, under which key, and the part."""
    left, key, item = place
    if is_member(doomed) and kept is None:
        return
    rest = strip(item, doomed, kept, shape)
    if rest or kept is not None or not isinstance(rest, dict | list):
        left[key] = rest


def _down(kept: Fields | None, element: str) -> Fields | None:
    return None if kept is None else kept.get(element)
