"""POST, PUT, PATCH and DELETE of objects and collections."""

from __future__ import annotations

from aiohttp import web

from labkit.twin.kube import deletion, patching
from labkit.twin.kube.answers import answer, answer_status
from labkit.twin.kube.bodies import media_type, parse, read_object
from labkit.twin.kube.call import Call
from labkit.twin.kube.door import Object
from labkit.twin.kube.options import DeleteOptions
from labkit.twin.kube.reading import as_item, encode, selected
from labkit.twin.kube.status import details_of, failure, success, unsupported_media
from labkit.twin.kube.store import dump


async def create(call: Call) -> web.Response:
    """Create an object (201)."""
    body = await read_object(call.request, call.resource.kind)
    options = call.options()
    record = call.core.create(call.target, body, options)
    return answer(encode(call, record), 201, warnings=options.warnings)


async def update(call: Call) -> web.Response:
    """Replace an object, its status or its finalizers."""
    body = await read_object(call.request, call.resource.kind)
    options = call.options()
    record = call.core.update(call.target, body, options)
    return answer(encode(call, record), warnings=options.warnings)


async def patch(call: Call) -> web.Response:
    """Patch an object or its status."""
    media = media_type(call.request)
    body = parse(await call.request.read(), check_patch(call, media), call.resource.kind)
    options = call.options()
    code = 200
    if media == patching.APPLY:
        call.require_manager()
        record, new = patching.apply(call.core, call.target, body, options)
        code = 201 if new else 200
    else:
        record = patching.patch(call.core, call.target, body, media, options)
    return answer(encode(call, record), code, warnings=options.warnings)


def check_patch(call: Call, media: str) -> str:
    """Return the media type of a patch; raise ApiError (415) when the resource does not take it."""
    accepted = patching.accepted_types(call.resource)
    if media in accepted:
        return media
    if media in (patching.STRATEGIC, patching.APPLY_CBOR):
        raise unsupported_media(", ".join(accepted))
    raise failure(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})


async def delete(call: Call) -> web.Response:
    """Delete an object: a Status when it is gone, the object when something holds it."""
    options = await _options(call)
    record = call.core.get(call.resource, call.place.namespace, call.place.name)
    left, gone = deletion.delete(call.core, call.resource, record, options)
    if not gone or call.resource.returns_deleted:
        return answer(encode(call, left))
    resource = call.resource
    details = details_of(resource.plural, call.place.name, resource.group, uid=record.meta["uid"])
    return answer_status(success(details))


async def delete_collection(call: Call) -> web.Response:
    """Delete all objects that the selectors fit, and answer with them as a list."""
    options = await _options(call)
    records = selected(call)
    done = deletion.delete_collection(call.core, call.resource, records, options)
    resource = call.resource
    items = b",".join([as_item(resource, record) for record in done])
    head = f'{{"kind":"{resource.list_kind}","apiVersion":"{resource.group_version}","metadata":'.encode()
    meta = dump({"resourceVersion": str(call.core.store.revision)})
    return answer(b'%s%s,"items":[%s]}' % (head, meta, items))


async def _options(call: Call) -> DeleteOptions:
    text = await call.request.read()
    body: Object | None = None
    if text.strip():
        body = parse(text, media_type(call.request), "DeleteOptions")
    return DeleteOptions.read(body, call.query)
