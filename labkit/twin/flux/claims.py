"""What a repository declares, found as Flux builds it, and the claims on Longhorn's volumes in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from labkit.twin.controllers.objects import name_of, namespace_of, spec_of
from labkit.twin.flux.build import BuildFailed, Wish, build
from labkit.twin.kube.door import Object
from labkit.twin.longhorn.names import DRIVER

_log = logging.getLogger(__name__)


def longhorn_claims(tree: Path, entry: str) -> list[Object]:
    """Return the claims that a repository declares, each with its namespace; see `all_objects`."""
    return claims_among(list(all_objects(tree, entry)))


def claims_among(found: Sequence[Object]) -> list[Object]:
    """Return the claims among the objects of a repository, each with its namespace."""
    classes = {name_of(one) for one in found if one["kind"] == "StorageClass" and one.get("provisioner") == DRIVER}
    return [
        {**one, "metadata": {**one["metadata"], "namespace": namespace_of(one) or "default"}}
        for one in found
        if one["kind"] == "PersistentVolumeClaim"
        and spec_of(one).get("storageClassName") in {None, "longhorn", *classes}
    ]


def all_objects(tree: Path, entry: str) -> Iterator[Object]:
    """Yield what Flux applies, but for secrets in clear.

    Args:
        tree: the files of the repository.
        entry: the folder that Flux begins with, from the root.
    """
    waiting, seen = [{"path": entry}], set()
    while waiting:
        spec = waiting.pop()
        path = str(spec.get("path") or "").removeprefix("./").strip("/")
        if path in seen:
            continue
        seen.add(path)
        try:
            built = build(Wish(tree, spec))
        except BuildFailed as exc:
            _log.info("%s: %s", path, exc)
            continue
        yield from built
        waiting += [dict(spec_of(one)) for one in built
                    if one["kind"] == "Kustomization" and ".toolkit.fluxcd.io/" in one["apiVersion"]]  # fmt: skip
