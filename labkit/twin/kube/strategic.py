"""The strategic merge patch: lists are merged by the keys that their types name."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.patch import PatchError
from labkit.twin.kube.shapes import ANY, Shape

_ORDER, _PRIMITIVES, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def strategic_merge(target: Any, patch: Any, shape: Shape) -> Any:
    """Return the target with a strategic merge patch laid over it.

    Raises:
        PatchError: a directive is wrong or a list item lacks its merge key.
    """
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "replace":
        return {k: v for k, v in patch.items() if k != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise PatchError(f"Unknown patch type found: {directive}")
    merged = dict(target) if isinstance(target, dict) else {}
    if _RETAIN in patch:
        merged = {k: v for k, v in merged.items() if k in patch[_RETAIN]}
    for key, value in patch.items():
        if not key.startswith("$"):
            _lay(merged, key, value, shape.child(key))
    for key, value in patch.items():
        if key.startswith(_PRIMITIVES):
            name = key.removeprefix(_PRIMITIVES)
            merged[name] = [item for item in merged.get(name, []) if item not in value]
        elif key.startswith(_ORDER):
            name = key.removeprefix(_ORDER)
            if isinstance(merged.get(name), list):
                merged[name] = _ordered(merged[name], value, shape.child(name))
    return merged


def _lay(merged: dict[str, Any], key: str, value: Any, shape: Shape) -> None:
    if value is None:
        merged.pop(key, None)
    elif isinstance(value, list) and isinstance(merged.get(key), list):
        merged[key] = _merge_list(merged[key], value, shape)
    elif isinstance(value, list):
        merged[key] = _merge_list([], value, shape)
    elif isinstance(value, dict):
        merged[key] = strategic_merge(merged.get(key), value, shape)
    else:
        merged[key] = value


def _merge_list(target: list[Any], patch: list[Any], shape: Shape) -> list[Any]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    if shape.merges:
        return target + [item for item in patch if item not in target]
    if not shape.merge_key:
        return [_clean(item) for item in patch]
    return _merge_items(target, patch, shape)


def _merge_items(target: list[Any], patch: list[Any], shape: Shape) -> list[Any]:
    merged, key = list(target), shape.merge_key
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise PatchError(f"map: {item} does not contain declared merge key: {key}")
        places = [i for i, had in enumerate(merged) if isinstance(had, dict) and had.get(key) == item[key]]
        if item.get("$patch") == "delete":
            merged = [had for i, had in enumerate(merged) if i not in places]
        elif places:
            merged[places[0]] = strategic_merge(merged[places[0]], item, shape.item or ANY)
        else:
            merged.append(strategic_merge({}, item, shape.item or ANY))
    return merged


def _clean(item: Any) -> Any:
    return {k: v for k, v in item.items() if not k.startswith("$")} if isinstance(item, dict) else item


def _ordered(items: list[Any], order: list[Any], shape: Shape) -> list[Any]:
    """Sort by the order that the patch names; items that it does not name keep their place behind the former."""
    key = shape.merge_key
    wanted = [o.get(key) if key and isinstance(o, dict) else o for o in order]
    found: list[tuple[int, int, Any]] = []
    last = -1
    for index, item in enumerate(items):
        name = item.get(key) if key and isinstance(item, dict) else item
        last = wanted.index(name) if name in wanted else last
        found.append((last, index, item))
    return [item for _, _, item in sorted(found, key=lambda entry: entry[:2])]
