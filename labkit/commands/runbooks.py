"""`labkit runbooks`, `labkit run` and `labkit rehearse`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from labkit.runbooks.loss import Loss

LAB = Path("parameters/lab.yaml")
_WIDE = 140


def mount(app: typer.Typer) -> None:
    """Add the commands to the main command."""
    app.command("runbooks")(runbooks)
    app.command("run")(run)
    app.command("rehearse")(rehearse)


def runbooks(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the runbooks with their parameters."""
    from labkit.run.parameters import declared, list_notebooks, read_notebook, source

    found = []
    for name, path in list_notebooks().items():
        title = source(read_notebook(path)["cells"][0]).splitlines()
        about = next((line for line in title[1:] if line.strip() and not line.startswith("#")), "")
        found.append((name, path, about, declared(name)))
    if as_json:
        rows = [
            {"name": n, "notebook": str(p), "about": a, "parameters": [vars(one) for one in ps]}
            for n, p, a, ps in found
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for name, _, about, parameters in found:
        typer.secho(name, bold=True, nl=False)
        typer.echo(f"  {about}")
        for one in parameters:
            typer.echo(f"    {one.name}: {one.type} = {one.default!r}  {one.help}")


def run(
    runbook: str = typer.Argument(help="Its name, for example provision-vms."),
    files: list[Path] = typer.Option(
        [], "-f", "--file", metavar="FILE", help="A YAML file with parameters, or a lab file; with several labs they "
        "run side by side.",
    ),
    pairs: list[str] = typer.Option(
        [], "-p", "--parameter", metavar="NAME VALUE", help="One parameter; NAME=VALUE too."
    ),
    lab: Path | None = typer.Option(None, help="The lab file [default: parameters/lab.yaml]."),
    on: str | None = typer.Option(None, help="twin (the default) or lab."),
    approve: str | None = typer.Option(None, help="A plan's digest, safe, or none."),
    html: bool = typer.Option(False, "--html", help="Write the executed notebook as report.html too."),
    as_json: bool = typer.Option(False, "--json", help="Print the run's summary as JSON, and no progress."),
    width: int = typer.Option(2, min=1, max=64, help="With several labs: how many run at once."),
    overview: Path | None = typer.Option(
        None, metavar="FILE", help="Write a page over the last runs of all labs whose outputs are beside it."
    ),
    schedule: str = typer.Option("", metavar="TEXT", help="For schedules: which one started this run.", hidden=True),
    findings_ok: bool = typer.Option(False, "--findings-ok", help="End with 0 when there are only findings."),
) -> None:  # fmt: skip
    """Execute a runbook headless; its folder under outputs/ keeps everything that happened."""
    from labkit.run.parameters import declared, find_notebook
    from labkit.runbooks.inputs import sort_files

    name = find_notebook(runbook).stem[3:]
    some, labs = sort_files(declared(name), files)
    labs = [*labs, *([lab] if lab else [])]
    given = [pair(text) for text in pairs]
    given += [(key, value) for key, value in {"on": on, "approve": approve}.items() if value is not None]
    asked = Asked(name, given, html=html, as_json=as_json)
    if len(labs) > 1 or len(some) > 1:
        status = _run_many(asked, some, labs, width)
    else:
        one = replace(asked, file=some[0] if some else None, lab=labs[0] if labs else None)
        status = _run_scheduled(one, schedule, findings_ok=findings_ok) if schedule else _run_one(one)
    if overview is not None:
        from labkit.runbooks.many import refresh_overview

        refresh_overview(overview, name)
    raise typer.Exit(0 if status == 1 and findings_ok else status)


@dataclass(frozen=True)
class Asked:
    """One run as it was asked for: its runbook, parameters, the file with more of them, the lab file."""

    runbook: str
    pairs: list[tuple[str, str]]
    file: Path | None = None
    lab: Path | None = None
    html: bool = False
    as_json: bool = False


def _run_one(asked: Asked) -> int:
    """Run it on one lab, and return the exit status."""
    from labkit.lab.loader import load_lab
    from labkit.report.live import Follower
    from labkit.run.connect import check_on
    from labkit.run.folders import find_input, new_run_folder
    from labkit.run.gate import check_approval
    from labkit.run.parameters import declared
    from labkit.runbooks.execute import execute
    from labkit.runbooks.inputs import gather

    name = asked.runbook
    words = asked.pairs + ([("lab", str(asked.lab))] if asked.lab else [])
    values = gather(declared(name), asked.file, words)
    check_on(str(values.get("on", "twin")))
    check_approval(str(values.get("approve", "")))
    lab_file = find_input(values.get("lab", LAB))
    load_lab(lab_file)
    values["lab"] = str(lab_file)
    folder = new_run_folder(name, near=lab_file)
    if asked.as_json:
        ending = execute(name, values, folder)
    else:
        with Follower(folder) as follower:
            ending = execute(name, values, folder, listen=follower)
    if asked.html:
        _report(ending.notebook)
    if asked.as_json:
        typer.echo(json.dumps({"folder": str(folder), "status": ending.status, **ending.summary}, indent=2))
    else:
        typer.echo(f"{folder}  ({ending.seconds:.1f} s)")
    if ending.error:
        typer.secho(f"error: {ending.error}", fg="red", err=True)
    return ending.status


def _run_scheduled(asked: Asked, text: str, *, findings_ok: bool) -> int:
    """Run it as its schedule asks, and remember how it ended."""
    from labkit.runbooks.watched import Watch, watched

    on = dict(asked.pairs).get("on", "twin")
    watch = Watch(text, asked.runbook, on, asked.lab or LAB, findings_ok=findings_ok)
    with watched(watch, lambda said: typer.secho(f"warning: {said}", fg="yellow", err=True)) as remembered:
        remembered.status = _run_one(asked)
    return remembered.status


def _run_many(asked: Asked, some: list[Path], labs: list[Path], width: int) -> int:
    """Run it on many labs side by side, and return the highest exit status."""
    from labkit.errors import InputError, Mistake
    from labkit.run.folders import find_input, new_run_folder
    from labkit.runbooks.many import Ended, Order, run_many, worst_status, write_overview

    if labs and len(some) > 1:
        got = f"{len(some)} of them beside {len(labs)} lab files"
        raise InputError([Mistake("parameters", 0, 0, "-f", "one file with parameters for all labs", got)])
    words = [word for key, value in asked.pairs for word in ("-p", f"{key}={value}")]
    words += ["--html"] if asked.html else []
    extra = ["-f", str(find_input(some[0]))] if labs and some else []
    files = [find_input(path) for path in (labs or some)]
    option = "--lab" if labs else "-f"
    orders = [Order(_name_of(file), (option, str(file), *extra, *words)) for file in files]

    def tell(one: Ended) -> None:
        if not asked.as_json:
            bad = one.status != 0
            typer.secho(f"{one.lab}: {one.sentence}  ({one.seconds:.1f} s)", fg="red" if bad else None, err=bad)

    ended = run_many(asked.runbook, orders, width=width, tell=tell)
    folder = new_run_folder(f"{asked.runbook}-labs", near=files[0])
    page = write_overview(folder, asked.runbook, ended)
    rows = {"page": str(page), "labs": [one.to_dict() for one in ended]}
    typer.echo(json.dumps(rows, indent=2) if asked.as_json else str(page))
    return worst_status(ended)


def _name_of(file: Path) -> str:
    """What a lab is called before its file is known to be right."""
    return file.parent.parent.name if file.stem == "lab" and file.parent.name == "parameters" else file.stem


def rehearse(
    lab: Path = typer.Option(LAB, help="The lab file."),
    fault: list[str] = typer.Option(
        [],
        metavar="NAME",
        help="A fault that the twin starts with (see `labkit twin faults`); loss/NAME comes when everything is lost.",
    ),
    kill: int = typer.Option(
        0, metavar="LINES", help="Kill the recovery after so many lines of its journal, and run it again."
    ),
    seed: int = typer.Option(1, help="The twin's seed: the same seed gives the same ids."),
    scale: float | None = typer.Option(None, help="Real seconds for one of the twin's."),
    repo: str = typer.Option("", help="A repository, by path or URL, for Flux in place of the example."),
    repo_branch: str = typer.Option("", help="Its branch; the one that it is on when not given."),
    age_key: str = typer.Option(
        "", metavar="REFERENCE", help="The age key that opens its secrets: file:~/.config/sops/age/keys.txt, env:NAME."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the summary as JSON, and no progress."),
) -> None:
    """Run all runbooks in a row on a twin of the lab, each planned again after it was applied."""
    from labkit.errors import counted
    from labkit.report.live import Follower
    from labkit.run.folders import find_input
    from labkit.runbooks.rehearse import is_rehearsed
    from labkit.runbooks.rehearse import rehearse as rehearse_all

    with ExitStack() as followers:

        def tell(name: str) -> Follower | None:
            followers.close()
            if as_json:
                return None
            typer.secho(f"── {name}", bold=True)
            return followers.enter_context(Follower())

        result = rehearse_all(
            find_input(lab), faults=fault, seed=seed, scale=scale, repo=repo, repo_branch=repo_branch,
            age_key=age_key, kill=kill, tell=tell,
            warn=lambda text: typer.secho(f"warning: {text}", fg="yellow", err=True),
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        for ending in result.endings:
            mark = "ok  " if is_rehearsed(ending) else "FAIL"
            changes = ending.summary.get("changes", 0)
            left = ending.summary.get("second_plan_changes") or 0
            words = f"{counted(changes, 'change'):>11}, {left} left, {ending.seconds:5.1f} s"
            typer.echo(f"{mark} {ending.runbook:<36} {words}")
            if ending.error:
                typer.secho(ending.error, fg="red", err=True)
        if result.loss is not None:
            _show_loss(result.loss)
        typer.echo(f"{result.folder / 'index.html'}")
    if not result.ok:
        raise typer.Exit(next((e.status for e in result.endings if e.status), 1))


def _show_loss(loss: Loss) -> None:
    """Print what was lost in the end and what came back of it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title="Everything was lost, and came back" if loss.ok else "Everything was lost",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for head in ("", "Claim", "Backup as of", "sha256 before", "and after", "Writes lost", ""):
        table.add_column(head, justify="right" if head == "Writes lost" else "left")
    for row in loss.rows:
        mark = "[green]ok[/]" if row.ok else "[red]FAIL[/]"
        remark = row.remark.replace("[", "\\[")
        table.add_row(mark, row.claim, row.taken, row.before[:12], row.after[:12], str(row.lost), remark)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    console.print(table)
    for note in loss.notes:
        console.print(note, markup=False)
    console.print(f"{loss.words}.", markup=False)


def pair(text: str) -> tuple[str, str]:
    """Take `NAME=VALUE` apart."""
    from labkit.errors import InputError, Mistake

    name, separator, value = text.partition("=")
    if not separator:
        raise InputError([Mistake("parameters", 0, 0, "-p", "NAME VALUE", repr(text))])
    return name.strip(), value


def _report(notebook: Path) -> None:
    from labkit.runbooks.execute import export_html

    page = export_html(notebook)
    page.rename(page.with_name("report.html"))
