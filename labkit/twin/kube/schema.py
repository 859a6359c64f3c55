"""Structural schemas of CRDs: pruning, defaults and validation with the server's words.

Rules in CEL (`x-kubernetes-validations`) are kept and served, but not evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from labkit.twin.kube.builtin_shapes import shape_of
from labkit.twin.kube.clock import parse_stamp
from labkit.twin.kube.clone import clone
from labkit.twin.kube.shapes import Shape
from labkit.twin.kube.status import Cause, required, shown, unsupported, wrong

Schema = dict[str, Any]
_TYPE_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
_OPEN = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"


def custom_shape(schema: Schema) -> Shape:
    """Return the shape of a custom kind, with the metadata that every object has."""
    shape = _shape(schema)
    shape.kind = "object"
    shape.fields["metadata"] = shape_of("V1ObjectMeta")
    return shape


def _shape(schema: Schema) -> Shape:
    shape = Shape(atomic=schema.get("x-kubernetes-map-type") == "atomic", open=bool(schema.get(_OPEN)))
    if schema.get("type") == "array":
        shape.kind = "list"
        shape.item = _shape(schema.get("items", {}))
        listed = schema.get("x-kubernetes-list-type", "atomic")
        shape.list_type = listed
        shape.keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
    elif "properties" in schema:
        shape.kind = "object"
        shape.fields = {key: _shape(part) for key, part in schema["properties"].items()}
    elif isinstance(schema.get("additionalProperties"), dict):
        shape.kind = "map"
        shape.item = _shape(schema["additionalProperties"])
    return shape


def prune(value: Any, schema: Schema, path: str = "") -> list[str]:
    """Drop the fields that the schema does not name, in place; return their paths."""
    if isinstance(value, list):
        items = schema.get("items", {})
        return [gone for i, item in enumerate(value) for gone in prune(item, items, f"{path}[{i}]")]
    if not isinstance(value, dict):
        return []
    if schema.get("x-kubernetes-embedded-resource"):
        schema = {**schema, "properties": {**_EMBEDDED, **schema.get("properties", {})}}
    properties, more = schema.get("properties", {}), schema.get("additionalProperties")
    gone = []
    for key in list(value):
        place = f"{path}.{key}" if path else key
        if key in properties:
            gone += prune(value[key], properties[key], place)
        elif isinstance(more, dict):
            gone += prune(value[key], more, place)
        elif not more and not schema.get(_OPEN):
            del value[key]
            gone.append(place)
    return gone


_ANYTHING: Schema = {"type": "object", _OPEN: True}
_EMBEDDED: Schema = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _ANYTHING}


def fill_defaults(value: Any, schema: Schema) -> None:
    """Fill in the schema's defaults in place; a null that may not be is replaced by the default or dropped."""
    if isinstance(value, list):
        for item in value:
            fill_defaults(item, schema.get("items", {}))
    elif isinstance(value, dict):
        for key, part in schema.get("properties", {}).items():
            if key in value and value[key] is None and not part.get("nullable"):
                del value[key]
            if key not in value and "default" in part:
                value[key] = clone(part["default"])
            if key in value:
                fill_defaults(value[key], part)
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            for key in set(value) - set(schema.get("properties", {})):
                fill_defaults(value[key], more)


def validate(value: Any, schema: Schema, path: str = "") -> list[Cause]:
    """Return what is wrong with a value, in the server's words."""
    return list(_validate(value, schema, path))


