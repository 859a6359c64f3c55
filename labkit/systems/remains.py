"""What is left of a lab whose cluster may be gone: readers that say so instead of failing.

Whether a cluster is gone or only silent is not said here: rules see that by the machines (`labkit.rules.loss`).
"""

from __future__ import annotations

from datetime import UTC, datetime

from labkit.errors import SystemDown
from labkit.facts.flux import FluxFacts
from labkit.facts.longhorn import LonghornFacts
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.flux.read import read_flux
from labkit.systems.flux.secrets import wanted_seen, wanted_values
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.longhorn import read_longhorn


def has_cluster(lab: Lab, access: Access) -> bool:
    """Tell whether any server's API answers and knows us."""
    try:
        open_cluster(lab, access)
    except SystemDown:
        return False
    return True


def read_flux_if_any(lab: Lab, access: Access) -> FluxFacts:
    """Return what is there of Flux; with `up` False, and the secrets that it will need, where no cluster answers.

    Raises:
        InputError: the deploy key or the age key cannot be used.
        SystemDown: the Git server's host key is not known.
    """
    wanted = wanted_values(lab, access)
    if has_cluster(lab, access):
        return read_flux(lab, access)
    return FluxFacts(up=False, wanted_secrets=wanted_seen(wanted), read_at=datetime.now(UTC))


def read_longhorn_if_any(lab: Lab, access: Access) -> LonghornFacts:
    """Return what is there of Longhorn, claims and PersistentVolumes; nothing where no cluster answers."""
    if has_cluster(lab, access):
        return read_longhorn(lab, access)
    return LonghornFacts(read_at=datetime.now(UTC))
