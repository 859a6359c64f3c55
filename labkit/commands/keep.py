"""`labkit keep-certificates`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def mount(app: typer.Typer) -> None:
    """Add the command to the main command."""
    app.command("keep-certificates")(keep_certificates)


def keep_certificates(
    repository: Annotated[Path, typer.Argument(help="A checkout of the lab's repository.")] = Path(),
    lab: Annotated[Path, typer.Option(help="The lab file.")] = Path("parameters/lab.yaml"),
    on: Annotated[str, typer.Option(help="twin or lab.")] = "lab",
) -> None:
    """Keep what Let's Encrypt has given, encrypted, in a file to be committed: a new cluster then needs no new ones."""
    from labkit.facts.kept import KEPT
    from labkit.lab.loader import load_lab
    from labkit.run.connect import check_on, connect
    from labkit.run.folders import find_input
    from labkit.systems.kept import keep_certificates as keep

    lab_file = find_input(lab)
    loaded = load_lab(lab_file)
    connection = connect(loaded, lab_file, on=check_on(on), scenario="flux")
    try:
        text, names = keep(loaded, connection.access)
    finally:
        connection.close()
    target = repository / KEPT
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    typer.echo(f"{target}: {', '.join(names)}, encrypted. Commit and push it; disaster-recovery puts it back.")
