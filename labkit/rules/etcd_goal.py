"""What a run of restore-etcd is to bring about: a snapshot, a reset, the end of an earlier one, or nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from labkit.checks.base import error, info, warning
from labkit.facts.etcd import LOCAL, NEW, NEWEST, EtcdFacts, Restore, Snapshot, candidates
from labkit.facts.guests import GuestFacts, TokenState
from labkit.facts.k3s import K3sFacts
from labkit.lab import Lab, Machine
from labkit.plan import Finding
from labkit.rules.etcd_asked import Asked
from labkit.rules.quorum import quorum
from labkit.rules.restore_choice import show_moment

JUST_NOW = timedelta(hours=1)
"""So long after a restore, `newest` and `new` mean that one: a run that is started twice restores once."""
_SHOWN = 6


@dataclass(frozen=True)
class Goal:
    """What is to come about.

    Attributes:
        kind: `restore` of a snapshot, `reset` to one member with its own data, `none`.
        site: the server that etcd begins anew on.
        snapshot: the one to restore; None for `reset`, and for one that is saved first.
        saved_first: restore the snapshot that this run saves.
        record: an earlier run that this one goes on with.
        findings: why it is so, and what blocks it.
    """

    kind: Literal["restore", "reset", "none"]
    site: Machine | None = None
    snapshot: Snapshot | None = None
    saved_first: bool = False
    record: Restore | None = None
    findings: tuple[Finding, ...] = field(default=())


def find_goal(lab: Lab, facts: Mapping[str, Any], asked: Asked) -> Goal:
    """Say what is to come about, from what was asked for and what was seen."""
    view = _View(lab, facts["guests"], facts["k3s"], facts["etcd"], asked)
    last = view.etcd.restore
    if last is not None and not last.finished:
        return view.go_on(last)
    if orphaned := view.orphaned():
        return orphaned
    if not asked.anything:
        return view.without_wish(last)
    if last is not None and view.is_done(last):
        return view.done(last)
    return view.save_first() if asked.snapshot == NEW else view.restore()


@dataclass(frozen=True)
class _View:
    lab: Lab
    guests: GuestFacts
    k3s: K3sFacts
    etcd: EtcdFacts
    asked: Asked

    @property
    def holders(self) -> list[Machine]:
        """The servers that have data of the cluster."""
        return [server for server in self.lab.servers if self.guests.guest(server.name).server_db]

    @property
    def away(self) -> list[str]:
        """The servers that do not answer."""
        return [server.name for server in self.lab.servers if not self.guests.guest(server.name).reachable]

    def orphaned(self) -> Goal | None:
        """A restore has stopped servers, and the one that has its record does not answer."""
        names = [server.name for server in self.lab.servers if self.guests.guest(server.name).restoring]
        if not names:
            return None
        away = ", ".join(self.away) or "a server that is no longer in the lab"
        return Goal("none", findings=(
            error("etcd.record", "etcd", f"the record of the restore that has stopped {', '.join(names)}",
                  f"none; it may lie on {away}",
                  "bring that server back; or give that restore up: remove /var/lib/labkit/etcd-restore.json on "
                  "those that it stopped"),
        ))  # fmt: skip

    def go_on(self, last: Restore) -> Goal:
        """An earlier run has not come to its end: this one goes on with it, whatever else there is."""
        findings = [
            info("etcd.unfinished", "etcd", "nothing half done", f"{last}, begun {last.id}", "this run goes on")
        ]
        named = self.asked.snapshot.rpartition("/")[2] if self.asked.snapshot not in ("", NEWEST, NEW) else ""
        if named and named != last.snapshot:
            findings.append(error("etcd.unfinished", f"snapshot {named}", f"the end of {last} first", "another wish",
                                  f"run again with snapshot={last.snapshot or '(empty)'}"))  # fmt: skip
        if self.asked.server and self.asked.server != last.server:
            findings.append(error("etcd.unfinished", f"server {self.asked.server}", f"{last.server}, where it began",
                                  "another", f"run again with server={last.server}"))  # fmt: skip
        snapshot = self.etcd.snapshot(last.snapshot) if last.snapshot else None
        if snapshot is not None and last.stage == "prepared":
            findings += _faults_of(snapshot)
        elif last.snapshot and last.stage == "prepared":
            findings.append(error("etcd.snapshot", f"snapshot {last.snapshot}", "a file of it", "none",
                                  "put a copy where snapshot=PATH finds it"))  # fmt: skip
        site = self._machine(last.server)
        if site is None:
            findings.append(error("etcd.unfinished", f"server {last.server}", "the server that it began on in the lab",
                                  "none", "put it back into the lab file until the end"))  # fmt: skip
        return Goal("restore" if last.snapshot else "reset", site, snapshot, record=last, findings=tuple(findings))

    def without_wish(self, last: Restore | None) -> Goal:
        """Nothing was asked for: only a lost quorum is a reason to do anything."""
        if self.k3s.up:
            if two := self._two_clusters():
                return two
            if last is not None:
                return self.done(last)
            remedy = "name a snapshot, restore_as_of, newest or new to go back to an earlier state"
            fine = error("etcd.fine", "etcd", "a lost quorum, or a snapshot that is asked for",
                         f"{len(self.k3s.voters)} voting members and an API that answers", remedy)  # fmt: skip
            return Goal("none", findings=(fine,))
        if not self.holders and not self.away:
            return self.restore()
        problems = tuple(self._not_lost())
        return Goal("none", findings=problems) if problems else self._reset()

    def _two_clusters(self) -> Goal | None:
        """An API answers that most servers with data know nothing of: one with no data has founded its own."""
        total, voters = len(self.lab.servers), [node.name for node in self.k3s.voters if node.ready]
        others = [server.name for server in self.holders if server.name not in voters]
        if not others or len(voters) >= quorum(total):
            return None
        if self.asked.server in others:
            return self._reset()
        return Goal("none", findings=(
            error("etcd.two", "etcd", f"one cluster with {quorum(total)} of {total} members or more",
                  f"an API with {', '.join(voters) or 'none'}, and other data on {', '.join(others)}",
                  "say whose data is right: server=" + "|".join(others) + "; or name a snapshot"),
        ))  # fmt: skip

    def _not_lost(self) -> Iterator[Finding]:
        """What speaks for it that the quorum may come back by itself."""
        need, total = quorum(len(self.lab.servers)), len(self.lab.servers)
        holders, away = len(self.holders), len(self.away)
        maybe = [name for name in self.away if name not in self.asked.replace]
        if holders >= need:
            yield error("etcd.quorum", "etcd", f"fewer than {need} of {total} servers with data",
                        f"{holders}: the quorum is not lost for good",
                        "run bootstrap-k3s, which starts what stands still; or name a snapshot")  # fmt: skip
        elif holders + away >= need and maybe:
            yield error("etcd.away", "etcd", f"an answer of {', '.join(maybe)}, which may hold the data for a quorum",
                        "none", "bring them back; when they are gone for good: replace=" + ",".join(maybe))  # fmt: skip
        elif not holders:
            yield error("etcd.no-data", "etcd", "a server with data", "none that answers", "name a snapshot")

    def _reset(self) -> Goal:
        holders = [one for one in self.holders if not self.asked.server or one.name == self.asked.server]
        if not holders:
            got = "none of its data there"
            return Goal("none", findings=(
                error("etcd.no-data", f"server {self.asked.server}", "data of the cluster to go on with", got,
                      f"server={self.holders[0].name} has it"),
            ))  # fmt: skip
        found: tuple[Finding, ...] = ()
        if len(holders) > 1:
            names = ", ".join(one.name for one in holders)
            found = (warning("etcd.several", "etcd", "one server with data", f"several: {names}",
                             f"that of {holders[0].name} is kept; another one: server=NAME"),)  # fmt: skip
        site = holders[0]
        if self.guests.guest(site.name).server_token is TokenState.OTHER:
            found += (error("etcd.token", f"server {site.name}", "the token that its data is sealed with at k3s.token",
                            "another one (their hashes differ)", "put the token of that cluster there"),)  # fmt: skip
        return Goal("reset", site, findings=found)

    def is_done(self, last: Restore) -> bool:
        """Whether what is asked for is what the last restore has brought about."""
        if self.asked.snapshot not in ("", NEWEST, NEW):
            return self.asked.snapshot.rpartition("/")[2] == last.snapshot
        if self.asked.as_of is None and last.finished_at and self.etcd.read_at - last.finished_at < JUST_NOW:
            return True
        rows = self._candidates()
        best = next((row for row in rows if row.usable), None)
        return best is not None and self.asked.snapshot != NEW and best.name == last.snapshot

    def done(self, last: Restore) -> Goal:
        """The last restore is what was wanted; only servers that were away may be left."""
        where = f"{last.server}: /var/lib/labkit/etcd-restore.json"
        text = info("etcd.done", "etcd", "what was asked for", f"{last} of {show_moment(last.reset_at)}",
                    f"nothing to do; to do the same once more, remove {where}")  # fmt: skip
        return Goal("none", self._machine(last.server), record=last, findings=(text,))

    def save_first(self) -> Goal:
        """Save a snapshot and restore it: nothing is lost but the time."""
        ready = [server for server in self.lab.servers if self._votes(server)]
        ready = [server for server in ready if self.asked.server in ("", server.name)]
        if not self.k3s.up or not ready:
            got = self.k3s.problem or f"none on {self.asked.server or 'any server'}"
            return Goal("none", findings=(
                error("etcd.new", "snapshot=new", "a member of etcd that votes, to save a snapshot", got,
                      "name a snapshot, or newest"),
            ))  # fmt: skip
        return Goal("restore", ready[0], saved_first=True)

    def _votes(self, server: Machine) -> bool:
        node = self.k3s.node(server.name)
        return node is not None and node.ready and bool(node.voter)

    def restore(self) -> Goal:
        """Restore the best of the snapshots that fit."""
        rows = self._candidates()
        best = next((row for row in rows if row.usable), None)
        if best is None:
            return Goal("none", findings=tuple(self._none_usable(rows)))
        passed = rows[: rows.index(best)]
        findings = [warning(one.id, one.subject, one.expected, one.got, f"{best.name} is taken in its place")
                    for row in passed for one in _faults_of(row)]  # fmt: skip
        site = self._site(best)
        if site is None:
            findings.append(error("etcd.site", "servers", "one that answers", "none", "look at their consoles"))
        return Goal("restore", site, best, findings=(*findings, *_doubts_of(best)))

    def _candidates(self) -> tuple[Snapshot, ...]:
        return candidates(self.etcd.snapshots, self.asked.snapshot, self.asked.as_of)

    def _none_usable(self, rows: tuple[Snapshot, ...]) -> Iterator[Finding]:
        if rows:
            for row in rows:
                yield from _faults_of(row)
            return
        known = [row.name for row in self.etcd.snapshots]
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        there = f"only {', '.join(known[:_SHOWN])}{more}" if known else "none on any server that answers"
        yield error("etcd.snapshot", "snapshot", f"{self.asked}", there,
                    "name one of them, or the path of a copy on this machine")  # fmt: skip

    def _site(self, snapshot: Snapshot) -> Machine | None:
        """The server that was asked for, one that has the file, or the first that answers."""
        reachable = [server for server in self.lab.servers if self.guests.guest(server.name).reachable]
        if self.asked.server:
            return self._machine(self.asked.server)
        near = [server for place in snapshot.places for server in reachable if server.name == place.where]
        return next(iter([*near, *reachable]), None)

    def _machine(self, name: str) -> Machine | None:
        return next((server for server in self.lab.servers if server.name == name), None)


def _faults_of(snapshot: Snapshot) -> Iterator[Finding]:
    """Why a snapshot cannot be restored."""
    subject = f"snapshot {snapshot.name}"
    if snapshot.problem:
        yield error("etcd.snapshot", subject, "a whole one", snapshot.problem,
                    "take another one, or a copy of it")  # fmt: skip
    if snapshot.token is TokenState.OTHER:
        yield error("etcd.token", subject, "the token that it was made with at k3s.token",
                    "another one (their hashes differ)",
                    "put the token of that time there: without it no snapshot can be restored")  # fmt: skip


def _doubts_of(snapshot: Snapshot) -> Iterator[Finding]:
    subject = f"snapshot {snapshot.name}"
    if snapshot.token is TokenState.UNKNOWN:
        yield warning("etcd.token", subject, "the hash of its token", "none in it",
                      "whether k3s.token fits shows only when k3s reads it")  # fmt: skip
    if not snapshot.off_node:
        yield info("etcd.copy", subject, "a copy that is not on a server", f"none: {LOCAL} or in S3",
                   "set etcd-s3 in k3s.config, or copy it with the token")  # fmt: skip
