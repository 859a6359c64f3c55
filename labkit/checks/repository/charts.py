"""HelmReleases as rules ask about them: which chart, which version, where it installs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from labkit.facts.manifests import dig
from labkit.facts.repository import Cluster, Resource

_EXACT = re.compile(r"v?(\d+)\.(\d+)(?:\.(?:\d+(?:[-+].*)?|x|X|\*))?")
_NEAR = re.compile(r"~\s*v?(\d+)\.(\d+)(?:\.\d+)?")
_FROM = re.compile(r"(?:>=|\^)\s*v?(\d+)\.(\d+)(?:\.\d+)?(?:\s*(?:,|\s)\s*<.*)?")
_BELOW = re.compile(r"<\s*v?(\d+)\.(\d+)(?:\.0(?:-0)?)?")


@dataclass(frozen=True)
class Release:
    """A HelmRelease with its chart's name, the version as written, and where that stands."""

    resource: Resource
    chart: str
    version: str
    place: tuple[str, int]


def releases(cluster: Cluster, chart: str = "") -> Iterator[Release]:
    """Yield the HelmReleases of a chart, or all; a chart by reference is looked up."""
    sources = {(r.kind, r.namespace, r.name): r for r in cluster.resources if r.group == "source.toolkit.fluxcd.io"}
    for resource in cluster.resources:
        if resource.kind == "HelmRelease" and resource.group == "helm.toolkit.fluxcd.io":
            release = _release(resource, sources)
            if not chart or release.chart == chart:
                yield release


def _release(resource: Resource, sources: dict[tuple[str, str, str], Resource]) -> Release:
    spec = resource.get("spec", "chart", "spec")
    if isinstance(spec, dict):
        place = resource.file, resource.line_at("spec", "chart", "spec", "version")
        return Release(resource, str(spec.get("chart") or "").rpartition("/")[2], str(spec.get("version") or ""), place)
    ref = resource.get("spec", "chartRef")
    named = (str(dig(ref, "kind")), str(dig(ref, "namespace") or resource.namespace), str(dig(ref, "name")))
    source = sources.get(named)
    if source is None:
        return Release(resource, "", "", (resource.file, resource.line_at("spec")))
    if source.kind == "HelmChart":
        place = source.file, source.line_at("spec", "version")
        return Release(resource, str(source.get("spec", "chart")), str(source.get("spec", "version") or ""), place)
    name = str(source.get("spec", "url")).rstrip("/").rpartition("/")[2]
    place = source.file, source.line_at("spec", "ref")
    tag = source.get("spec", "ref", "tag") or source.get("spec", "ref", "semver") or ""
    return Release(resource, name, str(tag), place)


def installed_namespaces(cluster: Cluster) -> frozenset[str]:
    """Return the namespaces into which charts install: what is in them is not all known."""
    found = (str(r.resource.get("spec", "targetNamespace") or r.resource.namespace) for r in releases(cluster))
    return frozenset(found)


def is_at_least(version: str, minor: tuple[int, int]) -> bool | None:
    """Tell whether every version that a range allows is at least a minor version, or none; None when it is open."""
    text = version.strip()
    for pattern in (_EXACT, _NEAR):
        if match := pattern.fullmatch(text):
            return (int(match[1]), int(match[2])) >= minor
    if match := _FROM.fullmatch(text):
        return True if (int(match[1]), int(match[2])) >= minor else None
    if match := _BELOW.fullmatch(text):
        return False if (int(match[1]), int(match[2])) <= minor else None
    return None
