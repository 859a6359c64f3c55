"""From `labkit schedule` to files: one job per lab, as units, as a block of a crontab, or as CronJobs."""

from __future__ import annotations

import getpass
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labkit.cron import CronError, parse_cron
from labkit.errors import InputError, Mistake
from labkit.facts.schedules import How
from labkit.lab import Lab
from labkit.lab.loader import load_lab
from labkit.lab.references import walk_references
from labkit.lab.types import NAME_PATTERN
from labkit.rules.app_files import listed
from labkit.rules.cronjob import SECRET, Folder, Part, cronjob_name, render_folder
from labkit.rules.crontab import crontab_block
from labkit.rules.portable import CONFIG, files_of, make_portable
from labkit.rules.scheduling import Job
from labkit.rules.timetable import parse_timetable
from labkit.rules.units import render_units
from labkit.run.connect import check_on
from labkit.run.folders import find_input, outputs_root
from labkit.run.gate import check_approval
from labkit.run.parameters import declared, find_notebook
from labkit.runbooks.inputs import gather
from labkit.systems.schedules import local_zone

_LONGEST = 52
"""The most characters of a CronJob's name."""
TELLS = "notify"
"""The parameter by which a runbook tells people of its findings itself: for its schedule they are no failure."""
_OWN = {"lab": "-f", "on": "--on"}


@dataclass(frozen=True)
class Asked:
    """What a person asked for; `labs` are lab files, of which kubernetes takes several."""

    runbook: str
    labs: tuple[Path, ...]
    every: str
    at: str = ""
    how: How = "systemd"
    zone: str = ""
    on: str = "twin"
    name: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    env_file: str = ""
    system: bool = False


@dataclass(frozen=True)
class InCluster:
    """What only CronJobs need."""

    image: str = ""
    namespace: str = "labkit"
    storage_class: str = ""
    secrets: bool = True


@dataclass(frozen=True)
class Planned:
    """A schedule of one lab: its job, its lab and lab file."""

    job: Job
    lab: Lab
    file: Path
    reads_only: bool


def plan_schedule(asked: Asked) -> tuple[Planned, ...]:
    """Check what was asked for, and return the job of each lab.

    Raises:
        InputError: with what was expected.
    """
    notebook = find_notebook(asked.runbook)
    runbook = notebook.stem[3:]
    check_on(asked.on)
    known = declared(runbook)
    _check_pairs(asked.pairs)
    values = gather(known, None, asked.pairs)
    when = parse_timetable(asked.every, asked.at)
    zone = _zone(asked)
    name = asked.name or runbook
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise _wrong("--name", "lower-case letters, digits and inner dashes", name)
    tells = any(one.name == TELLS for one in known) and values.get(TELLS, True) is True
    reads_only = all(one.name != "approve" for one in known)
    found = []
    for path in asked.labs:
        file = find_input(path)
        lab = load_lab(file)
        job = Job(
            name=name, lab=lab.name, runbook=runbook, on=asked.on, when=when, zone=zone, named=bool(asked.zone),
            program=_program(), folder=str(outputs_root(file).parent), lab_file=str(file),
            pairs=_words(asked, lab, tells=tells), env_file=_env_file(asked, lab),
            findings_ok=tells, quiet=(lab.messages.quiet or "") if lab.messages else "",
            quiet_zone=(lab.messages.zone or "") if lab.messages else "",
        )  # fmt: skip
        found.append(Planned(job, lab, file, reads_only))
    _check_labs(found)
    return tuple(found)


def _words(asked: Asked, lab: Lab, *, tells: bool) -> tuple[str, ...]:
    """The parameters; what a runbook can tell people, it tells them when nobody is looking."""
    given = [f"{key}={value}" for key, value in asked.pairs]
    more = tells and asked.on == "lab" and lab.messages is not None and TELLS not in dict(asked.pairs)
    return (*given, *([f"{TELLS}=true"] if more else []))


def unit_files(planned: Planned, *, system: bool) -> dict[str, str]:
    """Return the systemd units of a schedule."""
    return render_units(planned.job, user=getpass.getuser() if system else "")


def crontab_files(planned: Planned) -> dict[str, str]:
    """Return the block of a crontab, as a file."""
    return {f"{planned.job.unit}.crontab": crontab_block(planned.job)}


