"""Whether people are told: only when something got worse or better, and not at night. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

from labkit.errors import counted
from labkit.lab.models import Messages
from labkit.lab.types import parse_hours
from labkit.plan import Finding, Severity

_MOST = 20
"""How many findings of a kind a message spells out: push services cut off long texts."""
Key = tuple[str, str]


@dataclass(frozen=True)
class Difference:
    """What got worse (new, or of a higher severity) and what got better (gone, or of a lower one)."""

    worse: tuple[Finding, ...] = ()
    better: tuple[Finding, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.worse or self.better)

    @property
    def urgent(self) -> bool:
        """Whether an error is new: this is told at any hour."""
        return any(finding.severity is Severity.ERROR for finding in self.worse)


@dataclass(frozen=True)
class Message:
    """What is told: a line, and a text that names each finding with its remedy."""

    title: str
    body: str


@dataclass(frozen=True)
class Decision:
    """What is to be done now: send the message, hold it back until the quiet hours are over, or nothing."""

    action: Literal["send", "hold", "nothing"]
    message: Message | None = None


def counts(finding: Finding, settings: Messages) -> bool:
    """Tell whether a finding is severe enough to be told of."""
    return finding.severity.rank >= Severity(settings.least).rank


def compare(previous: Iterable[Finding], current: Iterable[Finding]) -> Difference:
    """Return what got worse and better; findings are the same when their id and subject are."""
    before, after = _by_key(previous), _by_key(current)
    worse = [one for key, one in after.items() if key not in before or before[key].severity.rank < one.severity.rank]
    better = [one for key, one in before.items() if key not in after or after[key].severity.rank < one.severity.rank]
    return Difference(_worst_first(worse), _worst_first(better))


def decide(
    previous: Sequence[Finding], current: Sequence[Finding], now: datetime, settings: Messages, *, title: str = ""
) -> Decision:
    """Say what to tell somebody who knows of the previous findings.

    Args:
        previous: what they were told of last; what was held back since then is no part of it.
        current: what is found now.
        now: the moment, in the zone that the quiet hours are in when the settings name none.
        settings: of the lab file.
        title: what the message is about, for its first line.
    """
    found = compare(
        [one for one in previous if counts(one, settings)], [one for one in current if counts(one, settings)]
    )
    wanted = Difference(
        found.worse if "worse" in settings.only else (), found.better if "better" in settings.only else ()
    )
    if not wanted:
        return Decision("nothing")
    message = Message(_title(wanted, title), _body(wanted, current, settings))
    return Decision("hold" if is_quiet(now, settings) and not wanted.urgent else "send", message)


def is_quiet(now: datetime, settings: Messages) -> bool:
    """Tell whether a moment is in the quiet hours; their end is not."""
    if settings.quiet is None:
        return False
    first, last = parse_hours(settings.quiet)
    zone: tzinfo | None = ZoneInfo(settings.zone) if settings.zone else now.tzinfo
    time = now.astimezone(zone).time().replace(tzinfo=None)
    return first <= time < last if first < last else time >= first or time < last


def _by_key(findings: Iterable[Finding]) -> Mapping[Key, Finding]:
    """Findings by what they are about, the severest of each."""
    found: dict[Key, Finding] = {}
    for one in findings:
        key = (one.id, one.subject)
        if key not in found or found[key].severity.rank < one.severity.rank:
            found[key] = one
    return found


def _worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda one: (-one.severity.rank, one.subject, one.id)))


def _title(found: Difference, title: str) -> str:
    parts = [f"{len(some)} {word}" for some, word in ((found.worse, "worse"), (found.better, "better")) if some]
    return ": ".join(filter(None, (title, ", ".join(parts))))


def _body(found: Difference, current: Sequence[Finding], settings: Messages) -> str:
    parts = []
    if found.worse:
        parts.append("\n".join(["Worse:", *_lines(found.worse)]))
    if found.better:
        parts.append("\n".join(["Better:", *(f"- {line}" for line in _few([one.subject + ": was " + one.got
                                                                          for one in found.better]))]))  # fmt: skip
    left = sum(counts(one, settings) for one in current)
    parts.append(f"{counted(left, 'finding')} in all." if left else "Nothing is left.")
    return "\n\n".join(parts)


def _lines(findings: Sequence[Finding]) -> list[str]:
    return [f"- {line}" for line in _few([f"{one.severity}: {one}" for one in findings])]


def _few(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _MOST
    return [*lines[:_MOST], *([f"and {more} more"] if more > 0 else [])]
