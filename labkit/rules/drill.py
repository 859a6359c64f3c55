"""Plan a drill: which volumes are backed up, brought back beside the live ones, looked at, and removed again. Pure.

Nothing live is touched, so every change is safe. The changes name claims, not volumes or backups: those have made-up
names that differ from cluster to cluster, and are looked up when the change is carried out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypedDict

from pydantic import JsonValue

from labkit.checks.base import error, warning
from labkit.facts.backups import StoreFacts
from labkit.facts.coverage import Coverage
from labkit.facts.evidence import label_value, scratch_name
from labkit.facts.longhorn import LonghornDisk, LonghornFacts, Volume
from labkit.lab import Lab
from labkit.plan import Action, Change, Finding, Plan
from labkit.rules.coverage import complete_backups, coverage

RUNBOOK = "backup-drill"
_LIMIT = "concurrent-volume-backup-restore-per-node-limit"
_OVER = "storage-over-provisioning-percentage"


class Facts(TypedDict):
    """What this plan looks at."""

    longhorn: LonghornFacts
    store: StoreFacts


def plan_drill(
    lab: Lab,
    facts: Facts,
    *,
    volumes: tuple[str, ...] = (),
    proven_within: float = 7.0,
    fresh: bool = True,
    full: bool = False,
    probes: Mapping[str, Any] | None = None,
    side_by_side: int = 2,
) -> Plan:
    """Plan to prove that backups can be restored.

    Args:
        lab: what is wanted.
        facts: Longhorn and the backup store, as they were seen just now.
        volumes: claims, `namespace/name` or a name that only one has; all on Longhorn when empty.
        proven_within: days; a claim that was proven more recently is left out.
        fresh: take a backup first; else the newest one is looked at.
        full: have the fresh backup write every block again, which mends damaged ones in the store.
        probes: by `namespace/name`, a command for the restored files: a text, or `image` and `command`.
        side_by_side: how many volumes at a time.
    """
    longhorn = facts["longhorn"]
    rows = [row for row in coverage(longhorn, facts["store"]) if row.volume]
    chosen, findings = _choose(rows, volumes)
    findings += [*_cannot_start(longhorn, facts["store"]), *_bad_probes(probes or {}, rows)]
    findings += _bad_numbers(proven_within, side_by_side)
    changes: list[Change] = []
    for row in chosen:
        if is_proven(row, longhorn, timedelta(days=proven_within)):
            continue
        if (why := unfit(longhorn, row, fresh=fresh)) is not None:
            findings.append(why)
            continue
        probe = (probes or {}).get(row.id)
        changes += _drill(row, fresh=fresh, full=full, probe=probe, width=max(1, side_by_side))
    due = {change.target for change in changes if change.kind == "drill"}
    changes += _tidy(longhorn, rows, due, fresh=fresh)
    return Plan(runbook=RUNBOOK, lab=lab.name, changes=tuple(changes), findings=tuple(findings))


def is_proven(row: Coverage, longhorn: LonghornFacts, within: timedelta) -> bool:
    """Whether the latest drill of a claim has proven its backup, and is no older than that."""
    proof = row.proof
    return proof is not None and proof.proven and longhorn.read_at - proof.at <= within


def choose(rows: Iterable[Coverage], wanted: tuple[str, ...]) -> tuple[list[Coverage], list[str]]:
    """Return the claims that some names stand for, and the names that stand for none or for several."""
    everything = list(rows)
    if not wanted:
        return everything, []
    found: dict[str, Coverage] = {}
    bad: list[str] = []
    for name in wanted:
        fits = [row for row in everything if name in (row.id, row.claim, row.volume)]
        if len(fits) == 1:
            found[fits[0].id] = fits[0]
        else:
            bad.append(name)
    return [row for row in everything if row.id in found], bad


def _choose(rows: list[Coverage], wanted: tuple[str, ...]) -> tuple[list[Coverage], list[Finding]]:
    chosen, bad = choose(rows, wanted)
    known = [row.id for row in rows]
    return chosen, [
        error("drill.volume", name, "a claim on Longhorn, namespace/name", "none, or more than one",
              f"did you mean {near[0]}?" if (near := difflib.get_close_matches(name, known, n=1)) else
              f"there are {', '.join(known) or 'none'}")
        for name in bad
    ]  # fmt: skip


def _cannot_start(longhorn: LonghornFacts, store: StoreFacts) -> Iterator[Finding]:
    if store.problem and not store.empty:
        yield error("drill.store", "backup store", "to be read from here", store.problem)
    if longhorn.settings.get(_LIMIT) == "0":
        yield error("drill.limit", f"setting {_LIMIT}", "at least 1", "0: no restore runs at all",
                    "set it to 5 in Longhorn's settings")  # fmt: skip


def _bad_numbers(proven_within: float, side_by_side: int) -> Iterator[Finding]:
    if proven_within <= 0:
        yield error("drill.within", "proven_within", "more than 0 days", f"{proven_within:g}",
                    "0.01, a quarter of an hour, proves again what was proven yesterday")  # fmt: skip
    if side_by_side < 1:
        yield error("drill.width", "side_by_side", "at least 1", str(side_by_side))


def _bad_probes(probes: Mapping[str, Any], rows: list[Coverage]) -> Iterator[Finding]:
    known = [row.id for row in rows]
    for name, probe in probes.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            yield error("drill.probe", f"probe {name}", "a claim on Longhorn, namespace/name", "none",
                        f"did you mean {near[0]}?" if near else "")  # fmt: skip
        elif not _is_probe(probe):
            yield error("drill.probe", f"probe {name}", "a command, or image and command", repr(probe))


def _is_probe(probe: Any) -> bool:
    if isinstance(probe, str):
        return bool(probe.strip())
    words = probe if isinstance(probe, Mapping) else {}
    return {"command"} <= set(words) <= {"command", "image"} and all(isinstance(one, str) for one in words.values())


def unfit(longhorn: LonghornFacts, row: Coverage, *, fresh: bool) -> Finding | None:
    """Return why a claim cannot be drilled now, None when it can; a warning leaves it out, an error stops all."""
    volume = longhorn.volume(row.volume)
    return None if volume is None else next(_misfits(longhorn, row, volume, fresh=fresh), None)


def _misfits(longhorn: LonghornFacts, row: Coverage, volume: Volume, *, fresh: bool) -> Iterator[Finding]:
    target = longhorn.target(volume.backup_target)
    if target is None or not target.available:
        got = "no such target" if target is None else target.problem or "away"
        yield error("drill.target", row.id, f"backup target {volume.backup_target} available", got,
                    "look at the NAS and its NFS service; Longhorn looks again at its poll interval")  # fmt: skip
    if fresh and volume.robustness == "faulted":
        yield warning("drill.faulted", row.id, "a volume with a good replica", "one that is faulted: left out",
                      "restore it: run disaster-recovery")  # fmt: skip
    if volume.encrypted:
        yield warning("drill.encrypted", row.id, "a volume that can be read", "an encrypted one: left out",
                      "bring it back by hand once, with its passphrase")  # fmt: skip
    if volume.is_restoring:
        yield warning("drill.restoring", row.id, "a volume in use", "one that is being restored: left out",
                      "run backup-drill again when that has ended")  # fmt: skip
    if not fresh and not complete_backups(longhorn, row.volume):
        yield warning("drill.none", row.id, "a complete backup", "none: left out", "run it with fresh")
    if not has_room(longhorn, volume):
        yield warning("drill.room", row.id, f"room for a scratch volume of {_gib(volume.size)}", "none: left out",
                      "free a disk, or let Longhorn over-provision more")  # fmt: skip


def has_room(longhorn: LonghornFacts, volume: Volume) -> bool:
    """Whether some disk takes one more replica of a volume; without knowledge of disks, it is believed."""
    share = int(longhorn.settings.get(_OVER) or 100) / 100
    disks = [disk for node in longhorn.nodes if node.ready and node.schedulable for disk in node.disks]
    return not longhorn.nodes or any(_takes(disk, volume, share) for disk in disks)


def _takes(disk: LonghornDisk, volume: Volume, share: float) -> bool:
    room = (disk.maximum - disk.reserved) * share - disk.scheduled
    return disk.schedulable and volume.size <= room and volume.actual_size <= disk.available


def _drill(row: Coverage, *, fresh: bool, full: bool, probe: Any, width: int) -> Iterator[Change]:
    backup = Change(
        system="longhorn", kind="backup", target=row.id, action=Action.CREATE,
        after={"mode": "full" if full else "incremental", "drill": label_value(row.namespace, row.claim)},
        lane="backup", width=width, apart=True,
    )  # fmt: skip
    after: dict[str, JsonValue] = {
        "backup": "the fresh one" if fresh else "the newest", "scratch": scratch_name(row.namespace, row.claim),
        **({"probe": dict(probe) if isinstance(probe, Mapping) else {"command": probe}} if probe else {}),
    }  # fmt: skip
    if fresh:
        yield backup
    yield Change(
        system="longhorn", kind="drill", target=row.id, action=Action.ACT, after=after,
        needs=(backup.id,) if fresh else (), lane="drill", width=width, apart=True,
        note="every block verified, restored beside the live volume, compared, removed",
    )  # fmt: skip


def _tidy(longhorn: LonghornFacts, rows: list[Coverage], due: set[str], *, fresh: bool) -> Iterator[Change]:
    """Yield the removal of what interrupted drills left, and of drills' backups that a newer one replaces."""
    clears = {label_value(row.namespace, row.claim) for row in rows if row.id in due}
    for one in longhorn.leftovers:
        # A drill begins by removing the scratch things of an earlier one of the same claim.
        if one.kind in ("Backup", "Snapshot") or one.of not in clears:
            yield Change(system="longhorn", kind="drill-leftover", target=f"{one.kind}/{one.name}",
                         action=Action.DELETE, before={"of": one.of or one.volume}, apart=True)  # fmt: skip
    for row in rows:
        made = [one for one in complete_backups(longhorn, row.volume) if one.drill]
        replaced = row.id in due and fresh
        proven = row.proof is not None and row.proof.proven and bool(made) and row.proof.backup == made[-1].name
        count = len(made) if replaced else len(made) - 1 if proven else 0
        if count > 0:
            needs = (f"drill/{row.id}/act",) if replaced else ()
            yield Change(system="longhorn", kind="drill-backups", target=row.id, action=Action.DELETE,
                         before={"replaced": count}, needs=needs, apart=True,
                         note="made by earlier drills; the newest stays")  # fmt: skip


def _gib(size: int) -> str:
    return f"{size / 1024**3:g} GiB"
