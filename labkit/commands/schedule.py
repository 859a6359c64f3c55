"""`labkit schedule`: write or install schedules of runbooks, list them, and notice runs that are missing or failed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from labkit.facts.schedules import Schedule
    from labkit.lab import Lab
    from labkit.plan import Finding
    from labkit.runbooks.scheduling import Asked, Planned
    from labkit.systems.access import Access

LAB = Path("parameters/lab.yaml")


class As(StrEnum):
    """What a schedule is made of."""

    SYSTEMD = "systemd"
    CRON = "cron"
    KUBERNETES = "kubernetes"


def mount(app: typer.Typer) -> None:
    """Add the command to the main command."""
    app.command("schedule")(schedule)


def schedule(
    runbook: Annotated[str, typer.Argument(help="Its name, for example health-report.")] = "",
    every: Annotated[str, typer.Option(help="hour, day, workday, week, monday ..., month, 6h, 15m.")] = "",
    at: Annotated[str, typer.Option(help="A time of day such as 06:30; a minute such as :30 for hours.")] = "",
    how: Annotated[As, typer.Option("--as", help="What to write.")] = As.SYSTEMD,
    file: Annotated[list[Path] | None, typer.Option("-f", "--file", "--lab", help="The lab file; several too.")] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="NAME VALUE", help="One parameter; NAME=VALUE too.")
    ] = None,
    on: Annotated[str, typer.Option(help="twin (the default) or lab.")] = "twin",
    name: Annotated[str, typer.Option(help="A name, for a second schedule of a runbook.")] = "",
    zone: Annotated[str, typer.Option(help="Of the times; the machine's own when not given.")] = "",
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the files there.")] = None,
    install: Annotated[bool, typer.Option("--install", help="Install it on this machine; needs --on lab.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take an installed schedule out again.")] = False,
    system: Annotated[bool, typer.Option("--system", help="Units of the system, not of the user.")] = False,
    env_file: Annotated[str, typer.Option(help="A file with the variables of env: references.")] = "",
    image: Annotated[str, typer.Option(help="For kubernetes: a container image with labkit.")] = "",
    namespace: Annotated[str, typer.Option(help="For kubernetes.")] = "labkit",
    storage_class: Annotated[str, typer.Option(help="For kubernetes: of the volume; the default one's.")] = "",
    without_secrets: Annotated[bool, typer.Option("--without-secrets", help="No role that reads Secrets.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List the schedules with their last and next runs.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a run is missing or failed.")] = False,
    tell: Annotated[bool, typer.Option("--tell", help="With --check: tell the places of the lab file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a systemd timer, a crontab line or a Kubernetes CronJob that runs a runbook; or list and check them."""
    labs = tuple(file or [LAB])
    if list_all or check:
        _look(labs, check=check, tell=tell, as_json=as_json)
        return
    from labkit.runbooks.scheduling import Asked, InCluster

    asked = Asked(runbook=_needed(runbook, "RUNBOOK", "a runbook, or --list or --check"), labs=labs,
                  every=every, at=at, how=how.value, zone=zone, on=on, name=name, env_file=env_file, system=system,
                  pairs=tuple(_pair(text) for text in pairs or ()))  # fmt: skip
    if remove:
        _remove(asked)
        return
    _needed(every, "--every", "how often it runs, for example day")
    _check_install(asked, install=install, output=output)
    if how is As.KUBERNETES:
        cluster = InCluster(image, namespace, storage_class, secrets=not without_secrets)
        _write_cluster(asked, cluster, output)
    elif install:
        _install(asked)
    else:
        _write(asked, output)


def _needed(value: str, where: str, expected: str) -> str:
    from labkit.errors import InputError, Mistake

    if not value:
        raise InputError([Mistake("schedule", 0, 0, where, expected, "none")])
    return value


def _pair(text: str) -> tuple[str, str]:
    from labkit.commands.runbooks import pair

    return pair(text)


