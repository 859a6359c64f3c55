"""What the server says about itself: versions, groups and resources, also all at once."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Object
from labkit.twin.kube.registry import Registry
from labkit.twin.kube.resources import Resource

_READ_WRITE = ("get", "patch", "update")
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
Sub = tuple[str, str, str, tuple[str, ...]]


def version_info(version: str) -> Object:
    """Return what /version says; `version` is for example `v1.36.2+k3s1`."""
    major, minor = version.lstrip("v").split(".")[:2]
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": version,
        "gitCommit": "0" * 40,
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "go1.26.3",
        "compiler": "gc",
        "platform": "linux/amd64",
    }


def core_versions(address: str) -> Object:
    """Return what /api says."""
    clients = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": clients}


def group_list(registry: Registry) -> Object:
    """Return what /apis says."""
    groups = [_group(name, list(versions)) for name, versions in registry.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> Object | None:
    """Return what /apis/NAME says, None when there is no such group."""
    versions = registry.groups().get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, list(versions))} if versions else None


def _group(name: str, versions: list[str]) -> Object:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resource_list(registry: Registry, group_name: str, version: str) -> Object | None:
    """Return what /apis/GROUP/VERSION says, None when that is not served."""
    found = registry.groups().get(group_name, {}).get(version)
    if not found:
        return None
    entries = [entry for resource in sorted(found, key=lambda r: r.plural) for entry in _entries(resource)]
    group_version = f"{group_name}/{version}" if group_name else version
    kind = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if group_name else {})
    return {**kind, "groupVersion": group_version, "resources": entries}


def _entries(resource: Resource) -> list[Object]:
    entry: Object = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return [entry, *(_sub_entry(resource, sub) for sub in subresources(resource))]


def subresources(resource: Resource) -> list[Sub]:
    """Return the subresources: name, kind, group/version when it is another one, verbs."""
    found: list[Sub] = list(resource.subresources)
    if resource.scale is not None:
        found.append(("scale", "Scale", "autoscaling/v1", _READ_WRITE))
    if resource.status:
        found.append(("status", resource.kind, "", _READ_WRITE))
    return sorted(found)


def _sub_entry(resource: Resource, sub: Sub) -> Object:
    name, kind, group_version, verbs = sub
    entry: Object = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": kind,
        "verbs": list(verbs),
    }
    if group_version:
        entry["group"], _, entry["version"] = group_version.rpartition("/")
    return entry


def aggregated(registry: Registry, version: str, *, core: bool) -> Object:
    """Return the discovery of all groups at once, of the core group for /api or of the others for /apis."""
    items = [
        {"metadata": {"name": name, "creationTimestamp": None}, "versions": _versions(versions)}
        for name, versions in registry.groups().items()
        if bool(name) != core
    ]
    kind = {"kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{version}"}
    return {**kind, "metadata": {}, "items": items}


def _versions(versions: dict[str, list[Resource]]) -> list[Object]:
    return [
        {
            "version": version,
            "resources": [_discovered(resource) for resource in sorted(found, key=lambda r: r.plural)],
            "freshness": "Current",
        }
        for version, found in versions.items()
    ]


def _discovered(resource: Resource) -> Object:
    entry: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": _kind(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    subs = [_discovered_sub(resource, sub) for sub in subresources(resource)]
    return {**entry, "subresources": subs} if subs else entry


def _discovered_sub(resource: Resource, sub: Sub) -> Object:
    name, kind, group_version, verbs = sub
    group_name, _, version = group_version.rpartition("/") if group_version else (resource.group, "", resource.version)
    return {"subresource": name, "responseKind": _kind(group_name, version, kind), "verbs": list(verbs)}


def _kind(group_name: str, version: str, kind: str) -> Object:
    return {"group": group_name, "version": version, "kind": kind}
