"""Rules on API versions: what a Flux version serves no more or not yet, and groups that Traefik gave up. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from labkit.checks.repository.finding import Hit, Question, at, rule
from labkit.facts.repository import Resource
from labkit.plan import Severity

Minor = tuple[int, int]
_LAST = (2, 7), (2, 8)  # v1beta1 kinds went in 2.7, v1beta2 kinds in 2.8
_TRAEFIK_3_CHART = 28


@dataclass(frozen=True)
class Served:
    """One version of a kind: since which Flux it is served, since which it is gone, and what stands in its place."""

    since: Minor = (2, 0)
    gone: Minor | None = None
    better: str = ""
    better_since: Minor = (2, 0)


def _stages(stable: str, stable_since: Minor, *betas: str) -> dict[str, Served]:
    """Describe a kind: its stable version, and betas that went with 2.7 and 2.8 in their order."""
    table = {stable: Served(stable_since)}
    for beta, gone in zip(betas, _LAST, strict=False):
        table[beta] = Served(gone=gone, better=stable, better_since=stable_since)
    return table


_SOURCE, _NOTIFY, _IMAGE = "source.toolkit.fluxcd.io", "notification.toolkit.fluxcd.io", "image.toolkit.fluxcd.io"
_ALERT = {
    "v1beta3": Served((2, 1)),
    "v1beta1": Served(better="v1beta3", better_since=(2, 1)),
    "v1beta2": Served(better="v1beta3", better_since=(2, 1)),
}
_IMAGES = {
    "v1": Served((2, 7)),
    "v1beta1": Served(better="v1", better_since=(2, 7)),
    "v1beta2": Served(better="v1", better_since=(2, 7)),
}
TABLE: dict[tuple[str, str], dict[str, Served]] = {
    ("kustomize.toolkit.fluxcd.io", "Kustomization"): _stages("v1", (2, 0), "v1beta1", "v1beta2"),
    ("helm.toolkit.fluxcd.io", "HelmRelease"): _stages("v2", (2, 3), "v2beta1", "v2beta2"),
    (_SOURCE, "GitRepository"): _stages("v1", (2, 0), "v1beta1", "v1beta2"),
    (_SOURCE, "HelmRepository"): _stages("v1", (2, 3), "v1beta1", "v1beta2"),
    (_SOURCE, "HelmChart"): _stages("v1", (2, 3), "v1beta1", "v1beta2"),
    (_SOURCE, "Bucket"): _stages("v1", (2, 4), "v1beta1", "v1beta2"),
    (_SOURCE, "OCIRepository"): _stages("v1", (2, 6), "v1beta1", "v1beta2"),
    (_SOURCE, "ExternalArtifact"): {"v1": Served((2, 7))},
    (_NOTIFY, "Receiver"): {
        "v1": Served(), "v1beta1": Served(better="v1"), "v1beta2": Served(better="v1"),
    },
    (_NOTIFY, "Alert"): _ALERT,
    (_NOTIFY, "Provider"): _ALERT,
    (_IMAGE, "ImageRepository"): _IMAGES,
    (_IMAGE, "ImagePolicy"): _IMAGES,
    (_IMAGE, "ImageUpdateAutomation"): _IMAGES,
}  # fmt: skip
"""What each Flux serves, from the CRDs of its releases."""


def parse_flux(text: str) -> Minor | None:
    """Read `2.9`, `v2.9` or `2.9.4`."""
    found = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+.*)?", text.strip())
    return (int(found[1]), int(found[2])) if found else None


def _objects(question: Question) -> Iterator[Resource]:
    facts = question.facts
    for file in facts.files:
        unseen = file.is_template or file.path in facts.ignored
        if not unseen and (not file.is_sample or file.path in facts.applied_files):
            yield from file.resources()


def _dot(minor: Minor) -> str:
    return f"{minor[0]}.{minor[1]}"


@rule("flux-api-removed", Severity.ERROR, "the Flux version serves every API version that is used").repository
def find_removed(question: Question) -> Iterator[Hit]:
    """Yield objects of versions that the Flux version does not serve: it refuses the whole Kustomization."""
    for resource in _objects(question):
        versions = TABLE.get((resource.group, resource.kind), {})
        served = versions.get(resource.api_version.rpartition("/")[2])
        if served is None:
            continue
        if served.gone and question.flux >= served.gone:
            why = f"{resource.label} is {resource.api_version}, which Flux {_dot(served.gone)} removed"
            yield (
                *at(resource, "apiVersion"),
                why,
                f"write apiVersion: {resource.group}/{served.better}; flux migrate -f . does",
            )
        elif question.flux < served.since:
            why = f"{resource.label} is {resource.api_version}, which Flux serves since {_dot(served.since)} only"
            yield *at(resource, "apiVersion"), why, "use an older API version, or a newer Flux"


@rule("flux-api-deprecated", Severity.WARNING, "no deprecated API version of Flux is used").repository
def find_deprecated(question: Question) -> Iterator[Hit]:
    """Yield objects of versions that work still, with a better one at hand."""
    for resource in _objects(question):
        served = TABLE.get((resource.group, resource.kind), {}).get(resource.api_version.rpartition("/")[2])
        if served is None or not served.better or question.flux < served.better_since:
            continue
        if served.gone is None or question.flux < served.gone:
            when = f", and Flux {_dot(served.gone)} removes it" if served.gone else ""
            why = f"{resource.label} is {resource.api_version}, which is deprecated{when}"
            yield *at(resource, "apiVersion"), why, f"write apiVersion: {resource.group}/{served.better}"


@rule("traefik-old-group", Severity.ERROR, "Traefik's objects are of the group traefik.io").repository
def find_old_traefik(question: Question) -> Iterator[Hit]:
    """Yield objects of the group that Traefik 3 does not read."""
    old = _runs_traefik_2(question)
    for resource in _objects(question):
        if resource.group == "traefik.containo.us":
            why = f"{resource.label} is of group traefik.containo.us, which Traefik 3 does not read"
            severity = Severity.WARNING if old else Severity.ERROR
            yield *at(resource, "apiVersion"), why, "write apiVersion: traefik.io/v1alpha1", severity


def _runs_traefik_2(question: Question) -> bool:
    """Tell whether the repository pins a chart of Traefik 2."""
    for cluster in question.facts.clusters:
        for resource in cluster.resources:
            if resource.kind == "HelmRelease" and resource.get("spec", "chart", "spec", "chart") == "traefik":
                major = re.match(r"v?(\d+)\.", str(resource.get("spec", "chart", "spec", "version")))
                return major is not None and int(major[1]) < _TRAEFIK_3_CHART
    return False
