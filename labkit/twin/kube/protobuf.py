"""Read objects of built-in kinds that clients send as protobuf, as client-go's typed clients do.

The table of field numbers was read from the type information of a kubectl binary; answers are always JSON, which
those clients accept as well.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, cast

from labkit.twin.kube.door import Object
from labkit.twin.kube.status import bad_request

MEDIA = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_Wire = int | bytes


def read_protobuf(body: bytes) -> Object:
    """Read one object.

    Raises:
        ApiError: it is no protobuf of the API, or of a kind that is unknown (400).
    """
    if not body.startswith(_MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    envelope = dict(_fields(body[len(_MAGIC) :]))
    about = {number: _text(value) for number, value in _fields(_bytes(envelope.get(1, b"")))}
    version, kind = about.get(1, ""), about.get(2, "")
    group, _, number = version.rpartition("/")
    name = "meta/v1.DeleteOptions" if kind == "DeleteOptions" else f"{group.split('.')[0] or 'core'}/{number}.{kind}"
    if name not in _types():
        raise bad_request(f'no kind "{kind}" is registered for version "{version}" in protobuf')
    return {"apiVersion": version, "kind": kind, **_message(_bytes(envelope.get(2, b"")), name)}


@cache
def _types() -> dict[str, dict[str, str]]:
    text = files("labkit.twin.kube").joinpath("data/protobuf.json").read_text("utf-8")
    return cast("dict[str, dict[str, str]]", json.loads(text))


def _fields(body: bytes) -> Iterator[tuple[int, _Wire]]:
    """Yield the fields of a message: number, and an integer or bytes."""
    place = 0
    try:
        while place < len(body):
            key, place = _varint(body, place)
            match key & 7:
                case 0:
                    value, place = _varint(body, place)
                    yield key >> 3, value
                case 2:
                    size, place = _varint(body, place)
                    yield key >> 3, body[place : place + size]
                    place += size
                case 1 | 5 as width:
                    size = 8 if width == 1 else 4
                    yield key >> 3, body[place : place + size]
                    place += size
                case other:
                    raise bad_request(f"proto: illegal wireType {other}")
    except IndexError as exc:
        raise bad_request("unexpected EOF") from exc


def _varint(body: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def _message(body: bytes, name: str) -> Object:
    found: Object = {}
    for number, wire in _fields(body):
        known = _types()[name].get(str(number))
        if known is None:
            continue
        field, _, code = known.partition(":")
        if not field:  # embedded: its fields are the outer object's
            found.update(_message(_bytes(wire), code.lstrip("*")))
        elif code[0] == "[":
            found.setdefault(field, []).append(_value(wire, code[1:-1]))
        elif code[0] == "{":
            entry = dict(_fields(_bytes(wire)))
            found.setdefault(field, {})[_text(entry.get(1, b""))] = _value(entry.get(2, b""), code[1:-1])
        elif code[0] == "*":
            found[field] = _value(wire, code[1:])
        elif (value := _value(wire, code)) not in ("", 0, False, None, {}):
            found[field] = value  # what is no pointer is sent even when it is empty
    return found


def _value(wire: _Wire, code: str) -> Any:
    reader = _SCALARS.get(code)
    if reader is not None:
        return reader(wire)
    return _value_list(wire, code) if code[0] == "[" else _message(_bytes(wire), code)


def _value_list(wire: _Wire, code: str) -> list[Any]:
    """Read a list inside a map: a message that holds the items."""
    return [_value(item, code[1:-1]) for _, item in _fields(_bytes(wire))]


def _bytes(wire: _Wire) -> bytes:
    return wire if isinstance(wire, bytes) else b""


def _text(wire: _Wire) -> str:
    return _bytes(wire).decode("utf-8", "replace")


def _integer(wire: _Wire) -> int:
    value = wire if isinstance(wire, int) else 0
    return value - (1 << 64) if value >= 1 << 63 else value


def _time(wire: _Wire) -> str | None:
    parts = dict(_fields(_bytes(wire)))
    seconds, nanos = _integer(parts.get(1, 0)), _integer(parts.get(2, 0))
    if not seconds and not nanos:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    fraction = f".{nanos // 1000:06d}" if nanos else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _quantity(wire: _Wire) -> str:
    return _text(dict(_fields(_bytes(wire))).get(1, b""))


def _int_or_string(wire: _Wire) -> int | str:
    parts = dict(_fields(_bytes(wire)))
    return _text(parts.get(3, b"")) if parts.get(1) else _integer(parts.get(2, 0))


def _raw(wire: _Wire) -> Any:
    raw = _bytes(dict(_fields(_bytes(wire))).get(1, b""))
    return json.loads(raw) if raw else None


_SCALARS: dict[str, Any] = {
    "s": _text,
    "i": _integer,
    "b": bool,
    "n": lambda wire: struct.unpack("<d", _bytes(wire))[0],
    "y": lambda wire: base64.b64encode(_bytes(wire)).decode(),
    "time": _time,
    "quantity": _quantity,
    "intstr": _int_or_string,
    "raw": _raw,
    "duration": lambda wire: f"{_integer(dict(_fields(_bytes(wire))).get(1, 0)) / 1e9:g}s",
}
