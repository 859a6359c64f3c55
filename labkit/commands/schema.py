"""`labkit schema`: the JSON Schema of the lab file."""

from __future__ import annotations

import json

import typer


def mount(app: typer.Typer) -> None:
    """Add the command to the main command."""
    app.command("schema")(schema)


def schema() -> None:
    """Print the JSON Schema of the lab file, for editors."""
    from labkit.lab.schema import lab_schema

    typer.echo(json.dumps(lab_schema(), indent=2))
