"""`labkit message`: try the places that the lab file tells, and tell what was held back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from labkit.lab import Lab
    from labkit.systems.access import Access

app = typer.Typer(name="message", help="Messages to people: a test, and what was held back.", no_args_is_help=True)

LabOption = Annotated[Path, typer.Option("-f", "--file", "--lab", help="The lab file.")]
LAB = Path("parameters/lab.yaml")

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{0}</title></head>
<body><h1>{0}</h1><p>A report comes as a page like this one where the service takes attachments.</p></body></html>
"""


@app.callback()
def _root() -> None:
    """Messages to people: a test, and what was held back."""


@app.command("test")
def send_test(file: LabOption = LAB, limit: float = typer.Option(30.0, min=1, help="Seconds per place.")) -> None:
    """Send a test message to every place of the lab file, at any hour; exit status 1 when one did not take it."""
    import tempfile

    from labkit.systems.messages import send_to

    lab, access = _open(file)
    title = f"labkit: a test from lab {lab.name}"
    with tempfile.TemporaryDirectory(prefix="labkit-message-") as folder:
        page = Path(folder, "report.html")
        page.write_text(_PAGE.format(title), encoding="utf-8")
        places = lab.messages.to if lab.messages is not None else ()
        found = send_to(access, places, title, "It works.", page=page, limit=limit)
    for one in found:
        typer.secho(str(one), fg=None if one.ok else "red", err=not one.ok)
    if not all(one.ok for one in found):
        raise typer.Exit(1)


@app.command()
def deliver(file: LabOption = LAB, limit: float = typer.Option(30.0, min=1, help="Seconds per place.")) -> None:
    """Tell what the quiet hours held back, as far as it still holds; exit status 1 when a place did not take it."""
    from labkit.run.notify import deliver as deliver_held

    lab, access = _open(file)
    sent = deliver_held(lab, access, limit=limit)
    typer.echo(str(sent))
    if sent.findings:
        raise typer.Exit(1)


def _open(file: Path) -> tuple[Lab, Access]:
    """Return the lab and the way to its secrets; an error when it tells nobody."""
    from labkit.errors import InputError, Mistake
    from labkit.lab.loader import load_lab
    from labkit.run.connect import connect
    from labkit.run.folders import find_input

    lab_file = find_input(file)
    lab = load_lab(lab_file)
    if lab.messages is None:
        raise InputError(
            [Mistake(str(file), 0, 0, "messages", "places to tell", "no such key")],
            next_step="add `messages: {to: [env:NTFY_URL]}` to the lab file, with the URL in that variable",
        )
    return lab, connect(lab, lab_file, on="lab", scenario="").access
