"""HTTP answers of the API: JSON bytes, compressed when that is asked for and worth it."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Mapping

from aiohttp import web

from labkit.twin.kube.door import ApiError, Object
from labkit.twin.kube.store import dump

JSON = "application/json"
WORTH = 128 * 1024  # bytes, as the real server has it


def answer(
    body: bytes,
    code: int = 200,
    *,
    media: str = JSON,
    warnings: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return an answer with a body."""
    response = web.Response(body=body, status=code, headers=headers)
    response.headers["Content-Type"] = media
    response.headers["Cache-Control"] = "no-cache, private"
    for text in warnings:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


async def large(request: web.BaseRequest, body: bytes) -> web.Response:
    """Return a list, compressed when the client takes gzip and it is large; other requests go on meanwhile."""
    response = answer(body)
    if len(body) >= WORTH and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.body = await asyncio.to_thread(_gzip, body)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
    return response


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def answer_status(status: Object, code: int = 0) -> web.Response:
    """Return a Status."""
    return answer(dump(status), code or int(status.get("code", 200)))


def answer_error(error: ApiError) -> web.Response:
    """Return the Status of an error."""
    headers = {"Retry-After": "1"} if error.code == 429 and "causes" not in error.status.get("details", {}) else {}
    return answer(dump(error.status), error.code, headers=headers)


def page_not_found() -> web.Response:
    """Return the plain text that an unknown path gets."""
    return answer(b"404 page not found\n", 404, media="text/plain; charset=utf-8")


def text(body: str, code: int = 200) -> web.Response:
    """Return plain text."""
    return answer(body.encode(), code, media="text/plain; charset=utf-8")