def _validate(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    if value is None:
        if not schema.get("nullable") and schema.get("type"):
            yield _type_error(path, "null", schema["type"])
        return
    wrong_type = _wrong_type(value, schema)
    if wrong_type:
        yield _type_error(path, wrong_type, schema.get("type") or "integer,string")
        return
    if "enum" in schema and value not in schema["enum"]:
        yield unsupported(path, value, [str(word) for word in schema["enum"]])
    if isinstance(value, str):
        yield from _string(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(value, schema, path)
    elif isinstance(value, list):
        yield from _array(value, schema, path)
    elif isinstance(value, dict):
        yield from _object(value, schema, path)
    yield from _combined(value, schema, path)


def _type_error(path: str, got: str, expected: str) -> Cause:
    text = f'Invalid value: "{got}": {path} in body must be of type {expected}: "{got}"'
    return Cause(path, "FieldValueTypeInvalid", text)


def _wrong_type(value: Any, schema: Schema) -> str:
    """Return the name of the type when it is not what the schema says."""
    got = _TYPE_NAMES.get(type(value), "null")
    wanted = schema.get("type")
    if schema.get(_INT_OR_STRING):
        return "" if got in ("integer", "string") else got
    if not wanted or got == wanted:
        return ""
    if wanted == "number" and got == "integer":
        return ""
    return "" if wanted == "integer" and got == "number" and value == int(value) else got


def _string(value: str, schema: Schema, path: str) -> Iterator[Cause]:
    if len(value) < schema.get("minLength", 0):
        text = f"{path} in body should be at least {schema['minLength']} chars long"
        yield wrong(path, value, text)
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        text = f"Too long: may not be more than {schema['maxLength']} bytes"
        yield Cause(path, "FieldValueTooLong", text)
    if "pattern" in schema and not _pattern(schema["pattern"]).search(value):
        yield wrong(path, value, f"{path} in body should match '{schema['pattern']}'")
    form = schema.get("format")
    if form == "date-time" and not _is_time(value):
        text = f"{path} in body must be of type date-time: {shown(value)}"
        yield Cause(path, "FieldValueTypeInvalid", f"Invalid value: {shown(value)}: {text}")


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    for perl, python in ((r"\z", r"\Z"), (r"\pL", r"\w"), ("[[:alnum:]]", "[A-Za-z0-9]"), ("[[:alpha:]]", "[A-Za-z]")):
        text = text.replace(perl, python)
    # `$` is the very end in the server's dialect, not the place before a last newline.
    return re.compile(text[:-1] + r"\Z" if text.endswith("$") and not text.endswith(r"\$") else text)


def _is_time(text: str) -> bool:
    try:
        parse_stamp(text)
    except ValueError:
        return False
    return "T" in text or "t" in text


def _number(value: float, schema: Schema, path: str) -> Iterator[Cause]:
    if "minimum" in schema:
        low, strict = schema["minimum"], schema.get("exclusiveMinimum")
        if value < low or (strict and value == low):
            word = "greater than" if strict else "greater than or equal to"
            yield wrong(path, value, f"{path} in body should be {word} {low}")
    if "maximum" in schema:
        high, strict = schema["maximum"], schema.get("exclusiveMaximum")
        if value > high or (strict and value == high):
            word = "less than" if strict else "less than or equal to"
            yield wrong(path, value, f"{path} in body should be {word} {high}")
    if "multipleOf" in schema and value % schema["multipleOf"]:
        yield wrong(path, value, f"{path} in body should be a multiple of {schema['multipleOf']}")


def _array(value: list[Any], schema: Schema, path: str) -> Iterator[Cause]:
    if len(value) < schema.get("minItems", 0):
        yield wrong(path, len(value), f"{path} in body should have at least {schema['minItems']} items")
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        text = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
        yield Cause(path, "FieldValueTooMany", text)
    yield from _duplicates(value, schema, path)
    for index, item in enumerate(value):
        yield from _validate(item, schema.get("items", {}), f"{path}[{index}]")


def _duplicates(value: list[Any], schema: Schema, path: str) -> Iterator[Cause]:
    listed = schema.get("x-kubernetes-list-type")
    if listed not in ("set", "map"):
        return
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: list[Any] = []
    for index, item in enumerate(value):
        found = {k: item.get(k) for k in keys} if listed == "map" and isinstance(item, dict) else item
        if found in seen:
            text = f"Duplicate value: {shown(found)}"
            yield Cause(f"{path}[{index}]", "FieldValueDuplicate", text)
        seen.append(found)


def _object(value: dict[str, Any], schema: Schema, path: str) -> Iterator[Cause]:
    for key in schema.get("required", ()):
        if key not in value:
            yield required(f"{path}.{key}" if path else key)
    if len(value) < schema.get("minProperties", 0):
        text = f"{path} in body should have at least {schema['minProperties']} properties"
        yield wrong(path, len(value), text)
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        text = f"Too many: {len(value)}: must have at most {schema['maxProperties']} items"
        yield Cause(path, "FieldValueTooMany", text)
    properties, more = schema.get("properties", {}), schema.get("additionalProperties")
    for key, item in value.items():
        if key in properties:
            yield from _validate(item, properties[key], f"{path}.{key}" if path else key)
        elif isinstance(more, dict):
            yield from _validate(item, more, f"{path}.{key}" if path else key)


def _combined(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    for part in schema.get("allOf", ()):
        yield from _validate(value, part, path)
    if schema.get("anyOf") and not schema.get(_INT_OR_STRING):
        tried = [validate(value, part, path) for part in schema["anyOf"]]
        if all(tried):
            yield wrong(path, shown(value), f"{path} in body must validate at least one schema (anyOf)")
            yield from tried[0]
    if "oneOf" in schema:
        tried = [validate(value, part, path) for part in schema["oneOf"]]
        good = sum(not causes for causes in tried)
        if good != 1:
            words = f"Found {good} valid alternatives" if good else "Found none valid"
            yield wrong(path, shown(value), f"{path} in body must validate one and only one schema (oneOf). {words}")
            if not good:
                yield from tried[0]
    if "not" in schema and not validate(value, schema["not"], path):
        yield wrong(path, shown(value), f"{path} in body must not validate the schema (not)")
