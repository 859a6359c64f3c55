"""Flux's chain and the routes of apps as tables. Pure."""

from __future__ import annotations

import pandas as pd

from labkit.facts.apps import RouteFacts
from labkit.facts.causes import show_condition
from labkit.facts.flux import FluxFacts
from labkit.facts.git import GitFacts


def chain_table(facts: FluxFacts) -> pd.DataFrame:
    """Return one row per source, Kustomization and HelmRelease: how it stands, and at which revision."""
    kinds = ("GitRepository", "HelmRepository", "Kustomization", "HelmRelease")
    shown = sorted((one for one in facts.objects if one.kind in kinds), key=lambda one: (kinds.index(one.kind), one.id))
    rows: list[dict[str, object]] = [
        {"object": f"{one.kind} {one.namespace}/{one.name}", "state": show_condition(one),
         "revision": short_revision(one.applied or one.artifact)}
        for one in shown
    ]  # fmt: skip
    return _table(rows, "object", ("object", "state", "revision"))


def repository_table(git: GitFacts) -> pd.DataFrame:
    """Return one row per Kustomization of the repository: its folder, and how many objects it makes."""
    rows: list[dict[str, object]] = [
        {"Kustomization": one.name, "folder": one.path, "objects": len(one.resources),
         "encrypted": sum(resource.is_encrypted for resource in one.resources),
         "problems": len(one.problems)}
        for one in git.builds
    ]  # fmt: skip
    return _table(rows, "Kustomization", ("Kustomization", "folder", "objects", "encrypted", "problems"))


def route_table(facts: RouteFacts) -> pd.DataFrame:
    """Return one row per host: how it answers to a stranger."""
    rows: list[dict[str, object]] = [
        {"host": one.host, "certificate": "valid" if one.verified else one.problem or "not seen",
         "status": one.status or "", "sends to": one.location}
        for one in facts.routes
    ]  # fmt: skip
    return _table(rows, "host", ("host", "certificate", "status", "sends to"))


def short_revision(revision: str) -> str:
    """Shorten the digest in a revision: `master@sha1:0123456`."""
    head, colon, digest = revision.partition(":")
    return f"{head}{colon}{digest[:7]}" if colon else revision


def _table(rows: list[dict[str, object]], name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).set_index(name).rename_axis(None)