def _check_install(asked: Asked, *, install: bool, output: Path | None) -> None:
    from labkit.errors import InputError, Mistake

    mistakes = []
    if install and asked.how == "kubernetes":
        mistakes.append(
            Mistake("schedule", 0, 0, "--install", "systemd or cron: Flux installs what is in Git", asked.how)
        )
    if install and asked.on != "lab":
        mistakes.append(Mistake("schedule", 0, 0, "--install", "--on lab beside it", f"--on {asked.on}"))
    if install and output is not None:
        mistakes.append(Mistake("schedule", 0, 0, "--output", "either --install or --output", "both"))
    if asked.system and asked.how != "systemd":
        mistakes.append(Mistake("schedule", 0, 0, "--system", "--as systemd beside it", f"--as {asked.how}"))
    if len(asked.labs) > 1 and asked.how != "kubernetes" and not install and output is not None:
        mistakes.append(Mistake("schedule", 0, 0, "-f", "one lab for one folder", f"{len(asked.labs)} of them"))
    if mistakes:
        raise InputError(mistakes)


def _default_folder(planned: Planned, how: str) -> Path:
    from labkit.run.folders import outputs_root

    return outputs_root(planned.file) / "schedules" / how / planned.job.unit


def _write(asked: Asked, output: Path | None) -> None:
    from labkit.runbooks.scheduling import crontab_files, plan_schedule, unit_files
    from labkit.systems.timers import write_files

    for planned in plan_schedule(asked):
        systemd = asked.how == "systemd"
        files = unit_files(planned, system=asked.system) if systemd else crontab_files(planned)
        folder = output or _default_folder(planned, asked.how)
        write_files(folder, files)
        _say_written(folder, files)
        typer.echo("install it with the same command and --install")
        _say_variables(planned)


def _install(asked: Asked) -> None:
    from labkit.rules.crontab import put_block
    from labkit.rules.units import timers
    from labkit.run.connect import state_dir
    from labkit.run.folders import outputs_root
    from labkit.run.scheduled import remember
    from labkit.runbooks.scheduling import plan_schedule, unit_files
    from labkit.systems.schedules import parse_given
    from labkit.systems.timers import edit_crontab, install_units

    for planned in plan_schedule(asked):
        job = planned.job
        if asked.how == "systemd":
            units = unit_files(planned, system=asked.system)
            changed = bool(install_units(units, timers(units), system=asked.system))
        else:
            changed = edit_crontab(partial(put_block, job=job))
        remember(
            state_dir(job.lab), parse_given(job.given(asked.how)), runbook=job.runbook, on=job.on,
            lab_file=planned.file, outputs=outputs_root(planned.file), findings_ok=job.findings_ok,
        )  # fmt: skip
        word = "installed" if changed else "installed already"
        typer.echo(f"{job.lab}/{job.name}: {word}, {job.when.words} ({job.zone}), as {asked.how}")
        if asked.how == "systemd" and not asked.system:
            typer.echo("it runs while you are logged in; `loginctl enable-linger` lets it run at any time")
        _say_variables(planned)


def _remove(asked: Asked) -> None:
    from labkit.lab.loader import load_lab
    from labkit.rules.crontab import remove_block
    from labkit.run.connect import state_dir
    from labkit.run.folders import find_input
    from labkit.run.parameters import find_notebook
    from labkit.systems.schedules import record_file
    from labkit.systems.timers import edit_crontab, remove_units

    name = asked.name or find_notebook(asked.runbook).stem[3:]
    for path in asked.labs:
        lab = load_lab(find_input(path))
        unit = f"labkit-{lab.name}-{name}"
        if asked.how == "systemd":
            names = [f"{unit}.timer", f"{unit}.service", f"{unit}-failed.service"]
            gone = bool(remove_units(names, system=asked.system))
        elif asked.how == "cron":
            gone = edit_crontab(partial(remove_block, lab=lab.name, name=name))
        else:
            gone = False
        record = record_file(state_dir(lab.name), name)
        gone = record.is_file() or gone
        record.unlink(missing_ok=True)
        typer.echo(f"{lab.name}/{name}: {'removed' if gone else 'there was none'}")


def _write_cluster(asked: Asked, cluster: object, output: Path | None) -> None:
    from labkit.runbooks.scheduling import InCluster, cluster_files, list_folder, plan_schedule
    from labkit.systems.timers import write_files

    assert isinstance(cluster, InCluster)  # noqa: S101  # narrows the type that the lazy import hides
    some = plan_schedule(asked)
    folder = output or _default_folder(some[0], asked.how)
    files = cluster_files(some, cluster, folder)
    write_files(folder, files)
    _say_written(folder, files)
    if listed := list_folder(folder):
        typer.echo(f"{listed}: lists {folder.name}")
    if "secret.yaml.template" in files and "- secret.yaml" not in files["kustomization.yaml"]:
        typer.echo(f"fill in and encrypt {folder / 'secret.yaml.template'}: it says how; then write the schedule again")


