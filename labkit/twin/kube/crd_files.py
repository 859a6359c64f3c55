"""The CRDs that come with the twin: Flux, Traefik, cert-manager, Longhorn and others."""

from __future__ import annotations

import gzip
import json
from importlib.resources import files
from typing import cast

from labkit.twin.kube.core import Core
from labkit.twin.kube.door import Object
from labkit.twin.kube.options import Target, WriteOptions

_SUFFIX = ".json.gz"


def bundles() -> list[str]:
    """Return the names of the bundles, such as `flux` and `longhorn-v1.12.1`."""
    folder = files("labkit.twin.kube").joinpath("crds")
    return sorted(entry.name.removesuffix(_SUFFIX) for entry in folder.iterdir() if entry.name.endswith(_SUFFIX))


def definitions(bundle: str) -> list[Object]:
    """Return the CRDs of one bundle; raise FileNotFoundError when there is none of that name."""
    packed = files("labkit.twin.kube").joinpath("crds", f"{bundle}{_SUFFIX}").read_bytes()
    return cast("list[Object]", json.loads(gzip.decompress(packed)))


def install(core: Core, *names: str, manager: str = "kubectl") -> None:
    """Create the CRDs of bundles; those that are there already stay as they are."""
    resource = core.resource("customresourcedefinitions.apiextensions.k8s.io")
    for name in names:
        for crd in definitions(name):
            if core.store.get(resource.key, "", crd["metadata"]["name"]) is None:
                core.create(Target(resource), crd, WriteOptions(manager=manager))
