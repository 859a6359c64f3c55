"""Health checks of what ends or gets old: certificates of k3s, the kubeconfig, snapshots of etcd. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice, pairwise

from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.kubernetes import READS, host_of, seen
from labkit.checks.health.words import ago, count, listed, span, until
from labkit.cron import CronError, parse_cron
from labkit.facts.guesthealth import GuestHealthFacts
from labkit.facts.kubehealth import KubeHealth, SnapshotRow
from labkit.plan import Severity

_URGENT = timedelta(days=7)
_WINDOW = timedelta(days=70)
_ENOUGH = 200
"""So many times of a schedule show its longest pause."""
_SERVED = "serving-kube-apiserver.crt"


def _is_used(facts: KubeHealth) -> bool:
    """Whether the cluster keeps its data in etcd, and says what snapshots there are."""
    return facts.snapshots is not None and any(node.voter is not None for node in facts.nodes)


@health("kubernetes.certificate", Area.KUBERNETES, "the certificates of k3s last on every node", Severity.WARNING,
        reads=READS)  # fmt: skip
def certificate(scene: Scene) -> Iterator[Found]:
    """Find nodes whose certificates end soon: k3s renews them at a restart only."""
    guests, soon = scene.facts.get("guest-health"), timedelta(days=scene.lab.health.limits.kubernetes.certificate_days)
    shown = {one.server: one.expires for one in seen(scene).serving}
    for machine in scene.lab.machines:
        ends: dict[str, datetime] = {}
        if isinstance(guests, GuestHealthFacts):
            ends = {one.file.rpartition("/")[2]: one.expires for one in guests.guest(machine.name).certificates}
        if machine.name in shown:
            ends[_SERVED] = shown[machine.name]
        short = sorted((end, name) for name, end in ends.items() if end - scene.now < soon)
        if not short:
            continue
        end, name = short[0]
        what = name if len(short) == 1 else f"{name} and {count(len(short) - 1, 'other')}"
        unit = "k3s" if machine.role == "server" else "k3s-agent"
        yield Found(f"node {machine.name}", f"certificates of k3s for {soon.days} days or more",
                    f"{what} {until(end, scene.now)}",
                    f"`sudo systemctl restart {unit}` on {machine.name}, one node after the other: it renews them",
                    Severity.ERROR if end - scene.now < _URGENT else None)  # fmt: skip


@health("kubernetes.kubeconfig", Area.KUBERNETES, "the kubeconfig's certificate lasts", Severity.WARNING, reads=READS)
def kubeconfig(scene: Scene) -> Iterator[Found]:
    """Find a copy of the administrator's certificate that ends soon: nothing renews a copy."""
    end, soon = seen(scene).kubeconfig_expires, timedelta(days=scene.lab.health.limits.kubernetes.certificate_days)
    if end is not None and end - scene.now < soon:
        yield Found(f"kubeconfig {scene.lab.k3s.kubeconfig}", f"a client certificate for {soon.days} days or more",
                    until(end, scene.now), "run bootstrap-k3s: it fetches a new one",
                    Severity.ERROR if end - scene.now < _URGENT else None)  # fmt: skip


@health("kubernetes.snapshot-age", Area.KUBERNETES, "etcd has its last scheduled snapshot", Severity.ERROR, reads=READS)
def snapshot_age(scene: Scene) -> Iterator[Found]:
    """Find an etcd, or a server of it, without the snapshot that was due last."""
    facts, longest = seen(scene), _longest(scene)
    young = facts.created is not None and longest is not None and scene.now - facts.created < longest
    if not _is_used(facts) or longest is None or young:
        return
    good = [one for one in facts.snapshots or () if one.good]
    expected = f"a snapshot of the last {span(longest)} ({scene.lab.k3s.snapshot_schedule})"
    newest = _newest(good)
    if newest is None or scene.now - newest > longest:
        yield Found(
            "etcd",
            expected,
            f"the last {ago(newest, scene.now)}" if newest else "none at all",
            "`sudo k3s etcd-snapshot save` on a server; `journalctl -u k3s | grep snapshot` says why",
        )
        return
    failed = {node for node, one in _newest_by_node(facts).items() if not one.good}  # told on its own
    for node in facts.voters:
        mine = _newest([one for one in good if one.node == node.name or one.elsewhere])
        if node.ready and node.name not in failed and (mine is None or scene.now - mine > longest):
            got = f"its last {ago(mine, scene.now)}" if mine else "none of its own"
            yield Found(f"node {node.name}", expected, got, f"`sudo k3s etcd-snapshot save` on {node.name}",
                        Severity.WARNING)  # fmt: skip


