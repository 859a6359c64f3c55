"""Find a chart in a version, as a chart repository is asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from labkit.twin.charts import cert_manager, longhorn, metallb, other, reflector, traefik
from labkit.twin.charts.release import Release
from labkit.twin.charts.semver import is_exact, newest, parse_version
from labkit.twin.kube.door import Object

Render = Callable[[Release], list[Object]]


class ChartMissing(Exception):
    """There is no such chart or version; the text is the source controller's."""


def _no_objects(_release: Release) -> list[Object]:
    return []


def _same(version: str) -> str:
    return version


@dataclass(frozen=True)
class Chart:
    """A chart: what it makes, and which versions there are.

    `minors` maps (major, minor) to the last patch; when empty, every version up to `majors` exists.
    """

    name: str
    render: Render
    crds: Render = _no_objects
    app_version: Callable[[str], str] = _same
    minors: Mapping[tuple[int, int], int] = field(default_factory=dict)
    majors: int = 10**6
    prefix: str = ""

    def has(self, text: str) -> bool:
        """Tell whether a version exists."""
        version = parse_version(text)
        if version is None or not version.final:
            return False
        if self.minors:
            return version.patch <= self.minors.get((version.major, version.minor), -1)
        return version.major <= self.majors

    def pick(self, wanted: str) -> str | None:
        """Return the newest version in a range, None when there is none."""
        if is_exact(wanted):
            text = wanted.lstrip("= ")
            return self.prefix + text.removeprefix("v") if self.has(text) else None
        known = [f"{self.prefix}{major}.{minor}.{patch}" for (major, minor), last in self.minors.items()
                 for patch in range(last + 1)]  # fmt: skip
        return newest(known or _likely(wanted, self.majors), wanted)


def _likely(wanted: str, majors: int) -> Iterable[str]:
    """Return versions of a chart of which nothing is known: around the numbers that a range names."""
    numbers = [part for part in "".join(c if c.isdigit() or c == "." else " " for c in wanted).split() if part != "."]
    yield "1.0.0"
    for text in numbers:
        version = parse_version(text.strip("."))
        if version is not None and version.major <= majors:
            yield f"{version.major}.{version.minor}.{version.patch}"
            yield f"{version.major}.{version.minor}.{version.patch + 1}"


@dataclass(frozen=True)
class Found:
    """A chart in one version."""

    chart: Chart
    version: str

    def release(self, name: str, namespace: str, values: Mapping[str, object]) -> Release:
        """Return a release of it."""
        app = self.chart.app_version(self.version)
        return Release(name, namespace, self.chart.name, self.version, app, values)


_KNOWN = (
    Chart("cert-manager", cert_manager.render, cert_manager.crds, minors=cert_manager.VERSIONS, prefix="v"),
    Chart("longhorn", longhorn.render, longhorn.crds, lambda version: f"v{version.removeprefix('v')}",
          longhorn.VERSIONS),
    Chart("metallb", metallb.render, metallb.crds, lambda version: f"v{version}", metallb.VERSIONS),
    Chart("reflector", reflector.render, majors=reflector.NEWEST_MAJOR),
    Chart("traefik", traefik.render, traefik.crds, traefik.app_version, majors=traefik.NEWEST_MAJOR),
)  # fmt: skip


class Catalogue:
    """All charts of the world: the known ones, and for any other name a Deployment."""

    def __init__(self, charts: Iterable[Chart] = _KNOWN) -> None:
        self.charts = {chart.name: chart for chart in charts}

    def find(self, name: str, wanted: str) -> Found:
        """Return the newest version of a chart in a range; raise ChartMissing."""
        chart = self.charts.get(name) or Chart(name, other.render)
        version = chart.pick(wanted or "*")
        if version is None:
            raise ChartMissing(f"no '{name}' chart with version matching '{wanted}' found")
        return Found(chart, version)
