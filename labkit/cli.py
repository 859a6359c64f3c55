"""The `labkit` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from labkit import __version__
from labkit.errors import LabError

app = typer.Typer(
    name="labkit",
    help="Homelab runbooks that can be rehearsed on a twin.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _module in ("runbooks", "check", "lab", "twin", "backups"):
    import_module(f"labkit.commands.{_module}").mount(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"labkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Homelab runbooks that can be rehearsed on a twin."""


def main() -> None:
    """Run the command; an error of labkit ends it with its own exit status and a message, never a traceback."""
    from labkit.secrets import redact  # noqa: PLC0415  # only errors and commands need it

    try:
        app()
    except LabError as exc:
        typer.secho(redact(f"error: {exc}"), fg="red", err=True)
        sys.exit(exc.exit_status)
    except KeyboardInterrupt:
        typer.secho("interrupted", fg="red", err=True)
        sys.exit(130)
