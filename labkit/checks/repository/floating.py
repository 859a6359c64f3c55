"""Rules on versions that move by themselves: image tags and chart ranges. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labkit.checks.repository.charts import releases
from labkit.checks.repository.finding import Hit, Question, at, rule
from labkit.facts.manifests import dig, maps, walk_leaves
from labkit.facts.repository import Cluster, Resource
from labkit.plan import Severity

_WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", "ReplicaSet"}
_PINNED = re.compile(r"v?\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")


def tag_of(image: str) -> str:
    """Return an image's tag, `latest` when it has neither tag nor digest, and an empty text for a digest."""
    if "@" in image:
        return ""
    name = image.rpartition("/")[2]
    return name.partition(":")[2] or "latest"


def _containers(resource: Resource) -> Iterator[tuple[tuple[str | int, ...], str]]:
    base: tuple[str, ...] = ("spec", "template", "spec")
    if resource.kind == "CronJob":
        base = ("spec", "jobTemplate", "spec", "template", "spec")
    if resource.kind == "Pod":
        base = ("spec",)
    for field in ("initContainers", "containers"):
        for index, container in enumerate(maps(resource.get(*base, field))):
            if isinstance(container.get("image"), str):
                yield (*base, field, index, "image"), container["image"]


@rule("image-floating", Severity.INFO, "no image is of tag latest").clusters
def find_latest(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield images that change without a commit."""
    for resource in cluster.resources:
        if resource.kind in _WORKLOADS:
            for steps, image in _containers(resource):
                if tag_of(image) == "latest" and "$" not in image:
                    why = f"{resource.label}: image {image} is whatever is newest when a pod starts"
                    yield *at(resource, *steps), why, "name a version, or a digest"
        elif resource.kind == "HelmRelease":
            for steps, value in walk_leaves(resource.get("spec", "values"), ("spec", "values")):
                if value == "latest" and steps[-1] == "tag":
                    yield (
                        *at(resource, *steps),
                        f"{resource.label}: an image of tag latest",
                        "name a version, or a digest",
                    )


@rule("chart-floating", Severity.INFO, "every chart is pinned to one version").clusters
def find_ranges(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield charts whose version is a range, or not given."""
    for release in releases(cluster):
        kind = str(release.resource.get("spec", "chart", "spec", "sourceRef", "kind"))
        if kind in {"GitRepository", "Bucket"} or not release.chart or _PINNED.fullmatch(release.version):
            continue
        if "$" in release.version or _by_digest(cluster, release.resource):
            continue
        said = f"version {release.version}" if release.version else "no version"
        why = f"{release.resource.label}: chart {release.chart} has {said}: it changes without a commit"
        yield *release.place, why, "name one version"


def _by_digest(cluster: Cluster, resource: Resource) -> bool:
    ref = resource.get("spec", "chartRef")
    for source in cluster.resources if ref else ():
        if source.kind == "OCIRepository" and source.name == dig(ref, "name"):
            return bool(source.get("spec", "ref", "digest"))
    return False
