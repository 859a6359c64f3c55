"""The rehearsal: all runbooks in a row on one twin, with a page that tells how it went."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.lab.loader import load_lab
from labkit.report.picture import draw_lab
from labkit.run.connect import TWIN_VARIABLE, open_twin
from labkit.run.folders import new_run_folder
from labkit.run.parameters import declared, list_notebooks
from labkit.runbooks.execute import Ending, Listen, execute, export_html
from labkit.runbooks.inputs import gather
from labkit.runbooks.page import rehearsal_page

Told = Callable[[str], Listen | None]


@dataclass
class Rehearsal:
    """What a rehearsal was and how each of its runbooks ended."""

    lab: str
    folder: Path
    endings: list[Ending] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every runbook ended well and left nothing to change."""
        return all(is_rehearsed(ending) for ending in self.endings)

    def to_dict(self) -> dict[str, Any]:
        """Return the rehearsal in the form of summary.json."""
        return {
            "lab": self.lab,
            "ok": self.ok,
            "seconds": round(self.seconds, 2),
            "runbooks": [_row(ending) for ending in self.endings],
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
    warn: Callable[[str], None] = lambda _text: None,
    tell: Told = lambda _runbook: None,
) -> Rehearsal:
    """Run all runbooks in the order of their numbers on one new twin of a lab; stop after the first that fails.

    A runbook takes its parameters from `<its name>.yaml` beside the lab file, when there is one.

    Args:
        lab_file: the lab.
        faults: names of faults that the twin starts with.
        seed: the twin's seed.
        scale: real seconds for one of the twin's; its own default when None.
        repo: a repository, by path or URL, that the twin's Git host serves in place of the example.
        repo_branch: its branch; the one that it is on when empty.
        age_key: a reference to the age key that opens that repository's secrets; the twin makes one when empty.
        warn: is told what will go wrong later.
        tell: is called with each runbook's name before it starts; returns who listens to its journal.
    """
    lab = load_lab(lab_file)
    opened = open_twin(
        lab_file, faults=faults, seed=seed, scale=scale, repo=repo, repo_branch=repo_branch, age_key=age_key, warn=warn
    )
    with opened as twin, ThreadPoolExecutor(1) as exporter:
        folder = new_run_folder("rehearsal", near=lab_file)
        rehearsal = Rehearsal(lab.name, folder)
        pages: list[Future[Path]] = []
        for name in list_notebooks():
            ending = _run_one(name, lab_file, folder / name, twin, tell(name))
            rehearsal.endings.append(ending)
            rehearsal.seconds += ending.seconds
            pages.append(exporter.submit(export_html, ending.notebook))
            if not is_rehearsed(ending):
                break
        for page in pages:
            page.result()
    (folder / "summary.json").write_text(json.dumps(rehearsal.to_dict(), indent=2), encoding="utf-8")
    runs = [ending.summary for ending in rehearsal.endings]
    index = rehearsal_page(rehearsal.to_dict(), runs, draw_lab(lab).png())
    (folder / "index.html").write_text(index, encoding="utf-8")
    return rehearsal


def _run_one(name: str, lab_file: Path, folder: Path, twin: Path, listen: Listen | None) -> Ending:
    known = declared(name)
    file = lab_file.with_name(f"{name}.yaml")
    given = [("lab", str(lab_file)), ("on", "twin"), *_stand_in(name, lab_file)]
    values = gather(known, file if file.exists() else None, given)
    return execute(name, values, folder, environment={TWIN_VARIABLE: str(twin)}, listen=listen)


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
