"""Read the bodies of requests: JSON or YAML."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError

from labkit.twin.kube.protobuf import MEDIA, read_protobuf
from labkit.twin.kube.status import bad_request, unsupported_media

_JSON = ("", "application/json")
_YAML = ("application/yaml", "application/apply-patch+yaml")
_TAKEN = f"application/json, application/yaml, {MEDIA}"


class _PlainConstructor(SafeConstructor):
    """Times stay the text that they are: JSON has none."""


_PlainConstructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def read_yaml(text: bytes | str) -> Any:
    """Read one YAML document as JSON values; raise ApiError (400)."""
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _PlainConstructor
    try:
        return reader.load(text)
    except YAMLError as exc:
        raise bad_request(f"error converting YAML to JSON: {exc}") from exc


def media_type(request: web.BaseRequest) -> str:
    """Return the media type of a request's body without its parameters."""
    return request.headers.get("Content-Type", "").split(";")[0].strip().lower()


async def read_object(request: web.BaseRequest, kind: str) -> Any:
    """Read the object of a create or update.

    Raises:
        ApiError: the media type is unknown (415) or the body cannot be read (400).
    """
    media = media_type(request)
    if media not in (*_JSON, "application/yaml", MEDIA):
        raise unsupported_media(_TAKEN)
    return parse(await request.read(), media, kind)


def parse(body: bytes, media: str, kind: str) -> Any:
    """Read a body of a known media type."""
    if media == MEDIA:
        return read_protobuf(body)
    if media in _YAML and not body.lstrip().startswith((b"{", b"[")):
        return read_yaml(body)
    try:
        return json.loads(body)
    except ValueError as exc:
        start = body[:200].decode("utf-8", "replace")
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; "
            f"json parse error: {exc} ({start})"
        ) from exc
