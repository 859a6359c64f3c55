"""One scheduled runbook on one lab: what is run, when, and what is run when it fails. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.facts.schedules import How
from labkit.lab.types import parse_hours
from labkit.rules.timetable import Timetable


@dataclass(frozen=True)
class Job:
    """What is scheduled.

    Attributes:
        name: of the schedule; the runbook's when nobody chose another.
        lab: the name of the lab.
        runbook: its name.
        on: `twin` or `lab`.
        when: when it is due.
        zone: the time zone of that; `named` says whether a person wrote it.
        program: the words that start labkit on the machine.
        folder: where it is started.
        lab_file: as it is given to labkit.
        pairs: parameters, `name=value`.
        env_file: a file with variables for the lab's `env:` references; empty when there are none.
        findings_ok: whether the runbook tells of its findings itself, so that they are no failure of the run.
        quiet: the lab's quiet hours; what they hold back is told at their end. Empty when there are none.
        quiet_zone: their time zone; empty for the machine's own.
    """

    name: str
    lab: str
    runbook: str
    on: str
    when: Timetable
    zone: str
    named: bool
    program: tuple[str, ...]
    folder: str
    lab_file: str
    pairs: tuple[str, ...] = ()
    env_file: str = ""
    findings_ok: bool = False
    quiet: str = ""
    quiet_zone: str = ""

    @property
    def unit(self) -> str:
        """The name of its units."""
        return f"labkit-{self.lab}-{self.name}"

    def given(self, how: How) -> str:
        """What the run says about its schedule, for `--schedule`."""
        return f"{self.lab}/{self.name} {how} {self.when.cron} {self.zone}"

    def run_words(self, how: How) -> tuple[str, ...]:
        """The words after `labkit` that run it."""
        pairs = tuple(word for pair in self.pairs for word in ("-p", pair))
        ok = ("--findings-ok",) if self.findings_ok else ()
        given = ("--lab", self.lab_file, "--on", self.on, "--schedule", self.given(how))
        return ("run", self.runbook, *given, *ok, *pairs)

    @property
    def check_words(self) -> tuple[str, ...]:
        """The words after `labkit` that look at what went wrong and tell people."""
        return ("schedule", "--check", "--tell", "-f", self.lab_file)

    @property
    def deliver_words(self) -> tuple[str, ...]:
        """The words after `labkit` that tell what the quiet hours held back."""
        return ("message", "deliver", "-f", self.lab_file)

    @property
    def deliver_at(self) -> tuple[int, int] | None:
        """The hour and minute at which the quiet hours end; None when there are none."""
        if not self.quiet:
            return None
        end = parse_hours(self.quiet)[1]
        return end.hour, end.minute
