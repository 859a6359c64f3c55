"""`labkit check repo`: what in a GitOps repository is wrong, before a cluster finds out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from labkit.checks.repository.suppress import Sorted, Suppression


class Format(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    SARIF = "sarif"


class Threshold(StrEnum):
    """From which severity on the exit status is 1."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    NEVER = "never"


def check_repo(
    path: Path = typer.Argument(Path(), help="The root of the repository, checked out."),
    flux: str = typer.Option("2.9", "--flux", help="The Flux version that the cluster runs or shall run."),
    form: Format = typer.Option(Format.TEXT, "--format", help="How to write the findings."),
    fail_on: Threshold = typer.Option(Threshold.ERROR, "--fail-on", help="Exit with 1 from this severity on."),
    age_key: list[str] = typer.Option(
        [], "--age-key", help="A reference to an age key (file:..., env:...): try it on every encrypted file."
    ),
    output: Path | None = typer.Option(None, "--output", help="Write to this file instead."),
    list_rules: bool = typer.Option(False, "--rules", help="List the rules and end."),
) -> None:
    """Check a GitOps repository: build what Flux would, and tell what is wrong with file, line and remedy."""
    from labkit.checks.repository import RULES, check_repository
    from labkit.checks.repository.formats import FORMATS
    from labkit.checks.repository.suppress import sort_out
    from labkit.secrets import Secrets, redact
    from labkit.systems.repository import read_repository
    from labkit.systems.repository.today import today

    if list_rules:
        for name, rule in RULES.items():
            typer.echo(f"{name:26} {rule.severity:8} {rule.sentence}")
        return
    target = _flux_version(flux)
    entries = _suppressions(path)
    secrets = Secrets()
    facts = read_repository(path, age_keys=[secrets.resolve(ref) for ref in age_key])
    result = sort_out(check_repository(facts, flux=target), entries, today())
    text = redact(FORMATS[form](result, facts.counts)).encode("utf-8", "replace").decode()
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text)
    if _fails(result, fail_on):
        raise typer.Exit(1)


def _write(output: Path, text: str) -> None:
    from labkit.errors import InputError, Mistake

    try:
        output.write_text(text, encoding="utf-8", errors="replace")
    except OSError as exc:
        got = exc.strerror or type(exc).__name__
        raise InputError([Mistake("--output", 0, 0, str(output), "a file that can be written", got)]) from exc


def _flux_version(text: str) -> tuple[int, int]:
    from labkit.checks.repository.versions import parse_flux
    from labkit.errors import InputError, Mistake

    found = parse_flux(text)
    if found is None or found < (2, 0):
        raise InputError([Mistake("--flux", 0, 0, "", "a version of Flux 2 such as 2.9", repr(text))])
    return found


def _suppressions(path: Path) -> tuple[Suppression, ...]:
    from labkit.checks.repository.suppress import FILE, parse_suppressions
    from labkit.errors import InputError, Mistake
    from labkit.systems.repository.files import decode

    file = path / FILE
    if not file.is_file():
        return ()
    try:
        text = decode(file.read_bytes())
    except OSError as exc:
        got = exc.strerror or type(exc).__name__
        raise InputError([Mistake(FILE, 0, 0, "", "a file that can be read", got)]) from exc
    if text is None:
        raise InputError([Mistake(FILE, 0, 0, "", "UTF-8 text", "other bytes")])
    return parse_suppressions(text)


def _fails(result: Sorted, threshold: Threshold) -> bool:
    from labkit.plan import Severity

    if threshold is Threshold.NEVER:
        return False
    rank = Severity(threshold.value).rank
    return any(finding.severity.rank >= rank for finding in result.findings)
