"""Which resources there are at the moment: the built-in ones and those of the CRDs."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.twin.kube.resources import Resource, builtin_resources


class Registry:
    """Find resources by group, version and plural, or by kind, or by key such as `deployments.apps`."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._by_kind: dict[tuple[str, str, str], Resource] = {}
        self._preferred: dict[str, Resource] = {}
        self.generation = 0
        for resource in builtin_resources():
            self._enter(resource)

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._by_path.values()))

    def at(self, group: str, version: str, plural: str) -> Resource | None:
        """Return the resource of a path."""
        return self._by_path.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource whose objects say this apiVersion and kind."""
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))

    def named(self, key: str) -> Resource | None:
        """Return a resource by its key, in the version that the store keeps."""
        return self._preferred.get(key)

    def has_version(self, group: str, version: str) -> bool:
        """Whether any resource is served under this group and version."""
        return any((r.group, r.version) == (group, version) for r in self._by_path.values())

    def replace(self, key: str, served: list[Resource], storage: Resource | None) -> None:
        """Put the served versions of one custom resource in the place of what was there; none removes it."""
        for path, resource in list(self._by_path.items()):
            if resource.key == key:
                del self._by_path[path]
                self._by_kind.pop((resource.group, resource.version, resource.kind), None)
        self._preferred.pop(key, None)
        for resource in served:
            self._enter(resource)
        if storage is not None:
            self._preferred[key] = storage
        self.generation += 1

    def groups(self) -> dict[str, dict[str, list[Resource]]]:
        """Return group -> version -> resources; the preferred version is first, versions of a group by age."""
        found: dict[str, dict[str, list[Resource]]] = {}
        for resource in self._by_path.values():
            found.setdefault(resource.group, {}).setdefault(resource.version, []).append(resource)
        return {
            group: dict(sorted(versions.items(), key=lambda item: version_rank(item[0]), reverse=True))
            for group, versions in found.items()
        }

    def _enter(self, resource: Resource) -> None:
        self._by_path[(resource.group, resource.version, resource.plural)] = resource
        self._by_kind.setdefault((resource.group, resource.version, resource.kind), resource)
        self._preferred.setdefault(resource.key, resource)


def version_rank(version: str) -> tuple[int, int, int]:
    """Rank API versions: v2 before v1 before v1beta2 before v1alpha1."""
    digits = version.lstrip("v")
    for stage, word in ((1, "beta"), (0, "alpha")):
        if word in digits:
            major, _, minor = digits.partition(word)
            return (stage, _number(major), _number(minor))
    return (2, _number(digits), 0)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
