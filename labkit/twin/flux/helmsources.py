"""HelmRepository, OCIRepository and HelmChart: where charts come from, and which version of one."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import Any

from labkit.twin.charts.catalogue import ChartMissing
from labkit.twin.controllers.framework import Result
from labkit.twin.controllers.objects import is_true, meta, name_of, namespace_of, spec_of, status_of
from labkit.twin.flux.base import CHARTS, GITS, OCIS, REPOSITORIES, FluxController, Marks
from labkit.twin.flux.gate import DEPLOYMENTS
from labkit.twin.kube.door import Event, Object

_HOST = "http://source-controller.flux-system.svc.cluster.local./"
_RETRY = 30.0


class HelmRepositories(FluxController):
    """The part of the source controller that reads the index of a chart repository."""

    name = "source-controller-helmrepository"
    program = "source-controller"
    resource = REPOSITORIES
    watches = (REPOSITORIES, DEPLOYMENTS)

    async def work(self, obj: Object) -> Result:
        """Store the index; a repository of type oci has none, and no status."""
        if spec_of(obj).get("type") == "oci":
            return None
        await self.clock.sleep(1.0)
        digest = "sha256:" + hashlib.sha256(str(spec_of(obj).get("url")).encode()).hexdigest()
        text = f"stored artifact: revision '{digest}'"
        marks = Marks().true("Ready", "Succeeded", text).true("ArtifactInStorage", "Succeeded", text)
        self.mark(obj, marks.drop("Reconciling", "Stalled", "FetchFailed"), **_stored(self, obj, digest, digest,
                  f"helmrepository/{namespace_of(obj)}/{name_of(obj)}/index-{digest[7:]}.yaml"))  # fmt: skip
        return self.interval(obj)


class OciRepositories(FluxController):
    """The part of the source controller that pulls artifacts out of registries: charts, in the twin."""

    name = "source-controller-ocirepository"
    program = "source-controller"
    resource = OCIS
    watches = (OCIS, DEPLOYMENTS)

    async def work(self, obj: Object) -> Result:
        """Find the tag and store its digest."""
        await self.clock.sleep(1.0)
        ref, url = spec_of(obj).get("ref") or {}, str(spec_of(obj)["url"])
        chart = url.rstrip("/").rpartition("/")[2]
        wanted = ref.get("tag") or ref.get("semver") or ("" if ref.get("digest") else "*")
        try:
            tag = ref["tag"] if ref.get("tag") == "latest" else self.around.catalogue.find(chart, wanted).version
        except ChartMissing:
            asked = f"GET {url.replace('oci://', 'https://', 1)}/manifests/{wanted}"
            text = f"failed to determine artifact digest: {asked}: MANIFEST_UNKNOWN: manifest unknown"
            reason = "OCIArtifactPullFailed"
            marks = Marks().false("Ready", reason, text).true("FetchFailed", reason, text)
            self.mark(obj, marks.true("Reconciling", "ProgressingWithRetry", text), **self.handled(obj))
            return _RETRY
        digest = ref.get("digest") or "sha256:" + hashlib.sha256(f"{url}:{tag}".encode()).hexdigest()
        revision = f"{tag}@{digest}"
        text = f"stored artifact for digest '{revision}'"
        marks = Marks().true("Ready", "Succeeded", text).true("ArtifactInStorage", "Succeeded", text)
        path = f"ocirepository/{namespace_of(obj)}/{name_of(obj)}/{digest[7:]}.tar.gz"
        self.mark(
            obj, marks.drop("Reconciling", "Stalled", "FetchFailed"), **_stored(self, obj, revision, digest, path)
        )
        return self.interval(obj)


class HelmCharts(FluxController):
    """The part of the source controller that pulls a chart in the version that a range leads to."""

    name = "source-controller-helmchart"
    program = "source-controller"
    resource = CHARTS
    watches = (CHARTS, REPOSITORIES, GITS, DEPLOYMENTS)

    def others(self, event: Event) -> list[tuple[str, str]]:
        """Return the charts of a repository."""
        source = (event.object["kind"], name_of(event.object))
        charts = self.api.list(CHARTS, namespace_of(event.object))
        return [(namespace_of(one), name_of(one)) for one in charts if _source(one) == source]

    def stamp(self, obj: Object) -> Hashable:
        """A repository that has become ready makes its charts due."""
        source = self._find(obj)
        return super().stamp(obj), source is not None and _is_ready(source)

    def _find(self, obj: Object) -> Object | None:
        kind, name = _source(obj)
        return self.api.get({"HelmRepository": REPOSITORIES, "GitRepository": GITS}.get(kind, ""), name,
                            namespace_of(obj))  # fmt: skip

    async def work(self, obj: Object) -> Result:
        """Find the version and store the chart."""
        spec, source = spec_of(obj), self._find(obj)
        kind, name = _source(obj)
        if source is None:
            text = f'failed to get source: {kind.lower()}s.source.toolkit.fluxcd.io "{name}" not found'
            return self._wait(obj, "SourceUnavailable", text)
        if not _is_ready(source):
            return self._wait(obj, "NoSourceArtifact", f"no artifact available for {kind} source '{name}'")
        try:
            found = self.around.catalogue.find(str(spec["chart"]).rpartition("/")[2], str(spec.get("version") or "*"))
        except ChartMissing as exc:
            text = f"invalid chart reference: failed to get chart version for remote reference: {exc}"
            marks = Marks().false("Ready", "InvalidChartReference", text).drop("Reconciling")
            marks.true("Stalled", "InvalidChartReference", text).true("FetchFailed", "InvalidChartReference", text)
            generation = meta(obj).get("generation", 1)
            self.mark(obj, marks, observedGeneration=generation, **self.handled(obj))
            return self.interval(obj)
        text = f"pulled '{found.chart.name}' chart with version '{found.version}'"
        marks = Marks().true("Ready", "ChartPullSucceeded", text).true("ArtifactInStorage", "ChartPullSucceeded", text)
        digest = "sha256:" + hashlib.sha256(f"{found.chart.name}:{found.version}".encode()).hexdigest()
        path = f"helmchart/{namespace_of(obj)}/{name_of(obj)}/{found.chart.name}-{found.version}.tgz"
        self.mark(obj, marks.drop("Reconciling", "Stalled", "FetchFailed"),
                  **_stored(self, obj, found.version, digest, path), observedChartName=found.chart.name,
                  observedSourceArtifactRevision=(status_of(source).get("artifact") or {}).get("revision"))  # fmt: skip
        return self.interval(obj)

    def _wait(self, obj: Object, reason: str, text: str) -> float:
        marks = Marks().false("Ready", reason, text).true("Reconciling", "ProgressingWithRetry", text)
        self.mark(obj, marks, **self.handled(obj))
        return _RETRY


def _source(obj: Object) -> tuple[str, str]:
    ref = spec_of(obj).get("sourceRef") or {}
    return ref.get("kind", ""), ref.get("name", "")


def _is_ready(source: Object) -> bool:
    static = source["kind"] == "HelmRepository" and spec_of(source).get("type") == "oci"
    return static or is_true(source, "Ready")


def _stored(controller: FluxController, obj: Object, revision: str, digest: str, path: str) -> dict[str, Any]:
    """Return the status fields of a source that has its artifact."""
    artifact = {"digest": digest, "lastUpdateTime": controller.now(), "path": path, "revision": revision, "size": 4096,
                "url": _HOST + path}  # fmt: skip
    old = status_of(obj).get("artifact") or {}
    if old.get("revision") == revision:
        artifact = old
    generation = meta(obj).get("generation", 1)
    return {"artifact": artifact, "url": artifact["url"], "observedGeneration": generation,
            **controller.handled(obj)}  # fmt: skip
