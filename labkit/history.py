"""The history of health reports: one SQLite file for all labs that share an outputs folder.

Every call opens the file, does its work in one transaction and closes it again: a writer that is killed leaves what
was there before, and a second one waits for the first. SQLite's own rollback journal is used, not its write-ahead
log, for that one does not work where outputs/ is a network folder.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from labkit.errors import LabError
from labkit.facts.history import HistoryFacts, PastReport, Point, Sample, kept
from labkit.health import FORM, HealthReport
from labkit.plan import Severity

FILE = "history.sqlite"
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE reports (
            id INTEGER PRIMARY KEY,
            lab TEXT NOT NULL,
            place TEXT NOT NULL,
            made_at TEXT NOT NULL,
            score INTEGER NOT NULL,
            light TEXT NOT NULL,
            errors INTEGER NOT NULL,
            warnings INTEGER NOT NULL,
            form INTEGER NOT NULL,
            report BLOB NOT NULL)""",
        "CREATE INDEX reports_of_lab ON reports (lab, place, made_at)",
        """CREATE TABLE samples (
            report INTEGER NOT NULL REFERENCES reports ON DELETE CASCADE,
            series TEXT NOT NULL,
            subject TEXT NOT NULL,
            value REAL NOT NULL,
            PRIMARY KEY (report, series, subject)) WITHOUT ROWID""",
    ),
)
"""What leads from each version of the schema to the next; `PRAGMA user_version` says how many were done. The column
`report` holds the report's JSON, deflated; `made_at` is UTC, as `2026-11-23T06:30:00.000000Z`; `place` is where the
report ran, `lab` or `twin`."""
_PATIENCE = 30.0
_SERIES_FOR = timedelta(days=120)


class History:
    """The reports of one lab in one file; safe to use from many threads and processes.

    Args:
        path: the file; it is made at the first report.
        lab: the lab's name.
        place: `lab` or `twin`: a rehearsal is no part of the real lab's history.
        migrations: the steps of the schema.
    """

    def __init__(
        self, path: Path, lab: str, place: str = "lab", *, migrations: Sequence[Sequence[str]] = MIGRATIONS
    ) -> None:
        self.path = path
        self._key = (lab, place)
        self._migrations = migrations

    def last(self) -> HealthReport | None:
        """Return the newest report, or None; one in a form that is no longer read counts for nothing.

        Raises:
            LabError: the file is no history of labkit, or one of a newer version.
        """
        if not self.path.exists():
            return None
        with self._open() as base:
            row = base.execute(
                "SELECT report FROM reports WHERE lab = ? AND place = ? AND form = ? ORDER BY made_at DESC, id DESC",
                (*self._key, FORM),
            ).fetchone()
        try:
            return None if row is None else HealthReport.model_validate_json(zlib.decompress(row[0]))
        except (ValidationError, zlib.error):
            return None

    def read(self, now: datetime) -> HistoryFacts:
        """Return all reports in short, and the values of the last 120 days.

        Raises:
            LabError: the file is no history of labkit, or one of a newer version.
        """
        if not self.path.exists():
            return HistoryFacts()
        with self._open() as base:
            rows = base.execute(
                "SELECT made_at, score, light, errors, warnings FROM reports WHERE lab = ? AND place = ? "
                "ORDER BY made_at, id", self._key,
            ).fetchall()  # fmt: skip
            values = base.execute(
                "SELECT series, subject, made_at, value FROM samples JOIN reports ON samples.report = reports.id "
                "WHERE lab = ? AND place = ? AND made_at >= ? ORDER BY made_at, id",
                (*self._key, _text(now - _SERIES_FOR)),
            ).fetchall()
        reports = tuple(
            PastReport(at=_moment(at), score=score, light=light, errors=errors, warnings=warnings)
            for at, score, light, errors, warnings in rows
        )
        return HistoryFacts(reports=reports, series=_by_series(values))

    def add(self, report: HealthReport, samples: Iterable[Sample] = ()) -> None:
        """Keep a report with its values, and forget those that are no longer kept; all of it or nothing.

        Raises:
            LabError: the file cannot be written, is no history of labkit, or one of a newer version.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as base, _transaction(base):
            row = base.execute(
                "INSERT INTO reports (lab, place, made_at, score, light, errors, warnings, form, report) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*self._key, _text(report.made_at), report.score, report.light, report.count(Severity.ERROR),
                 report.count(Severity.WARNING), report.form, zlib.compress(report.model_dump_json().encode())),
            )  # fmt: skip
            base.executemany(
                "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?)",
                [(row.lastrowid, one.series, one.subject, one.value) for one in samples],
            )
            self._prune(base, report.made_at)

    def _prune(self, base: sqlite3.Connection, now: datetime) -> None:
        rows = base.execute("SELECT id, made_at FROM reports WHERE lab = ? AND place = ?", self._key).fetchall()
        keep = {_text(moment) for moment in kept((_moment(at) for _, at in rows), now)}
        base.executemany("DELETE FROM reports WHERE id = ?", [(number,) for number, at in rows if at not in keep])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Yield the file with its schema brought up to date."""
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as base:
                base.execute("PRAGMA foreign_keys = ON")
                self._migrate(base)
                yield base
        except sqlite3.Error as exc:
            raise LabError(
                f"history {self.path}: expected labkit's file of earlier reports, got: {exc}",
                next_step="look whether the disk is full; else move the file away, the next report begins a new one",
            ) from exc

    def _migrate(self, base: sqlite3.Connection) -> None:
        if self._version(base) == len(self._migrations):
            return
        with _transaction(base):
            version = self._version(base)  # another process may have done it meanwhile
            if version > len(self._migrations):
                raise LabError(
                    f"history {self.path}: expected version {len(self._migrations)} or an older one, got {version}",
                    next_step="use the newer labkit that has written it, or move the file away",
                )
            for step in self._migrations[version:]:
                for statement in step:
                    base.execute(statement)
            base.execute(f"PRAGMA user_version = {len(self._migrations)}")

    @staticmethod
    def _version(base: sqlite3.Connection) -> int:
        return int(base.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def _transaction(base: sqlite3.Connection) -> Iterator[None]:
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if base.in_transaction:  # SQLite may have given up by itself
            base.execute("ROLLBACK")
        raise
    base.execute("COMMIT")


def _by_series(rows: Iterable[tuple[str, str, str, float]]) -> dict[str, dict[str, tuple[Point, ...]]]:
    found: dict[str, dict[str, list[Point]]] = {}
    for series, subject, at, value in rows:
        found.setdefault(series, {}).setdefault(subject, []).append(Point(at=_moment(at), value=value))
    return {series: {name: tuple(some) for name, some in by.items()} for series, by in found.items()}


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