def _say_written(folder: Path, files: dict[str, str]) -> None:
    for name in files:
        typer.echo(str(folder / name))


def _say_variables(planned: Planned) -> None:
    from labkit.runbooks.scheduling import variables_of

    names = variables_of(planned.lab)
    if names and planned.job.env_file and planned.job.on == "lab":
        lines = ", ".join(f"{name}='...'" for name in names)
        typer.echo(f"put {lines} into {planned.job.env_file}, a line each, and chmod 600 it")


def _look(labs: tuple[Path, ...], *, check: bool, tell: bool, as_json: bool) -> None:
    from labkit.checks.schedules import findings_of
    from labkit.lab.loader import load_lab
    from labkit.run.connect import connect
    from labkit.run.folders import find_input
    from labkit.run.scheduled import tell as tell_people
    from labkit.systems.schedules import read_schedules

    found: list[Seen] = []
    for path in labs:
        lab_file = find_input(path)
        lab = load_lab(lab_file)
        access = connect(lab, lab_file, on="lab", scenario="").access
        facts = read_schedules(lab, access)
        schedules = (*facts.schedules, *_cronjobs(lab, access))
        mine = [Seen(one, tuple(findings_of(one, facts.read_at)), facts.read_at) for one in schedules]
        found += mine
        if tell:
            for seen in mine:
                typer.echo(f"{seen.schedule.where}: {tell_people(lab, access, seen.schedule, seen.findings)}")
    _show_json(found) if as_json else _show(found, with_times=not check)
    if check and any(seen.findings for seen in found):
        raise typer.Exit(1)


def _cronjobs(lab: Lab, access: Access) -> tuple[Schedule, ...]:
    """The CronJobs of a lab whose cluster this user can open."""
    from labkit.errors import SystemDown

    if not access.path(lab.k3s.kubeconfig).is_file():
        return ()
    from labkit.systems.k3s.kubeconfig import stored_credentials
    from labkit.systems.schedules import read_cronjobs

    if stored_credentials(lab, access) is None:
        return ()
    try:
        return read_cronjobs(lab, access)
    except SystemDown as exc:
        typer.secho(f"{exc.message.splitlines()[0]}; CronJobs were not looked at", fg="yellow", err=True)
        return ()


@dataclass(frozen=True)
class Seen:
    """A schedule, what is wrong with it, and when it was looked at."""

    schedule: Schedule
    findings: tuple[Finding, ...]
    now: datetime


def _show(found: list[Seen], *, with_times: bool) -> None:
    from labkit.checks.schedules import next_due

    if not found:
        typer.echo("no schedules: `labkit schedule RUNBOOK --every day --at 06:30` writes one")
    for seen in found:
        one = seen.schedule
        typer.secho(f"{one.where}", bold=True, nl=False)
        times = {"last": one.started, "last good": one.success, "next": next_due(one, seen.now)}
        words = ", ".join(f"{name} {_moment(time)}" for name, time in times.items()) if with_times else ""
        state = ("running" if one.running else "fine") if not seen.findings else ""
        typer.echo("  " + "; ".join(filter(None, (f"{one.runbook} as {one.how}", words, state))))
        for finding in seen.findings:
            typer.secho(f"  {finding.severity}: {finding}", fg="red" if finding.severity == "error" else "yellow")


def _show_json(found: list[Seen]) -> None:
    from labkit.checks.schedules import next_due

    rows = []
    for seen in found:
        due = next_due(seen.schedule, seen.now)
        rows.append({
            **seen.schedule.model_dump(mode="json"), "next": due.isoformat() if due is not None else None,
            "findings": [finding.model_dump(mode="json") for finding in seen.findings],
        })  # fmt: skip
    typer.echo(json.dumps(rows, indent=2))


def _moment(time: datetime | None) -> str:
    return time.astimezone().isoformat(sep=" ", timespec="minutes") if time is not None else "never"
