"""The changes that bring volumes back from their backups, beside whatever is there: nothing is overwritten. Pure.

How a claim comes to another volume: a PersistentVolume's `volumeHandle` cannot be changed, nor a claim's `volumeName`,
and Git may pin that name. So the PersistentVolume **of the pinned name** is made anew with another handle: the old one
is set to Retain (its Longhorn volume stays, under its own name, labelled with the claim that it was kept for, and out
of every group of recurring jobs), the
claim goes, the object of the PersistentVolume goes, one of the same name is made for the restored volume and reserved
for the claim (claimRef without a uid), and the claim is made again as it was. Git sees the same names as before. A
claim that Git does not pin is bound to a PersistentVolume with the name of the restored volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from labkit.facts.longhorn import LonghornFacts
from labkit.facts.restore import HolderFacts, WantedVolume
from labkit.plan import Action, Change, Risk
from labkit.rules.restore_choice import parse_moment, wanted_volumes
from labkit.rules.restore_place import Place, find_places, pv_shape, volume_name, volume_shape

__all__ = ["fresh_backups", "last_of", "parse_moment", "restore_changes", "wanted_volumes"]

SYSTEM = "longhorn"
LANE = "restore"
LIMIT = "concurrent-volume-backup-restore-per-node-limit"
_USUAL_LIMIT = 5


def restore_changes(
    wanted: Sequence[WantedVolume],
    longhorn: LonghornFacts | None,
    holders: HolderFacts | None = None,
    *,
    replace: bool = False,
    needs: tuple[str, ...] = (),
    nodes: int = 0,
) -> tuple[Change, ...]:
    """Return the changes after which each claim is, or will be, bound to a volume with its backup's content.

    For a cluster that does not exist yet (`longhorn` None) and for volumes that are gone: a sync of the backup target,
    and for each volume its restore under the name that Git pins, the check of its content, and a PersistentVolume that
    is reserved for the claim, so that the claim binds to it whenever Flux makes it. For a claim that is there already
    and bound to something else: the restore under another name, the workloads scaled down, the claim switched (see the
    module), the workloads scaled up. What is right already, and a half-done restore, is found by its name and backup:
    nothing is restored twice. Wanted volumes with a `problem` are left out: checks stop a run that needs them, unless
    they `may_be_empty`: then one that Git pins begins as an empty volume, and the others are left to their class.

    Each volume stands apart: the failure of one stops only what needs it. The ids: `backup-target/default/act`,
    `restored-volume/<volume>/create`, `volume-content/<namespace>/<claim>/act`, `restored-pv/<pv>/create`,
    `workload-down/<Kind>/<namespace>/<name>/act`, `claim-volume/<namespace>/<claim>/update`,
    `workload-up/<Kind>/<namespace>/<name>/act`, `empty-volume/<volume>/create`. Whoever goes on afterwards needs
    `last_of` them.

    Args:
        wanted: from `wanted_volumes`.
        longhorn: the cluster as seen just now, or None while there is none.
        holders: who uses which claim; None while there is no cluster.
        replace: whether a claim whose volume is alive goes back to its backup nevertheless (scopes `apps` and
            `volume`). Without it only what is missing is restored, and an empty volume that won the race set aside.
        needs: changes that the first ones of these wait for.
        nodes: how many nodes will share the restores, where `longhorn` does not say.
    """
    usable = [one for one in wanted if one.backup is not None or one.use]
    places = find_places(usable, longhorn, holders, replace=replace)
    sync = tuple(_sync(places, longhorn, needs))
    first = tuple(change.id for change in sync) or needs
    width = _width(longhorn, nodes)
    made = [*sync]
    for place in places:
        made += _volume(place, first, width)
    made += _switches(places)
    made += _blanks(wanted, longhorn, needs)
    return tuple(made)


def last_of(changes: Iterable[Change]) -> tuple[str, ...]:
    """Return the ids of the changes that no other one of them waits for."""
    given = list(changes)
    waited = {name for change in given for name in (*change.needs, *change.follows)}
    return tuple(change.id for change in given if change.id not in waited)


def fresh_backups(
    wanted: Iterable[WantedVolume],
    longhorn: LonghornFacts | None,
    *,
    needs: tuple[str, ...] = (),
    replace: bool = False,
) -> tuple[Change, ...]:
    """Return a backup to be taken now for each claim whose restored volume has made none itself yet.

    Give it what has no `problem`; `needs` are the changes after which the apps run again.
    """
    places = find_places([one for one in wanted if one.backup is not None], longhorn, None, replace=replace)
    return tuple(
        Change(system=SYSTEM, kind="backup", target=place.id, action=Action.CREATE, after={"volume": place.volume},
               needs=needs, apart=True, note="the first of the restored volume; its schedule goes on from it")
        for place in places
        if place.restored and not place.has_own_backup
    )  # fmt: skip


def _width(longhorn: LonghornFacts | None, nodes: int) -> int:
    """How many restores Longhorn runs at once: its limit for each node, over the nodes that are ready."""
    text = longhorn.settings.get(LIMIT, "") if longhorn is not None else ""
    limit = int(text) if text.isdecimal() else _USUAL_LIMIT
    ready = sum(node.ready for node in longhorn.nodes) if longhorn is not None else 0
    return max(1, limit * max(1, ready or nodes))


def _sync(places: Sequence[Place], longhorn: LonghornFacts | None, needs: tuple[str, ...]) -> Iterator[Change]:
    """The cluster must know a backup before anything can be restored from it."""
    known = {one.name for one in longhorn.backups if one.state == "Completed"} if longhorn is not None else set()
    new = [place for place in places if place.to_restore and not place.started]
    missing = sorted({place.wanted.source for place in new if place.backup not in known})
    if missing:
        yield Change(
            system=SYSTEM, kind="backup-target", target="default", action=Action.ACT, after={"volumes": [*missing]},
            needs=needs, note="Longhorn lists the store; a volume can be made only from a backup that it knows",
        )  # fmt: skip


def _volume(place: Place, needs: tuple[str, ...], width: int) -> Iterator[Change]:
    """The restore of one volume, and a look at its content."""
    made: tuple[str, ...] = ()
    if place.to_restore:
        change = _restored(place, needs, width)
        made = (change.id,)
        yield change
    if place.to_check:
        yield Change(
            system=SYSTEM, kind="volume-content", target=place.id, action=Action.ACT,
            after={"volume": place.volume, "fs": place.fs_type}, needs=made, apart=True,
            note="its file system is checked and its files are read, before any app sees them",
        )  # fmt: skip
    if place.to_bind and not place.to_switch:
        yield _reserved(place)


def _restored(place: Place, needs: tuple[str, ...], width: int) -> Change:
    return Change(
        system=SYSTEM,
        kind="restored-volume",
        target=place.volume,
        action=Action.CREATE,
        before={"state": "begun"} if place.started else {},
        after=place.volume_spec(),
        needs=() if place.started else needs,
        lane=LANE,
        width=width,
        apart=True,
        note=place.restore_note(),
    )


def _reserved(place: Place) -> Change:
    return Change(
        system=SYSTEM,
        kind="restored-pv",
        target=place.pv,
        action=Action.CREATE,
        before={"state": "released"} if place.pv_is_stale else {},
        after=place.pv_spec(),
        needs=place.ready,
        apart=True,
        note=f"reserved for the claim {place.id}, which binds to it and to nothing else",
    )


def _switches(places: Sequence[Place]) -> Iterator[Change]:
    """Workloads down, claims to their new volumes, workloads up: each workload once, whatever it mounts."""
    downs: dict[str, str] = {}
    for holder in {h.id: h for place in places if place.to_switch for h in place.holders}.values():
        mine = [place for place in places if place.to_switch and holder in place.holders]
        # One that is held counts until its claims are switched: a plan must not change while its last pods end.
        if holder.replicas or holder.running or holder.held:
            change = Change(
                system=SYSTEM, kind="workload-down", target=holder.id, action=Action.ACT,
                before={"replicas": holder.replicas}, after={"replicas": 0}, risk=Risk.DISRUPTIVE,
                needs=tuple(name for place in mine for name in place.ready), apart=True,
                note="scaled down, and its pods gone; an annotation remembers how many it had",
            )  # fmt: skip
            downs[holder.id] = change.id
            yield change
    for place in places:
        if place.to_switch:
            yield _switch(place, tuple(downs[one.id] for one in place.holders if one.id in downs))
    yield from _ups(places, downs)


def _switch(place: Place, downs: tuple[str, ...]) -> Change:
    old = place.current
    return Change(
        system=SYSTEM,
        kind="claim-volume",
        target=place.id,
        action=Action.UPDATE,
        after=place.pv_spec() | {"pv": place.pv},
        risk=Risk.DISRUPTIVE,
        needs=(*place.ready, *downs),
        apart=True,
        note=f"{old.name} is kept" if old is not None else "the claim is made anew",
    )


def _blanks(wanted: Iterable[WantedVolume], longhorn: LonghornFacts | None, needs: tuple[str, ...]) -> Iterator[Change]:
    """An empty volume for a claim that Git pins and that has no backup: nothing else would ever make it."""
    for one in wanted:
        claim = one.claim
        name = volume_name(claim.handle or claim.pinned)
        if one.backup is not None or not one.may_be_empty or not name:
            continue
        there = longhorn.volume(name) if longhorn is not None else None
        made = Change(
            system=SYSTEM, kind="empty-volume", target=name, action=Action.CREATE, needs=needs, apart=True,
            after=volume_shape(claim) | {"size": claim.requested}, note=f"for {claim.id}, which has no backup",
        )  # fmt: skip
        if there is None:
            yield made
        if not claim.handle and (longhorn is None or longhorn.pv(claim.pinned) is None):
            yield Change(
                system=SYSTEM, kind="restored-pv", target=claim.pinned, action=Action.CREATE,
                after=pv_shape(claim, name, claim.requested), needs=(made.id,) if there is None else (), apart=True,
                note=f"reserved for the claim {claim.id}",
            )  # fmt: skip


def _ups(places: Sequence[Place], downs: dict[str, str]) -> Iterator[Change]:
    for holder in {h.id: h for place in places for h in place.holders if h.held or h.id in downs}.values():
        mine = [place for place in places if place.to_switch and holder in place.holders]
        wanted = holder.held or str(holder.replicas)
        yield Change(
            system=SYSTEM, kind="workload-up", target=holder.id, action=Action.ACT, before={"replicas": 0},
            after={"replicas": int(wanted) if wanted.isdecimal() else 1},
            needs=tuple(f"claim-volume/{place.id}/update" for place in mine), apart=True,
            note="scaled up again, and ready",
        )  # fmt: skip
