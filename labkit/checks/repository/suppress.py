""".labkit.yaml: findings that are accepted, each with a reason and a date on which that ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

from labkit.checks.repository.finding import RULES, RepoFinding
from labkit.errors import InputError, Mistake
from labkit.facts.manifests import Map, parse_manifests
from labkit.plan import Severity

FILE = ".labkit.yaml"
_KEYS = {"id", "file", "reason", "expires"}
_REASON = 10


@dataclass(frozen=True)
class Suppression:
    """One entry: which rule, in which files (a pattern; `*` crosses folders), why, and until when."""

    line: int
    id: str
    file: str
    reason: str
    expires: date

    def hides(self, finding: RepoFinding) -> bool:
        """Tell whether it is about a finding."""
        return self.id == finding.id and fnmatchcase(finding.file, self.file)


@dataclass(frozen=True)
class Sorted:
    """Findings that count, and those that are suppressed, each with its entry."""

    findings: tuple[RepoFinding, ...]
    suppressed: tuple[tuple[RepoFinding, Suppression], ...] = ()


def parse_suppressions(text: str, file: str = FILE) -> tuple[Suppression, ...]:
    """Read .labkit.yaml.

    Raises:
        InputError: lists every mistake: an unknown key or rule, no reason, no date.
    """
    parsed = parse_manifests(text)
    trouble = parsed.trouble or next(iter(parsed.repeated), None)
    if trouble:
        raise InputError([Mistake(file, trouble.line or 1, 1, "", "YAML", trouble.message)])
    if len(parsed.trees) > 1:
        raise InputError([Mistake(file, 1, 1, "", "one YAML document", f"{len(parsed.trees)}")])
    tree = parsed.trees[0] if parsed.trees else None
    mistakes: list[Mistake] = []
    entries = [] if tree is None else _entries(tree, file, mistakes)
    found = [_entry(entry, file, mistakes, index) for index, entry in enumerate(entries)]
    if mistakes:
        raise InputError(mistakes)
    return tuple(one for one in found if one is not None)


def _entries(tree: Any, file: str, mistakes: list[Mistake]) -> list[Any]:
    if not isinstance(tree, Map):
        mistakes.append(Mistake(file, 1, 1, "", "a mapping with the key suppress", "another kind of value"))
        return []
    others = [key for key in tree if key != "suppress"]
    mistakes += [Mistake(file, tree.lines[key], 1, key, "the key suppress only", "another key") for key in others]
    entries = tree.get("suppress") or []
    if not isinstance(entries, list):
        mistakes.append(Mistake(file, tree.lines["suppress"], 1, "suppress", "a list", "another kind of value"))
        return []
    return entries


def _entry(entry: Any, file: str, mistakes: list[Mistake], index: int) -> Suppression | None:
    where = f"suppress[{index}]"
    if not isinstance(entry, Map):
        mistakes.append(Mistake(file, 1, 1, where, "a mapping with id, file, reason, expires", "another kind of value"))
        return None

    def wrong(key: str, expected: str, got: str, hint: str = "") -> None:
        mistakes.append(Mistake(file, entry.lines.get(key, entry.line), 1, f"{where}.{key}", expected, got, hint))

    for key in sorted(set(entry) - _KEYS):
        wrong(key, "one of id, file, reason, expires", "an unknown key")
    name, reason, pattern = entry.get("id"), entry.get("reason"), entry.get("file", "*")
    if name not in RULES:
        wrong("id", "the id of a rule", repr(name), "labkit check repo --rules lists them")
    if not isinstance(pattern, str) or not pattern:
        wrong("file", "a path or a pattern", repr(pattern))
    if not isinstance(reason, str) or len(reason.strip()) < _REASON:
        wrong("reason", f"a reason of at least {_REASON} characters", "none or a shorter one")
    expires = _date(entry.get("expires"))
    if expires is None:
        wrong("expires", "a date such as 2027-01-31", repr(entry.get("expires")))
        return None
    return Suppression(entry.line, str(name), str(pattern), str(reason), expires)


def _date(value: object) -> date | None:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        return None


def sort_out(findings: Iterable[RepoFinding], entries: Sequence[Suppression], today: date) -> Sorted:
    """Take out what entries hide; entries that have ended or hide nothing become findings themselves."""
    counted: list[RepoFinding] = []
    hidden: list[tuple[RepoFinding, Suppression]] = []
    used: set[Suppression] = set()
    for finding in findings:
        about = [entry for entry in entries if entry.hides(finding)]
        used |= set(about)
        valid = next((entry for entry in about if entry.expires >= today), None)
        if valid is None:
            counted.append(finding)
        else:
            hidden.append((finding, valid))
    counted += [_about(entry, entry in used, today) for entry in entries if entry not in used or entry.expires < today]
    return Sorted(tuple(sorted(counted)), tuple(hidden))


def _about(entry: Suppression, used: bool, today: date) -> RepoFinding:
    if used and entry.expires < today:
        why = f"the suppression of {entry.id} ended on {entry.expires}"
        return RepoFinding(
            FILE, entry.line, "suppression-ended", Severity.WARNING, why, "correct the cause, or renew it"
        )
    why = f"the suppression of {entry.id} in {entry.file} hides nothing"
    return RepoFinding(FILE, entry.line, "suppression-unused", Severity.INFO, why, "remove it")
