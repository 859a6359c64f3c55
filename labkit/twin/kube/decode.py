"""Read an object of a built-in kind: types checked, unknown fields and nulls dropped, quantities canonical."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from labkit.twin.kube.door import Object
from labkit.twin.kube.quantity import canonical
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.shapes import Shape
from labkit.twin.kube.status import bad_request

_GO = {"string": "string", "integer": "int64", "number": "float64", "boolean": "bool", "time": "Time"}
# Lists that are written even when they are empty.
_KEPT_EMPTY = {"rules", "containers", "endpoints", "addresses", "webhooks", "ports", "accessModes"}
# Plain booleans that the server leaves out when they are false.
_DROPPED_FALSE = {"unschedulable", "paused", "hostNetwork", "hostPID", "hostIPC"}


class Decoder:
    """One pass over one object; `unknown` collects the paths of fields that nobody knows."""

    def __init__(self, resource: Resource, kind: str = "") -> None:
        self.kind = kind or resource.kind
        self.version = resource.version
        self.unknown: list[str] = []

    def read(self, body: Object, shape: Shape) -> Object:
        """Return the object as the server would keep it.

        Raises:
            ApiError: a value has the wrong type (400).
        """
        cleaned: Object = self._object(body, shape, "", "")
        return cleaned

    def _value(self, value: Any, shape: Shape, path: str, owner: str) -> Any:
        match shape.kind:
            case "any":
                return value
            case "object":
                return self._object(value, shape, path, owner)
            case "map":
                return self._map(value, shape, path, owner)
            case "list":
                return self._list(value, shape, path, owner)
        return self._scalar(value, shape, path, owner)

    def _object(self, value: Any, shape: Shape, path: str, owner: str) -> Object:
        if not isinstance(value, dict):
            raise self._mismatch(value, path, owner, f"{shape.name}")
        kept: Object = {}
        for key, item in value.items():
            known = shape.fields.get(key)
            if known is None:
                self.unknown.append(f"{path}.{key}" if path else key)
            elif item is not None:
                found = self._value(item, known, f"{path}.{key}" if path else key, shape.name)
                if not _omitted(key, found, known):
                    kept[key] = found
        return kept

    def _map(self, value: Any, shape: Shape, path: str, owner: str) -> Object:
        if not isinstance(value, dict):
            raise self._mismatch(value, path, owner, "map[string]string")
        assert shape.item is not None  # noqa: S101 - maps always have an item
        return {key: "" if item is None else self._value(item, shape.item, path, owner) for key, item in value.items()}

    def _list(self, value: Any, shape: Shape, path: str, owner: str) -> list[Any]:
        if not isinstance(value, list):
            raise self._mismatch(value, path, owner, f"[]{shape.item.name or 'string' if shape.item else ''}")
        assert shape.item is not None  # noqa: S101 - lists always have an item
        return [
            self._value(item, shape.item, f"{path}[{index}]", owner)
            for index, item in enumerate(value)
            if item is not None
        ]

    def _scalar(self, value: Any, shape: Shape, path: str, owner: str) -> Any:
        kind = shape.kind
        if kind == "quantity":
            return self._quantity(value)
        if kind == "bytes":
            return self._bytes(value, path, owner)
        good = {
            "string": isinstance(value, str),
            "time": isinstance(value, str),
            "boolean": isinstance(value, bool),
            "number": isinstance(value, int | float) and not isinstance(value, bool),
            "integer": _whole(value),
        }[kind]
        if not good:
            raise self._mismatch(value, path, owner, _GO[kind])
        return int(value) if kind == "integer" else value

    def _quantity(self, value: Any) -> str:
        try:
            return canonical("" if isinstance(value, bool | dict | list) else value)
        except ValueError as exc:
            raise self._unreadable(str(exc)) from exc

    def _bytes(self, value: Any, path: str, owner: str) -> str:
        if not isinstance(value, str):
            raise self._mismatch(value, path, owner, "[]uint8")
        text = "".join(value.split())
        try:
            base64.b64decode(text, validate=True)
        except binascii.Error as exc:
            good = next((i for i, c in enumerate(text) if not (c.isalnum() or c in "+/=")), len(text) // 4 * 4)
            raise self._unreadable(f"illegal base64 data at input byte {good}") from exc
        return text

    def _mismatch(self, value: Any, path: str, owner: str, expected: str) -> Exception:
        place = f"{owner}.{_unindexed(path)}" if path else self.kind
        return self._unreadable(
            f"json: cannot unmarshal {_json_type(value)} into Go struct field {place} of type {expected}"
        )

    def _unreadable(self, why: str) -> Exception:
        return bad_request(f'{self.kind} in version "{self.version}" cannot be handled as a {self.kind}: {why}')


def _omitted(key: str, value: Any, shape: Shape) -> bool:
    if value is False:
        return key in _DROPPED_FALSE
    if shape.kind == "list":
        return not value and key not in _KEPT_EMPTY
    return shape.kind == "map" and not value


def _whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    names: dict[type, str] = {dict: "object", list: "array", str: "string"}
    return names.get(type(value), "null")


def _unindexed(path: str) -> str:
    return "".join(part.split("]")[-1] if "]" in part else part for part in path.split("["))