def cluster_files(some: Sequence[Planned], cluster: InCluster, folder: Path) -> dict[str, str]:
    """Return the files of an app folder with a CronJob per lab; the first lab's cluster is where they run.

    Raises:
        InputError: no image, a name that is too long, a file of the lab that is not there, a secret in clear.
    """
    if not cluster.image:
        raise InputError(
            [Mistake("schedule", 0, 0, "--image", "a container image with labkit, for --as kubernetes", "none")],
            next_step="build one from the Containerfile of labkit, push it to your registry, and name it",
        )
    if re.fullmatch(NAME_PATTERN, cluster.namespace) is None:
        raise _wrong("--namespace", "lower-case letters, digits and inner dashes", cluster.namespace)
    job = some[0].job
    app = Folder(
        name=f"labkit-{job.name}", namespace=cluster.namespace, image=cluster.image,
        storage_class=cluster.storage_class, secrets=cluster.secrets, encrypted=_has_secret(folder / SECRET),
    )  # fmt: skip
    parts = []
    for number, one in enumerate(some):
        lab = make_portable(one.lab, _texts(one.lab), reads_only=one.reads_only, inside=number == 0)
        inner = replace(one.job, lab_file=f"{CONFIG}/lab.yaml")
        parts.append(Part(inner, lab, inside=number == 0))
        name = cronjob_name(app, parts[-1], several=len(some) > 1)
        longest = _LONGEST - (len("-deliver") if inner.quiet else 0)
        if len(name) > longest:
            raise _wrong("--name", f"a name that makes a CronJob's of at most {longest} characters", name)
    return render_folder(app, parts)


def list_folder(folder: Path) -> Path | None:
    """Add an app folder to the kustomization above it that lists its neighbours; return it when it was changed."""
    above = folder.parent / "kustomization.yaml"
    if not above.is_file():
        return None
    text = above.read_text(encoding="utf-8")
    change = next(listed({above.name: text}, above.name, folder.name, wanted=True), None)
    if change is None or change.after is None:
        return None
    above.write_text(change.after, encoding="utf-8")
    return above


def _texts(lab: Lab) -> dict[str, str]:
    """The texts of the files that go along; what stands under known_hosts may be a text itself."""
    found = {}
    for where, text in files_of(lab):
        path = Path(text).expanduser()
        try:
            found[text] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            if where == "git.known_hosts" and " " in text:
                continue
            got = getattr(exc, "strerror", None) or "no text"
            expected = "a file that goes into the ConfigMap of the CronJob"
            raise InputError([Mistake(f"{where} of the lab file", 0, 0, text, expected, got)]) from exc
    return found


def _has_secret(path: Path) -> bool:
    if not path.is_file():
        return False
    if re.search(r"^sops:", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) is None:
        raise InputError([Mistake(str(path), 0, 0, "", "a Secret that sops has encrypted", "one in clear")],
                         next_step=f"sops --encrypt --in-place {path}")  # fmt: skip
    return True


def _check_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    for name, value in pairs:
        if name in _OWN:
            raise _wrong("-p", f"{_OWN[name]} for the parameter {name}", f"{name}={value}")
        if name == "approve":
            check_approval(value)
            if value not in ("", "safe"):
                expected = "approve= or approve=safe: nobody has seen the plan of a run to come"
                raise _wrong("-p", expected, f"approve={value}")


def _check_labs(found: Sequence[Planned]) -> None:
    names = [one.lab.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _wrong("-f", "labs of different names", f"{', '.join(twice)} twice")


def _zone(asked: Asked) -> str:
    if not asked.zone:
        return local_zone()
    try:
        parse_cron("@daily", asked.zone)
    except CronError as exc:
        raise _wrong("--zone", "a time zone, for example Europe/Berlin", asked.zone) from exc
    if asked.how == "cron" and asked.zone != local_zone():
        expected = f"no other zone than this machine's, {local_zone()}, which cron goes by"
        raise _wrong("--zone", expected, asked.zone)
    return asked.zone


def _env_file(asked: Asked, lab: Lab) -> str:
    """The file with variables, where the lab needs any; on the twin it needs none."""
    if asked.env_file:
        return str(Path(asked.env_file).expanduser().absolute())
    names = variables_of(lab) if asked.on == "lab" else ()
    return str(Path.home() / ".config" / "labkit" / f"{lab.name}.env") if names else ""


def variables_of(lab: Lab) -> tuple[str, ...]:
    """Return the names of the variables that a lab's references need."""
    found = {text.removeprefix("env:") for _, text in walk_references(lab) if text.startswith("env:")}
    return tuple(sorted(found))


def _program() -> tuple[str, ...]:
    script = Path(sys.executable).with_name("labkit")
    return (str(script),) if script.is_file() else (sys.executable, "-m", "labkit")


def _wrong(where: str, expected: str, got: str) -> InputError:
    return InputError([Mistake("schedule", 0, 0, where, expected, repr(got))])
