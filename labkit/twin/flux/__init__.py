"""Flux in the twin: the source, kustomize, helm and notification controllers over the real git, kubectl and sops."""

from __future__ import annotations

import asyncio

from labkit.twin.controllers import Controller, launch
from labkit.twin.flux.gitrepository import GitRepositories
from labkit.twin.flux.helmrelease import HelmReleases
from labkit.twin.flux.helmsources import HelmCharts, HelmRepositories, OciRepositories
from labkit.twin.flux.kustomization import Kustomizations
from labkit.twin.flux.notification import Receivers
from labkit.twin.flux.surroundings import Surroundings
from labkit.twin.kube.door import Clock
from labkit.twin.kube.local import LocalApi

__all__ = ["Surroundings", "controllers", "start"]

_ALL = (GitRepositories, HelmRepositories, OciRepositories, HelmCharts, Kustomizations, HelmReleases, Receivers)


def controllers(api: LocalApi, clock: Clock, around: Surroundings) -> list[Controller]:
    """Return the controllers of Flux; each sleeps until its Deployment in flux-system runs, and while it does not."""
    return [kind(api, clock, around) for kind in _ALL]


def start(api: LocalApi, clock: Clock, around: Surroundings) -> list[asyncio.Task[None]]:
    """Start the controllers of Flux as tasks of their own on the running loop; cancel the tasks to end them."""
    return launch(api, controllers(api, clock, around))
