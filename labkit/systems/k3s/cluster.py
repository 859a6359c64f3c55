"""The way to the lab's cluster: with the user's kubeconfig when it works, else through a server over SSH."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from labkit.errors import LabError, SystemDown
from labkit.lab import Lab, Machine
from labkit.systems import ssh
from labkit.systems.access import Access
from labkit.systems.k3s.kubeconfig import fetch_credentials, stored_credentials
from labkit.systems.kubernetes import Cluster, Credentials, KubeError

_known: dict[tuple[Path, str], Cluster] = {}
_opening: dict[tuple[Path, str], Future[Cluster]] = {}
_guard = threading.Lock()


def open_cluster(lab: Lab, access: Access) -> Cluster:
    """Return the lab's cluster, at whichever of its servers answers; one for the whole process.

    Those who ask while another is at it already get what comes of that.

    Raises:
        SystemDown: no server answers, or none accepts what we know.
    """
    place, mine = (access.state, lab.name), Future[Cluster]()
    with _guard:
        running = _opening.setdefault(place, mine)
    if running is not mine:
        return running.result()
    try:
        mine.set_result(_open(lab, access))
    except BaseException as exc:
        mine.set_exception(exc)
        raise
    finally:
        with _guard:
            del _opening[place]
    return mine.result()


def _open(lab: Lab, access: Access) -> Cluster:
    with _guard:
        known = _known.get((access.state, lab.name))
    if known is not None and is_answering(known):
        return known
    stored = stored_credentials(lab, access)
    if stored is not None and is_answering(cluster := note_credentials(lab, access, stored)):
        return cluster
    for _, credentials in ask_servers(lab, access):
        if is_answering(cluster := note_credentials(lab, access, credentials)):
            return cluster
    names = ", ".join(server.name for server in lab.servers)
    raise SystemDown(
        f"Kubernetes of lab {lab.name}: expected an answer of one of {names}, got none",
        next_step="run bootstrap-k3s: it says how the servers stand",
    )


def is_answering(cluster: Cluster) -> bool:
    """Whether the API answers and knows us."""
    try:
        cluster.get("/api/v1/namespaces/kube-system")
    except KubeError as exc:
        return exc.status == 404
    except SystemDown:
        return False
    return True


def ask_servers(lab: Lab, access: Access) -> Iterator[tuple[Machine, Credentials]]:
    """Yield the administrator's credentials as the servers hold them, in the order of the lab.

    The first server is asked alone, for it mostly answers; the others, side by side, only when that was not enough.
    """

    def ask(machine: Machine) -> Credentials | None:
        try:
            with ssh.connect(lab, access, machine) as shell:
                return fetch_credentials(shell)
        except LabError:
            return None

    first, *others = lab.servers
    if (credentials := ask(first)) is not None:
        yield first, credentials
    if others:
        with ThreadPoolExecutor(max_workers=len(others)) as pool:
            for machine, found in zip(others, pool.map(ask, others), strict=True):
                if found is not None:
                    yield machine, found


def note_credentials(lab: Lab, access: Access, credentials: Credentials) -> Cluster:
    """Use these credentials in this process from now on; return the cluster that they open."""
    place = (access.state, lab.name)
    with _guard:
        known = _known.get(place)
        if known is None or known.credentials != credentials:
            hosts = [str(server.address) for server in lab.servers]
            _known[place] = Cluster(access, hosts, credentials)
        return _known[place]
