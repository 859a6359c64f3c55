"""The rehearsal: all runbooks in a row on one twin, with a page that tells how it went."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labkit.lab.loader import load_lab
from labkit.report.picture import draw_lab
from labkit.run.connect import TWIN_VARIABLE, ask_twin, open_twin, split_faults
from labkit.run.folders import new_run_folder
from labkit.run.parameters import declared, list_notebooks
from labkit.runbooks.execute import Ending, Listen, execute, export_html
from labkit.runbooks.inputs import gather
from labkit.runbooks.loss import Loss, compare
from labkit.runbooks.page import rehearsal_page

Told = Callable[[str], Listen | None]
_RECOVERY = "disaster-recovery"
_REPORT = "health-report"


@dataclass
class Rehearsal:
    """What a rehearsal was and how each of its runbooks ended."""

    lab: str
    folder: Path
    endings: list[Ending] = field(default_factory=list)
    seconds: float = 0.0
    loss: Loss | None = None
    """What was lost at the end and came back; None when it did not come to that."""

    @property
    def ok(self) -> bool:
        """Whether every runbook ended well and left nothing to change, and all that was backed up came back."""
        return all(is_rehearsed(ending) for ending in self.endings) and (self.loss is None or self.loss.ok)

    def to_dict(self) -> dict[str, Any]:
        """Return the rehearsal in the form of summary.json."""
        return {
            "lab": self.lab,
            "ok": self.ok,
            "seconds": round(self.seconds, 2),
            "runbooks": [_row(ending) for ending in self.endings],
            "loss": self.loss.to_dict() if self.loss is not None else None,
        }


def is_rehearsed(ending: Ending) -> bool:
    """Whether a runbook ended well and planning again after it left nothing to do."""
    return ending.ok and not ending.summary.get("second_plan_changes")


def rehearse(
    lab_file: Path,
    *,
    faults: Sequence[str] = (),
    seed: int = 1,
    scale: float | None = None,
    repo: str = "",
    repo_branch: str = "",
    age_key: str = "",
    kill: int = 0,
    warn: Callable[[str], None] = lambda _text: None,
    tell: Told = lambda _runbook: None,
) -> Rehearsal:
    """Run all runbooks in the order of their numbers on one new twin of a lab; stop after the first that fails.

    In the end everything is lost: the apps write, the nightly jobs back their volumes up, the apps write on, then all
    machines go with their disks, disaster-recovery brings the lab back, and what is there is held against what was
    backed up. The last word has a health report on what came back.
    A runbook takes its parameters from `<its name>.yaml` beside the lab file, when there is one.

    Args:
        lab_file: the lab.
        faults: names of faults that the twin starts with; see `split_faults` for those that come with the loss.
        seed: the twin's seed.
        scale: real seconds for one of the twin's; its own default when None.
        repo: a repository, by path or URL, that the twin's Git host serves in place of the example.
        repo_branch: its branch; the one that it is on when empty.
        age_key: a reference to the age key that opens that repository's secrets; the twin makes one when empty.
        kill: kill the recovery after that many lines of its journal, and run it again; 0 lets it live.
        warn: is told what will go wrong later.
        tell: is called with each runbook's name before it starts; returns who listens to its journal.
    """
    lab = load_lab(lab_file)
    early, late = split_faults(lab, faults)
    opened = open_twin(
        lab_file, faults=early, seed=seed, scale=scale, repo=repo, repo_branch=repo_branch, age_key=age_key, warn=warn
    )
    with opened as twin, ThreadPoolExecutor(1) as exporter:
        folder = new_run_folder("rehearsal", near=lab_file)
        row = _Row(Rehearsal(lab.name, folder), lab_file, twin, tell, exporter)
        rehearsal = row.rehearsal
        if all(row.run(name) for name in list_notebooks()) and _RECOVERY in list_notebooks():
            rehearsal.loss = row.lose_everything(late, kill)
            if rehearsal.ok and _REPORT in list_notebooks():  # what a fault of the loss left behind is no failure
                row.run(_REPORT, f"{_REPORT} (of what came back)", fail_on="never" if late else "")
        for page in row.pages:
            page.result()
    (folder / "summary.json").write_text(json.dumps(rehearsal.to_dict(), indent=2), encoding="utf-8")
    runs = [ending.summary for ending in rehearsal.endings]
    index = rehearsal_page(rehearsal.to_dict(), runs, draw_lab(lab).png())
    (folder / "index.html").write_text(index, encoding="utf-8")
    return rehearsal


@dataclass
class _Row:
    """The runbooks of one rehearsal, one after the other on one twin."""

    rehearsal: Rehearsal
    lab_file: Path
    twin: Path
    tell: Told
    exporter: ThreadPoolExecutor
    pages: list[Future[Path]] = field(default_factory=list)

    def run(self, name: str, title: str = "", **given: str) -> bool:
        """Run one, by the title that it has in this row, and keep how it ended; return whether to go on."""
        ending = self._execute(name, title or name, self.tell(title or name), given)
        self._keep(ending, title or name)
        return is_rehearsed(ending)

    def lose_everything(self, faults: Sequence[str], kill: int) -> Loss:
        """Have data written, backed up by the nightly jobs, and written on; destroy everything; recover; compare."""
        ask_twin(self.twin, "data", what="write")
        ask_twin(self.twin, "night")
        ask_twin(self.twin, "data", what="write")
        past = ask_twin(self.twin, "destroy")
        for name in faults:
            ask_twin(self.twin, "fault", name=name)
        notes = [f"fault {name}" for name in faults]
        if kill:
            notes.append(self._killed(kill))
        self.run(_RECOVERY, f"{_RECOVERY} (everything lost)", **self._all())
        return Loss(compare(past, ask_twin(self.twin, "data", what="read")), tuple(notes))

    def _all(self) -> dict[str, str]:
        return {"scope": "lab", "confirm": self.rehearsal.lab}

    def _killed(self, lines: int) -> str:
        """Run the recovery, kill it on the way, and say so; it does not count as an end."""
        killer = Killer(self.twin, lines, self.tell(f"{_RECOVERY} (to be killed)"))
        ending = self._execute(_RECOVERY, f"{_RECOVERY} (killed)", killer, self._all())
        self.rehearsal.seconds += ending.seconds
        return f"killed after line {lines} of its journal, then run again" if killer.struck else "it ended before that"

    def _execute(self, name: str, title: str, listen: Listen | None, given: Mapping[str, str]) -> Ending:
        known = declared(name)
        file = self.lab_file.with_name(f"{name}.yaml")
        pairs = [("lab", str(self.lab_file)), ("on", "twin"), *_stand_in(name, self.lab_file), *given.items()]
        values = gather(known, file if file.exists() else None, pairs)
        folder = self.rehearsal.folder / "-".join(re.findall(r"[\w-]+", title))
        return execute(name, values, folder, environment={TWIN_VARIABLE: str(self.twin)}, listen=listen)

    def _keep(self, ending: Ending, title: str) -> None:
        self.rehearsal.endings.append(replace(ending, runbook=title))
        self.rehearsal.seconds += ending.seconds
        self.pages.append(self.exporter.submit(export_html, ending.notebook))


class Killer:
    """Kill whoever holds the lab's lock, as the kernel does that runs out of memory, once so many events have come."""

    def __init__(self, twin: Path, lines: int, listen: Listen | None) -> None:
        self._lock = twin / "labkit" / "run.lock"
        self._lines = lines
        self._listen = listen
        self.struck = False

    def __call__(self, event: dict[str, Any]) -> None:
        """Count an event, pass it on, and kill."""
        if self._listen is not None:
            self._listen(event)
        self._lines -= 1
        if self._lines > 0 or self.struck:
            return
        try:
            os.kill(int(json.loads(self._lock.read_text())["pid"]), signal.SIGKILL)
        except (OSError, ValueError, KeyError):
            return  # nothing is being applied: the next event is soon enough
        self.struck = True


def _stand_in(name: str, lab_file: Path) -> list[tuple[str, str]]:
    """Return an app to add for a lab that describes none of its own."""
    if name != "add-app" or any(lab_file.parent.glob("apps/*.yaml")):
        return []
    host = f"rehearsed.{load_lab(lab_file).domain}"
    return [("name", "rehearsed"), ("image", "docker.io/traefik/whoami:v1.11.0"), ("port", "80"), ("host", host),
            ("authentication", "forward"), ("replicas", "1")]  # fmt: skip


def _row(ending: Ending) -> dict[str, Any]:
    second = ending.summary.get("second_plan_changes")
    return {
        "name": ending.runbook,
        "ok": is_rehearsed(ending),
        "seconds": round(ending.seconds, 2),
        "changes": ending.summary.get("changes", 0),
        "second_plan_changes": second if second is not None else 0,
        "notebook": str(Path(ending.notebook.parent.name) / ending.notebook.name),
        "error": ending.error or None,
    }
