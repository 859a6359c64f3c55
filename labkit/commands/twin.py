"""`labkit twin`: keep a twin of the lab in the background, look at it, break it, end it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from labkit.twin.client import TwinHandle

_VARIABLE = "LABKIT_TWIN"
app = typer.Typer(
    name="twin", help="Keep a twin of the lab in the background.", no_args_is_help=True, rich_markup_mode=None
)

State = Annotated[Path | None, typer.Option("--state", help="The twin's folder; LABKIT_TWIN or the usual one else.")]
Lab = Annotated[Path, typer.Option("--lab", help="The lab file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def up(
    lab: Lab = Path("parameters/lab.yaml"),
    scenario: Annotated[
        str, typer.Option(help="The state that it starts in: empty, provisioned, k3s, flux, running, ailing, disaster.")
    ] = "empty",
    fault: Annotated[list[str] | None, typer.Option(help="A fault that is on from the start; repeatable.")] = None,
    scale: Annotated[float | None, typer.Option(help="Real seconds for one second of the twin.")] = None,
    seed: Annotated[int, typer.Option(help="What ids, keys and addresses depend on.")] = 1,
    proxmox: Annotated[str, typer.Option(help="The version of Proxmox: 8.4 or 9.1.")] = "9.1",
    repo: Annotated[str, typer.Option(help="A repository (path or URL) to serve a copy of; the example else.")] = "",
    repo_branch: Annotated[str, typer.Option(help="The branch of it; its current one else.")] = "",
    age_key: Annotated[
        str, typer.Option(metavar="REFERENCE", help="The age key of that repository: file:..., env:..., keyring:...")
    ] = "",
    state: State = None,
) -> None:
    """Start a twin that stays, until `labkit twin down`."""
    from labkit.errors import Refused
    from labkit.lab.loader import load_lab
    from labkit.run.connect import owner_age_key, say_unreadable
    from labkit.run.folders import find_input
    from labkit.twin.client import DEFAULT_SCALE, start_twin
    from labkit.twin.options import VERSIONS

    lab = find_input(lab)
    load_lab(lab)
    _one_of("--scenario", scenario, _scenarios())
    _one_of("--proxmox", proxmox, VERSIONS)
    folder = _folder(state)
    if (running := _running(folder)) is not None:
        raise Refused(
            f"twin {folder}: expected none, got one of lab {running.lab} that runs already",
            next_step="labkit twin down, or another folder with --state",
        )
    twin = start_twin(
        lab, state=folder, scenario=scenario, seed=seed, scale=DEFAULT_SCALE if scale is None else scale,
        faults=fault or (), proxmox="8.4" if proxmox == "8.4" else "9.1",
        repo=repo, repo_branch=repo_branch, age_key=owner_age_key(age_key),
    )  # fmt: skip
    if said := say_unreadable(twin.unreadable):
        typer.secho(f"warning: {said}", fg="yellow", err=True)
    typer.echo(f"The twin of {twin.lab} is up: scenario {scenario}, {twin.scale:g} s for each of its seconds.")
    typer.echo(f"Let runbooks and notebooks join it:\n\n  export {_VARIABLE}={twin.state}\n")
    typer.echo("Look at it with `labkit twin status`, end it with `labkit twin down`.")


@app.command()
def down(state: State = None) -> None:
    """End the twin and delete its folder."""
    folder = _folder(state)
    twin = _running(folder)
    if twin is None:
        typer.echo(f"No twin runs in {folder}.")
        return
    twin.stop(remove=True)
    typer.echo(f"The twin of {twin.lab} has ended.")


@app.command()
def status(state: State = None, as_json: Json = False) -> None:
    """Show what the twin is, what was asked of it, and which faults are on."""
    from labkit.twin.client import join_twin

    seen = join_twin(_folder(state)).status()
    if as_json:
        typer.echo(json.dumps(seen, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("System", "Requests", "Writes"):
        table.add_column(head, justify="left" if head == "System" else "right")
    for system, count in seen["requests"].items():
        table.add_row(system, str(count), str(seen["writes"][system]))
    console, clones = Console(highlight=False), seen["clones"]
    console.print(f"Twin of {seen['lab']}: scenario {seen['scenario']}, Proxmox {seen['proxmox']}")
    console.print(table)
    console.print(f"Clones: {clones['count']}, at most {clones['side_by_side']} side by side. ", end="")
    console.print(f"Up for {seen['uptime']:.0f} s, {seen['scale']:g} s for each of its seconds.")
    console.print("Faults: " + (", ".join(seen["faults"]) or "none"), markup=False)


@app.command()
def destroy(state: State = None) -> None:
    """Have all machines lost with their disks and the cluster; Git, your own files and the NAS stay."""
    from labkit.twin.client import join_twin

    twin = join_twin(_folder(state))
    lost, backups = twin.destroy()["end"], twin.past()["backups"]
    kept = sum(volume in backups for volume in lost)
    typer.echo(f"Everything is lost: {len(lost)} volumes with data, {kept} of them with a backup on the NAS.")
    typer.echo("Bring it back with `labkit run disaster-recovery`, on this twin.")


@app.command()
def faults(as_json: Json = False) -> None:
    """List the faults that a twin can have."""
    from labkit.twin.faults import FAULTS

    known = sorted(FAULTS.values(), key=lambda fault: fault.name)
    if as_json:
        rows = [{"name": one.name, "form": one.form, "lasts": one.duration, "what": one.sentence} for one in known]
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="labkit twin fault NAME, labkit twin clear NAME")
    for head in ("Name", "Lasts", "What happens"):
        table.add_column(head, no_wrap=head == "Name")
    for one in known:
        table.add_row(one.form.replace("[", "\\["), one.duration, one.sentence)
    Console().print(table)


@app.command()
def ailments(as_json: Json = False) -> None:
    """List what can be wrong with a lab, for the fault `ailing:NAME`, and the health check that must find it."""
    from labkit.twin.ailments import AILMENTS

    known = sorted(AILMENTS.values(), key=lambda one: (one.finds, one.name))
    if as_json:
        typer.echo(json.dumps([{"name": one.name, "check": one.finds[0]} for one in known], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("Name", "Check that finds it", title="labkit twin fault ailing:NAME")
    for one in known:
        table.add_row(one.name, one.finds[0])
    Console().print(table)


@app.command("fault")
def set_fault(
    name: Annotated[str, typer.Argument(help="NAME or NAME:ARGUMENT, see `labkit twin faults`.")], state: State = None
) -> None:
    """Switch a fault on."""
    from labkit.twin.client import join_twin
    from labkit.twin.faults import parse_fault

    known = parse_fault(name).fault
    join_twin(_folder(state)).fault(name)
    typer.echo(f"{name}: {known.sentence} It lasts: {known.duration}.")


@app.command("clear")
def clear_fault(
    name: Annotated[str, typer.Argument(help="The fault as it was set, or its bare name for all of that name.")],
    state: State = None,
) -> None:
    """Switch a fault off."""
    from labkit.twin.client import join_twin

    was_on = join_twin(_folder(state)).clear(name)
    typer.echo(f"{name} is off." if was_on else f"{name} was not on.")


def _folder(state: Path | None) -> Path:
    """Return the folder that is asked for, else that of LABKIT_TWIN, else the usual one."""
    if state is not None:
        return state
    if given := os.environ.get(_VARIABLE):
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "labkit" / "twin"


def _running(folder: Path) -> TwinHandle | None:
    from labkit.errors import SystemDown
    from labkit.twin.client import join_twin

    try:
        return join_twin(folder)
    except SystemDown:
        return None


def _scenarios() -> tuple[str, ...]:
    from labkit.twin.options import SCENARIOS

    return SCENARIOS


def _one_of(option: str, given: str, known: tuple[str, ...]) -> None:
    from labkit.errors import InputError, Mistake

    if given not in known:
        raise InputError([Mistake("labkit twin up", 0, 0, option, " or ".join(known), given)])