def _newest(snapshots: Iterable[SnapshotRow]) -> datetime | None:
    return max((one.created for one in snapshots if one.created is not None), default=None)


def _newest_by_node(facts: KubeHealth) -> dict[str, SnapshotRow]:
    newest: dict[str, SnapshotRow] = {}
    for one in facts.snapshots or ():  # the newest first
        newest.setdefault(one.node, one)
    return newest


def _longest(scene: Scene) -> timedelta | None:
    """Return how old the newest snapshot may be: the longest pause of its schedule (in any time zone) and grace."""
    grace = timedelta(hours=scene.lab.health.limits.kubernetes.snapshot_hours)
    try:
        fires = parse_cron(scene.lab.k3s.snapshot_schedule).fires(scene.now - _WINDOW, scene.now)
    except CronError:
        return None
    times = list(islice(fires, _ENOUGH))
    pauses = [later - earlier for earlier, later in pairwise(times)]
    return max(pauses) + grace if pauses else None


@health("kubernetes.snapshot-failed", Area.KUBERNETES, "the last snapshot of every server went well", Severity.WARNING,
        reads=READS)  # fmt: skip
def snapshot_failed(scene: Scene) -> Iterator[Found]:
    """Find servers whose newest snapshot failed."""
    for node, one in _newest_by_node(seen(scene)).items():
        if not one.good:
            when = f" ({ago(one.created, scene.now)})" if one.created else ""
            yield Found(f"node {node}", "a last snapshot that went well", f"{one.error or 'one that failed'}{when}",
                        f"is there room on {node}, and is S3 reachable where it is used? then `sudo k3s etcd-snapshot "
                        "save`")  # fmt: skip


@health("kubernetes.snapshot-copy", Area.KUBERNETES, "snapshots of etcd survive the loss of a host", Severity.WARNING,
        reads=READS)  # fmt: skip
def snapshot_copy(scene: Scene) -> Iterator[Found]:
    """Find snapshots that are all on one machine, or on machines of one host."""
    facts = seen(scene)
    good = [one for one in facts.snapshots or () if one.good]
    if not _is_used(facts) or not good or any(one.elsewhere for one in good):
        return
    nodes = sorted({one.node for one in good})
    hosts = {host_of(scene, node) for node in nodes}
    if len(hosts) == 1:
        yield Found("etcd", "a copy of its snapshots off that host", f"all of them on {hosts.pop()} ({listed(nodes)})",
                    "set etcd-s3 under k3s.config in the lab file and run bootstrap-k3s, or copy them to the NAS with "
                    "the token")  # fmt: skip


@health("kubernetes.snapshot-token", Area.KUBERNETES, "the lab's token opens the newest snapshot", Severity.ERROR,
        reads=READS)  # fmt: skip
def snapshot_token(scene: Scene) -> Iterator[Found]:
    """Find snapshots that were made with another token than the lab file leads to: they cannot be restored with it."""
    newest = next((one for one in seen(scene).snapshots or () if one.good), None)
    if newest is not None and newest.opens == "other":
        yield Found("etcd", "snapshots made with the token of k3s.token", f"{newest.name} was made with another",
                    "put the cluster's token there (/var/lib/rancher/k3s/server/token on a server): without it no "
                    "snapshot can be restored")  # fmt: skip
