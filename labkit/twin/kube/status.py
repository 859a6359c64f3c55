"""Build the Status objects that stand for an answer other than an object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labkit.twin.kube.door import ApiError, Object


@dataclass(frozen=True)
class Cause:
    """One reason why an object is refused: its field, the machine-readable reason and the text."""

    field: str
    reason: str
    message: str


def status(code: int, reason: str, message: str, details: Object | None = None) -> Object:
    """Build a Status of kind Failure."""
    body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    body["message"] = message
    if reason:
        body["reason"] = reason
    if details is not None:
        body["details"] = details
    body["code"] = code
    return body


def success(details: Object | None = None, code: int = 0) -> Object:
    """Build a Status of kind Success, as a finished delete or eviction gets."""
    body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details is not None:
        body["details"] = details
    if code:
        body["code"] = code
    return body


def failure(code: int, reason: str, message: str, details: Object | None = None) -> ApiError:
    """Build the error that carries a Status."""
    return ApiError(status(code, reason, message, details))


def details_of(kind: str, name: str = "", group: str = "", **more: Any) -> Object:
    """Build the details of a Status; empty parts are left out."""
    parts = {"name": name, "group": group, "kind": kind, **more}
    return {key: value for key, value in parts.items() if value}


def qualified(name: str, group: str) -> str:
    """Join a plural or kind with its group: `deployments.apps`, but `pods`."""
    return f"{name}.{group}" if group else name


def not_found(plural: str, group: str, name: str) -> ApiError:
    """Say that an object is not there (404)."""
    text = f'{qualified(plural, group)} "{name}" not found'
    return failure(404, "NotFound", text, details_of(plural, name, group))


def no_such_resource() -> ApiError:
    """Say that a known group has no such resource (404)."""
    return failure(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """Say that the name is taken (409)."""
    text = f'{qualified(plural, group)} "{name}" already exists'
    return failure(409, "AlreadyExists", text, details_of(plural, name, group))


def conflict(plural: str, group: str, name: str, why: str) -> ApiError:
    """Say that the object is not in the state that the writer assumed (409)."""
    text = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return failure(409, "Conflict", text, details_of(plural, name, group))


STALE = "the object has been modified; please apply your changes to the latest version and try again"


def bad_request(message: str) -> ApiError:
    """Say that a request cannot be understood (400)."""
    return failure(400, "BadRequest", message)


def forbidden(plural: str, group: str, name: str, why: str, causes: Sequence[Object] = ()) -> ApiError:
    """Say that admission refuses the object (403)."""
    subject = f'{qualified(plural, group)} "{name}"'
    details = details_of(plural, name, group, causes=list(causes))
    return failure(403, "Forbidden", f"{subject} is forbidden: {why}", details)


def method_not_allowed() -> ApiError:
    """Say that the path does not take the method (405)."""
    return failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def unsupported_media(accepted: str) -> ApiError:
    """Say that the body's media type is unknown (415)."""
    text = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    return failure(415, "UnsupportedMediaType", text)


def expired(message: str) -> ApiError:
    """Say that a resource version or continue token is too old (410)."""
    return failure(410, "Expired", message)


def unauthorized() -> ApiError:
    """Say that the request carries no credentials that count (401)."""
    return failure(401, "Unauthorized", "Unauthorized")


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """Say what is wrong with an object (422); every cause is listed."""
    lines = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in causes))
    said = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    listed = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
    text = f'{qualified(kind, group)} "{name}" is invalid: {said}'
    return failure(422, "Invalid", text, details_of(kind, name, group, causes=listed))


def required(field: str, text: str = "") -> Cause:
    """Name a field that is missing."""
    return Cause(field, "FieldValueRequired", f"Required value: {text}" if text else "Required value")


def wrong(field: str, value: Any, text: str) -> Cause:
    """Name a field with a value that cannot be."""
    return Cause(field, "FieldValueInvalid", f"Invalid value: {shown(value)}: {text}")


def denied(field: str, text: str) -> Cause:
    """Name a field that may not be set or changed so."""
    return Cause(field, "FieldValueForbidden", f"Forbidden: {text}")


def unsupported(field: str, value: Any, allowed: Sequence[str]) -> Cause:
    """Name a field whose value is none of the allowed ones."""
    words = ", ".join(json.dumps(word) for word in allowed)
    text = f"Unsupported value: {shown(value)}: supported values: {words}"
    return Cause(field, "FieldValueNotSupported", text)


def shown(value: Any) -> str:
    """Write a value as the server's messages quote it: compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
