"""Rules on Flux's own graph: dependencies, sources, decryption, timeouts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from labkit.checks.repository.finding import Hit, Question, at, rule
from labkit.facts.manifests import dig, maps
from labkit.facts.repository import FLUX_GROUP, Cluster, Resource
from labkit.plan import Severity

_HELM = "helm.toolkit.fluxcd.io"
Key = tuple[str, str]


def _key(resource: Resource) -> Key:
    return resource.namespace, resource.name


def _group(cluster: Cluster, group: str) -> dict[Key, Resource]:
    """Return the Kustomizations or HelmReleases that Flux would apply, and those that it begins with."""
    kind = "Kustomization" if group == FLUX_GROUP else "HelmRelease"
    found = {_key(r): r for r in cluster.resources if r.kind == kind and r.group == group}
    for build in cluster.builds if group == FLUX_GROUP else ():
        found.setdefault(_key(build.source), build.source)
    return found


def _needs(resource: Resource) -> Iterator[tuple[int, Key]]:
    for index, need in enumerate(maps(resource.get("spec", "dependsOn"))):
        yield index, (str(need.get("namespace") or resource.namespace), str(need.get("name")))


@rule("flux-dependency-missing", Severity.ERROR, "every dependsOn names an object that exists").clusters
def find_missing_dependencies(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield dependencies on nothing: the object waits for ever."""
    for group in (FLUX_GROUP, _HELM) if cluster.is_complete else ():
        known = _group(cluster, group)
        for resource in known.values():
            for index, (namespace, name) in _needs(resource):
                if (namespace, name) not in known and "$" not in name:
                    why = f"{resource.label} depends on {resource.kind} {namespace}/{name}, which does not exist"
                    remedy = "correct the name or namespace; dependsOn cannot cross kinds"
                    yield *at(resource, "spec", "dependsOn", index), why, remedy


@rule("flux-dependency-circle", Severity.ERROR, "no dependsOn leads back to its own object").clusters
def find_circles(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield circles of dependencies, each once, at the object whose name comes first."""
    for group in (FLUX_GROUP, _HELM):
        known = _group(cluster, group)
        graph = {key: [need for _, need in _needs(resource) if need in known] for key, resource in known.items()}
        for circle in _circles(graph):
            first = known[circle[0]]
            names = " -> ".join(f"{namespace}/{name}" for namespace, name in (*circle, circle[0]))
            why = f"{first.label} waits for itself: {names}"
            yield *at(first, "spec", "dependsOn"), why, "take one dependency of the circle out"


def _circles(graph: Mapping[Key, Iterable[Key]]) -> Iterator[tuple[Key, ...]]:
    """Yield each strongly connected group that is a circle, as one path through it."""
    told: set[Key] = set()
    for start in sorted(graph):
        if start not in told and (path := _way_back(graph, start)):
            told |= set(path)
            yield path


def _way_back(graph: Mapping[Key, Iterable[Key]], start: Key) -> tuple[Key, ...]:
    """Return the shortest way from a key back to itself, without the repeated end; empty when there is none."""
    before: dict[Key, Key] = {}
    waiting = [start]
    while waiting:
        current = waiting.pop(0)
        for need in graph[current]:
            if need == start:
                path = [current]
                while path[-1] != start:
                    path.append(before[path[-1]])
                return tuple(reversed(path))
            if need not in before:
                before[need] = current
                waiting.append(need)
    return ()


@rule("flux-source-missing", Severity.ERROR, "every sourceRef and chartRef names a source that exists").clusters
def find_missing_sources(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield references to sources that nothing in the repository defines."""
    if not cluster.is_complete:
        return
    sources = {(r.kind, r.namespace, r.name) for r in cluster.resources} | cluster.implied_sources
    checked = [*_group(cluster, FLUX_GROUP).values(), *_group(cluster, _HELM).values()]
    charts = [r for r in cluster.resources if r.kind == "HelmChart" and r.group == "source.toolkit.fluxcd.io"]
    for resource in (*checked, *charts):
        for steps in (("spec", "sourceRef"), ("spec", "chart", "spec", "sourceRef"), ("spec", "chartRef")):
            ref = resource.get(*steps)
            if not isinstance(ref, dict) or "$" in str(ref.get("name")):
                continue
            namespace = str(ref.get("namespace") or resource.namespace)
            wanted = (str(ref.get("kind")), namespace, str(ref.get("name")))
            if wanted not in sources:
                why = f"{resource.label} refers to {wanted[0]} {namespace}/{wanted[2]}, which does not exist"
                yield *at(resource, *steps, "name"), why, "correct kind, name or namespace, or add the source"


@rule("sops-no-decryption", Severity.ERROR, "a Kustomization with encrypted objects decrypts them").clusters
def find_missing_decryption(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield Kustomizations that would apply encrypted objects as they are."""
    for build in cluster.builds:
        if dig(build.source.tree, "spec", "decryption", "provider") == "sops":
            continue
        sealed = next((r for r in build.resources if r.is_encrypted), None)
        if sealed is not None:
            why = f"Kustomization {build.name} has no decryption, but {sealed.file} is encrypted"
            remedy = "add spec.decryption: provider sops, secretRef with the age key"
            yield *at(build.source, "spec"), why, remedy


@rule("flux-no-timeout", Severity.INFO, "every Kustomization has a timeout").clusters
def find_no_timeout(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield Kustomizations without a timeout, save what bootstrap writes itself."""
    for resource in _group(cluster, FLUX_GROUP).values():
        if not resource.get("spec", "timeout") and not resource.file.endswith(("gotk-sync.yaml", "gotk-sync.yml")):
            why = f"{resource.label} has no timeout: it waits as long as its interval before it says that it failed"
            yield *at(resource, "spec"), why, "add spec.timeout, for example 5m0s"
