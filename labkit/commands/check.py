"""`labkit check`: look at files before anything is started."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from labkit.commands.check_repo import check_repo

check = typer.Typer(name="check", help="Check files: nothing is contacted, nothing is changed.", no_args_is_help=True)
check.command("repo")(check_repo)


@check.callback()
def _root() -> None:
    """Check files: nothing is contacted, nothing is changed."""


@check.command("lab")
def check_lab(
    file: Path = typer.Argument(Path("parameters/lab.yaml"), help="The lab file."),
    as_json: bool = typer.Option(False, "--json", help="Print the mistakes and warnings as JSON."),
) -> None:
    """Check a lab file: every mistake at once, and warnings that do not stop."""
    from dataclasses import asdict

    from labkit.errors import InputError, counted
    from labkit.lab.loader import load_lab
    from labkit.rules.quorum import warn_quorum
    from labkit.run.folders import find_input

    try:
        lab = load_lab(find_input(file))
    except InputError as exc:
        if not as_json:
            raise
        typer.echo(json.dumps({"ok": False, "mistakes": [asdict(mistake) for mistake in exc.mistakes]}, indent=2))
        raise typer.Exit(exc.exit_status) from exc
    warnings = warn_quorum(lab)
    if as_json:
        rows = [warning.model_dump(mode="json") for warning in warnings]
        typer.echo(json.dumps({"ok": True, "lab": lab.name, "mistakes": [], "warnings": rows}, indent=2))
        return
    for warning in warnings:
        typer.secho(f"{warning.severity}: {warning}", fg="yellow")
    typer.echo(f"{file}: lab {lab.name} is valid: {counted(len(lab.hosts), 'host')}, {counted(len(lab.vms), 'VM')}")
