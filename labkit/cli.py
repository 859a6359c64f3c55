"""The `labkit` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from labkit import __version__
from labkit.commands import backups, check, keep, message, runbooks, schedule, schema, twin
from labkit.errors import LabError

app = typer.Typer(
    name="labkit",
    help="Homelab runbooks that can be rehearsed on a twin.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
runbooks.mount(app)
schedule.mount(app)
schema.mount(app)
keep.mount(app)
for _part in (check.check, twin.app, backups.app, message.app):
    app.add_typer(_part)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"labkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
    folder: str = typer.Option("", "-C", metavar="DIR", help="Work in this folder; it is made when it is not there."),
) -> None:
    """Homelab runbooks that can be rehearsed on a twin."""
    if folder:
        _go_to(folder)


def _go_to(folder: str) -> None:
    from labkit.errors import InputError, Mistake

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
    except OSError as exc:
        mistake = Mistake("-C", 0, 0, folder, "a folder to work in", exc.strerror or type(exc).__name__)
        raise InputError([mistake]) from exc


def join_pairs(argv: Sequence[str]) -> list[str]:
    """Turn `-p NAME VALUE`, as papermill has it, into the `-p NAME=VALUE` that the parser takes as well."""
    words, joined = list(argv), []
    while words:
        word = words.pop(0)
        joined.append(word)
        if word in {"-p", "--parameter"} and len(words) > 1 and words[0].isidentifier():
            joined.append(f"{words.pop(0)}={words.pop(0)}")
    return joined


def main() -> None:
    """Run the command; an error of labkit ends it with its own exit status and a message, never a traceback."""
    from labkit.secrets import redact  # only errors and commands need it

    try:
        app(join_pairs(sys.argv[1:]))
    except LabError as exc:
        typer.secho(redact(f"error: {exc}"), fg="red", err=True)
        sys.exit(exc.exit_status)
    except KeyboardInterrupt:
        typer.secho("interrupted", fg="red", err=True)
        sys.exit(130)
