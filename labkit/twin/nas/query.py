"""TrueNAS' query language: filters and options on lists of objects. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from labkit.twin.nas.errors import invalid_params, no_match

Row = Mapping[str, Any]
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda x, y: bool(x == y),
    "!=": lambda x, y: bool(x != y),
    ">": lambda x, y: x is not None and bool(x > y),
    ">=": lambda x, y: x is not None and bool(x >= y),
    "<": lambda x, y: x is not None and bool(x < y),
    "<=": lambda x, y: x is not None and bool(x <= y),
    "~": lambda x, y: x is not None and re.match(y, x) is not None,
    "in": lambda x, y: x in y,
    "nin": lambda x, y: x not in y,
    "rin": lambda x, y: x is not None and y in x,
    "rnin": lambda x, y: x is not None and y not in x,
    "^": lambda x, y: x is not None and bool(x.startswith(y)),
    "!^": lambda x, y: x is not None and not x.startswith(y),
    "$": lambda x, y: x is not None and bool(x.endswith(y)),
    "!$": lambda x, y: x is not None and not x.endswith(y),
}
_TIME_OPERATORS = ("=", "!=", ">", ">=", "<", "<=")
_KEYS = {
    "order_by",
    "select",
    "count",
    "get",
    "limit",
    "offset",
    "extra",
    "relationships",
    "prefix",
    "force_sql_filters",
}


def run_query(rows: Sequence[Row], filters: Any = None, options: Any = None) -> Any:
    """Return what a query method answers: a list, one object (`get`) or a number (`count`).

    Raises:
        RpcError: when the filters or options are wrong, or `get` finds nothing.
    """
    options = {} if options is None else options
    if not isinstance(options, dict) or set(options) - _KEYS:
        raise invalid_params("options", f"Extra inputs are not permitted: {sorted(set(options) - _KEYS)}")
    found = [row for row in rows if matches(row, filters or [])]
    for key in reversed(options.get("order_by") or []):
        found = _ordered(found, key)
    if options.get("count"):
        return len(found)
    if options.get("get") and (options.get("limit", 1) > 1 or options.get("offset")):
        raise invalid_params("options", "Invalid options combination. `get` implies `limit` 1 and no `offset`")
    if options.get("offset"):
        found = found[options["offset"] :]
    if options.get("limit"):
        found = found[: options["limit"]]
    chosen = options.get("select") or []
    shown = [_select(row, chosen) if chosen else dict(row) for row in found]
    if not options.get("get"):
        return shown
    if not shown:
        raise no_match()
    return shown[0]


def matches(row: Row, filters: Any) -> bool:
    """Tell whether a row fits every filter."""
    if not isinstance(filters, list):
        raise invalid_params("filters", "Input should be a valid list")
    return all(_fits(row, one) for one in filters)


def _fits(row: Row, one: Any) -> bool:
    if isinstance(one, list) and len(one) == 2 and one[0] == "OR":
        return any(matches(row, part) if _is_group(part) else _fits(row, part) for part in one[1])
    if not isinstance(one, list) or len(one) != 3:
        raise invalid_params("filters", f"Invalid filter {one}")
    name, operator, value = one
    if not isinstance(name, str) or not isinstance(operator, str):
        raise invalid_params("filters", f"Invalid filter {one}")
    found = lookup(row, name)
    if name.endswith(".$date"):
        return _compare_times(found, operator, value)
    fold = operator.startswith("C") and operator[1:] in _OPERATORS
    rule = _OPERATORS.get(operator[1:] if fold else operator)
    if rule is None:
        raise invalid_params("filters", f"Invalid operation: {operator}")
    return rule(_lower(found), _lower(value)) if fold else rule(found, value)


def _is_group(part: Any) -> bool:
    return isinstance(part, list) and bool(part) and isinstance(part[0], list)


def _compare_times(found: Any, operator: str, value: Any) -> bool:
    if operator not in _TIME_OPERATORS:
        raise invalid_params("filters", f"Invalid operation for a timestamp: {operator}")
    try:
        wanted = datetime.fromisoformat(str(value)).timestamp() * 1000
    except ValueError as exc:
        raise invalid_params("filters", f"{value}: expected an ISO-8601 timestamp") from exc
    return _OPERATORS[operator](found, wanted)


def lookup(row: Any, name: str) -> Any:
    """Return the value at a dotted path; a dot in a key is escaped by a backslash; None where there is none."""
    for part in re.split(r"(?<!\\)\.", name):
        key = part.replace("\\.", ".")
        if isinstance(row, Mapping):
            row = row.get(key)
        elif isinstance(row, list) and key.isdecimal() and int(key) < len(row):
            row = row[int(key)]
        else:
            return None
    return row


def _ordered(rows: list[Row], key: str) -> list[Row]:
    last = key.startswith("nulls_last:")
    name = key.removeprefix("nulls_last:").removeprefix("nulls_first:")
    down = name.startswith("-")
    name = name.removeprefix("-")
    none = [row for row in rows if lookup(row, name) is None]
    some = [row for row in rows if lookup(row, name) is not None]
    some.sort(key=lambda row: lookup(row, name), reverse=down)
    return some + none if last or down else none + some


def _select(row: Row, chosen: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in chosen:
        if isinstance(one, list):
            found[one[1]] = lookup(row, one[0])
            continue
        parts = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", one)]
        place = found
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = lookup(row, one)
    return found


def _lower(value: Any) -> Any:
    if isinstance(value, list):
        return [_lower(one) for one in value]
    return value.lower() if isinstance(value, str) else value
