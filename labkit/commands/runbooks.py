"""`labkit runbooks`, `labkit run` and `labkit rehearse`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import typer

LAB = Path("parameters/lab.yaml")


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
    file: Path | None = typer.Option(None, "-f", "--file", help="A YAML file with parameters."),
    pairs: list[str] = typer.Option(
        [], "-p", "--parameter", metavar="NAME VALUE", help="One parameter; NAME=VALUE too."
    ),
    lab: Path | None = typer.Option(None, help="The lab file [default: parameters/lab.yaml]."),
    on: str | None = typer.Option(None, help="twin (the default) or lab."),
    approve: str | None = typer.Option(None, help="A plan's digest, safe, or none."),
    html: bool = typer.Option(False, "--html", help="Write the executed notebook as report.html too."),
    as_json: bool = typer.Option(False, "--json", help="Print the run's summary as JSON, and no progress."),
) -> None:
    """Execute a runbook headless; its folder under outputs/ keeps everything that happened."""
    from labkit.lab.loader import load_lab
    from labkit.report.live import Follower
    from labkit.run.connect import check_on
    from labkit.run.folders import find_input, new_run_folder
    from labkit.run.gate import check_approval
    from labkit.run.parameters import declared, find_notebook
    from labkit.runbooks.execute import execute
    from labkit.runbooks.inputs import gather

    name = find_notebook(runbook).stem[3:]
    words = [_pair(text) for text in pairs]
    given = {"lab": str(lab) if lab else None, "on": on, "approve": approve}
    words += [(key, value) for key, value in given.items() if value is not None]
    values = gather(declared(name), file, words)
    check_on(str(values.get("on", "twin")))
    check_approval(str(values.get("approve", "")))
    lab_file = find_input(values.get("lab", LAB))
    load_lab(lab_file)
    values["lab"] = str(lab_file)
    folder = new_run_folder(name, near=lab_file)
    if as_json:
        ending = execute(name, values, folder)
    else:
        with Follower(folder) as follower:
            ending = execute(name, values, folder, listen=follower)
    if html:
        _report(ending.notebook)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "status": ending.status, **ending.summary}, indent=2))
    else:
        typer.echo(f"{folder}  ({ending.seconds:.1f} s)")
    if ending.error:
        typer.secho(f"error: {ending.error}", fg="red", err=True)
    raise typer.Exit(ending.status)


def rehearse(
    lab: Path = typer.Option(LAB, help="The lab file."),
    fault: list[str] = typer.Option(
        [], metavar="NAME", help="A fault that the twin starts with; `labkit twin faults` lists them."
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
            age_key=age_key, warn=lambda text: typer.secho(f"warning: {text}", fg="yellow", err=True), tell=tell,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        for ending in result.endings:
            mark = "ok  " if is_rehearsed(ending) else "FAIL"
            changes = ending.summary.get("changes", 0)
            left = ending.summary.get("second_plan_changes") or 0
            words = f"{counted(changes, 'change'):>11}, {left} left, {ending.seconds:5.1f} s"
            typer.echo(f"{mark} {ending.runbook:<18} {words}")
            if ending.error:
                typer.secho(ending.error, fg="red", err=True)
        typer.echo(f"{result.folder / 'index.html'}")
    if not result.ok:
        raise typer.Exit(next((e.status for e in result.endings if e.status), 1))


def _pair(text: str) -> tuple[str, str]:
    from labkit.errors import InputError, Mistake

    name, separator, value = text.partition("=")
    if not separator:
        raise InputError([Mistake("parameters", 0, 0, "-p", "NAME VALUE", repr(text))])
    return name.strip(), value


def _report(notebook: Path) -> None:
    from labkit.runbooks.execute import export_html

    page = export_html(notebook)
    page.rename(page.with_name("report.html"))
