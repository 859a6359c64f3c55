"""What a request's path and headers ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Form = Literal["object", "Table", "PartialObjectMetadata"]


@dataclass
class Place:
    """A path below /api or /apis, taken apart; empty parts are not there.

    `rest` is what follows the subresource, for proxies; `core` marks paths below /api.
    """

    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    watch: bool = False
    core: bool = False


def read_path(path: str) -> Place:
    """Take a path apart, such as `/apis/apps/v1/namespaces/demo/deployments/web/scale`."""
    parts = [part for part in path.split("/") if part]
    place = Place()
    if parts[0] == "api":
        place.core = True
        place.version, parts = (parts[1] if len(parts) > 1 else ""), parts[2:]
    else:
        place.group, place.version, parts = [*parts[1:], "", ""][0], [*parts[1:], "", ""][1], parts[3:]
    if parts and parts[0] == "watch":
        place.watch, parts = True, parts[1:]
    if len(parts) > 2 and parts[0] == "namespaces" and parts[2] not in ("status", "finalize"):
        place.namespace, parts = parts[1], parts[2:]
    for index, part in enumerate(parts[:3]):
        setattr(place, ("plural", "name", "subresource")[index], part)
    place.rest = "/".join(parts[3:])
    return place


@dataclass(frozen=True)
class Wanted:
    """The form in which a client wants an answer; `aggregated` is the discovery of all groups at once."""

    form: Form = "object"
    aggregated: str = ""
    acceptable: bool = True


@dataclass
class _Range:
    media: str
    options: dict[str, str] = field(default_factory=dict)


def read_accept(header: str) -> Wanted:
    """Choose the first media type of an Accept header that the server can produce."""
    for text in (header or "*/*").split(","):
        media, *options = [part.strip() for part in text.split(";")]
        found = _Range(media, dict(option.split("=", 1) for option in options if "=" in option))
        wanted = _offer(found)
        if wanted is not None:
            return wanted
    return Wanted(acceptable=False)


def _offer(found: _Range) -> Wanted | None:
    if found.media not in ("application/json", "*/*", "application/*", "text/plain", "text/*"):
        return None
    shape = found.options.get("as", "")
    group = found.options.get("g", "")
    if shape == "APIGroupDiscoveryList":
        version = found.options.get("v", "")
        return Wanted(aggregated=version) if version in ("v2", "v2beta1") else None
    if shape == "Table" and group == "meta.k8s.io":
        return Wanted("Table")
    if shape in ("PartialObjectMetadata", "PartialObjectMetadataList") and group == "meta.k8s.io":
        return Wanted("PartialObjectMetadata")
    return None if shape else Wanted()
