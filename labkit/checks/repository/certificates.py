"""Which TLS secrets there are in a namespace: made by cert-manager, copied by reflector, or kept in Git. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from labkit.facts.manifests import texts
from labkit.facts.repository import Cluster, Resource

_REFLECTOR = "reflector.v1.k8s.emberstack.com/"
_MAKERS = {"ExternalSecret", "SealedSecret", "VaultStaticSecret", "OnePasswordItem", "InfisicalSecret"}
_COPIERS = {"ClusterPolicy", "ClusterExternalSecret", "ClusterPushSecret", "ClusterSecret"}


@dataclass(frozen=True)
class Kept:
    """A secret that exists; `names` are the hosts of its certificate, None when they are not known."""

    names: tuple[str, ...] | None


@lru_cache(maxsize=4096)
def secret_in(cluster: Cluster, namespace: str, name: str) -> Kept | None:
    """Return what is known of a TLS secret in a namespace, or None when nothing makes it there."""
    unknown = None
    for resource in _makers(cluster):
        if resource.kind == "Certificate" and resource.get("spec", "secretName") == name:
            annotations = resource.get("spec", "secretTemplate", "annotations")
            if resource.namespace == namespace or reflects(annotations, namespace):
                return Kept(_names(resource))
        elif resource.kind == "Secret" and resource.name == name:
            reference = resource.annotations.get(f"{_REFLECTOR}reflects", "").partition("/")
            if resource.namespace == namespace and reference[2]:
                unknown = secret_in(cluster, reference[0], reference[2]) if reference[0] != namespace else Kept(None)
                unknown = unknown or Kept(None)
            elif resource.namespace == namespace or reflects(resource.annotations, namespace):
                unknown = Kept(None)
        elif resource.kind in _COPIERS:
            unknown = unknown or Kept(None)
        elif resource.kind in _MAKERS and resource.namespace == namespace:
            target = resource.get("spec", "target", "name") or resource.get("spec", "destination", "name")
            if name in (target, resource.name):  # a target may be of any type
                unknown = Kept(None)
    return unknown


@lru_cache(maxsize=8)
def _makers(cluster: Cluster) -> tuple[Resource, ...]:
    kinds = {"Certificate", "Secret"} | _MAKERS | _COPIERS
    return tuple(resource for resource in cluster.resources if resource.kind in kinds)


def _names(certificate: Resource) -> tuple[str, ...] | None:
    common = certificate.get("spec", "commonName")
    names = tuple(dict.fromkeys([*texts(certificate.get("spec", "dnsNames")), *texts(common)]))
    return None if not names or any("$" in name for name in names) else names


def reflects(annotations: object, namespace: str) -> bool:
    """Tell whether annotations make reflector copy a secret into a namespace by itself."""
    if not isinstance(annotations, Mapping):
        return False
    allowed = _is_true(annotations, "reflection-allowed") and _is_true(annotations, "reflection-auto-enabled")
    if any(key.endswith("namespaces-selector") for key in annotations):
        return allowed
    return allowed and all(
        _listed(str(annotations.get(f"{_REFLECTOR}{key}") or ""), namespace)
        for key in ("reflection-allowed-namespaces", "reflection-auto-namespaces")
    )


def _is_true(annotations: Mapping[str, object], key: str) -> bool:
    return str(annotations.get(f"{_REFLECTOR}{key}")).lower() == "true"


def _listed(text: str, namespace: str) -> bool:
    """Match a list of names and expressions; an empty one means all."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return not parts or any("$" in part or _matches(part, namespace) for part in parts)


def _matches(pattern: str, namespace: str) -> bool:
    try:
        return re.fullmatch(pattern, namespace) is not None
    except re.error:
        return pattern == namespace


def covers(names: tuple[str, ...], host: str) -> bool:
    """Tell whether a certificate for names is valid for a host."""
    wild = "*." + host.partition(".")[2]
    return host in {name.lower() for name in names} or wild in {name.lower() for name in names}
