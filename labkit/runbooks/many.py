"""One runbook on many labs side by side: each in a process and a folder of its own, and a page over all of them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from labkit.errors import StepFailed, counted
from labkit.health import Light
from labkit.process import run_program
from labkit.redaction import redact
from labkit.report.html import STYLE
from labkit.run.folders import OUTPUT_VARIABLE

_LONGEST = 24 * 3600.0
_PAGES = ("health.html", "report.html")
_MARKS: Mapping[Light, tuple[str, str, str]] = {
    Light.ACT: ("■", "bad", "needs you"), Light.UNKNOWN: ("?", "warn", "unknown"),
    Light.LOOK: ("▲", "warn", "worth a look"), Light.GOOD: ("●", "good", "well"),
}  # fmt: skip
"""The sign of a light, its class, and its word: no color alone says anything. The worst first."""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>{style}
<style>:root {{color-scheme: light dark}}
body.labkit {{margin: 2.5rem auto; padding: 0 1rem; max-width: 60rem; font-size: 15px}}
h1 {{font-size: 1.5rem; margin: 0 0 .2em}} td.light {{white-space: nowrap}}</style></head>
<body class="labkit"><h1>{title}</h1><p>{lead}</p>
<table><thead><tr><th></th><th>lab</th><th></th><th>ended</th><th>status</th></tr></thead>
<tbody>{rows}</tbody></table>
</body></html>
"""


@dataclass(frozen=True)
class Order:
    """One lab to run on: its name for people, and the words after `labkit run RUNBOOK`."""

    lab: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """How the runbook ended on one lab.

    Attributes:
        lab: its name.
        status: the exit status.
        seconds: how long it took; 0 when nobody measured.
        folder: of the run; None when it did not come that far.
        summary: what the run wrote into its summary.json.
        error: the message that ended it.
    """

    lab: str
    status: int
    seconds: float = 0.0
    folder: Path | None = None
    summary: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def _health(self) -> Mapping[str, Any]:
        """What a health report says of itself in its summary."""
        found = (self.summary or {}).get("health")
        return found if isinstance(found, dict) else {}

    @property
    def light(self) -> Light:
        """What the runbook says itself; else what its findings and its end say."""
        if self.status in (0, 1) and self._health.get("light") in [*Light]:
            return Light(self._health["light"])
        severities = {finding.get("severity") for finding in (self.summary or {}).get("findings") or ()}
        if self.status != 0 or "error" in severities:
            return Light.ACT
        return Light.LOOK if "warning" in severities else Light.GOOD

    @property
    def sentence(self) -> str:
        """What a person must know of it, in one line."""
        if self.status in (0, 1) and self._health.get("sentence"):
            return str(self._health["sentence"])
        if self.error:
            return self.error.splitlines()[0]
        summary = self.summary or {}
        found = [finding.get("severity") for finding in summary.get("findings") or ()]
        counts = [counted(found.count(kind), kind) for kind in ("error", "warning") if kind in found]
        changes = summary.get("changes") or 0
        return ", ".join([*counts, *([counted(changes, "change")] if changes else [])]) or "nothing to report"

    @property
    def page(self) -> Path | None:
        """The page that tells more: the report, the notebook as a page, the notebook, the folder."""
        if self.folder is None:
            return None
        for pattern in (*_PAGES, "[0-9][0-9]-*.html", "[0-9][0-9]-*.ipynb"):
            if found := sorted(self.folder.glob(pattern)):
                return found[0]
        return self.folder

    def to_dict(self) -> dict[str, Any]:
        """Return it in the form of summary.json."""
        return {"lab": self.lab, "status": self.status, "seconds": round(self.seconds, 2), "light": self.light,
                "sentence": self.sentence, "folder": str(self.folder) if self.folder else None}  # fmt: skip


def run_many(
    runbook: str, orders: Sequence[Order], *, width: int, tell: Callable[[Ended], None] = lambda _one: None
) -> tuple[Ended, ...]:
    """Run a runbook on many labs, at most `width` at once; what happens on one stops no other.

    Args:
        runbook: its name.
        orders: the labs.
        width: how many run at once.
        tell: is called with each that has ended.
    """

    def one(order: Order) -> Ended:
        ended = _run(runbook, order)
        tell(ended)
        return ended

    with ThreadPoolExecutor(max_workers=max(1, min(width, len(orders)))) as pool:
        return tuple(pool.map(one, orders))


def worst_status(ended: Sequence[Ended]) -> int:
    """Return the exit status of them all: the highest."""
    return max((one.status for one in ended), default=0)


def write_overview(folder: Path, runbook: str, ended: Sequence[Ended]) -> Path:
    """Write index.html and summary.json over all labs into a folder; return the page."""
    rows = [one.to_dict() for one in ended]
    (folder / "summary.json").write_text(redact(json.dumps({"labs": rows}, indent=2)), encoding="utf-8")
    page = folder / "index.html"
    _replace(page, overview_page(runbook, ended, folder))
    return page


def refresh_overview(page: Path, runbook: str) -> None:
    """Write the page over the latest run of a runbook on every lab whose outputs are beside it, or one below."""
    folder = page.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    latest: dict[str, Ended] = {}
    roots = [folder / "outputs", *sorted(folder.glob("*/outputs"))]
    for path in sorted((one for root in roots for one in root.glob("*Z-*/summary.json")), key=lambda p: p.parent.name):
        ended = _of_folder(path, runbook)
        if ended is not None:
            latest[ended.lab] = ended
    _replace(page, overview_page(runbook, [latest[name] for name in sorted(latest)], folder))


def overview_page(runbook: str, ended: Sequence[Ended], folder: Path) -> str:
    """Return the page: a light, a sentence and a link for each lab, the worst first."""
    rows = sorted(ended, key=lambda one: (-one.light.rank, one.lab))
    counts = [(sum(one.light is light for one in ended), kind, word) for light, (_, kind, word) in _MARKS.items()]
    lead = ", ".join(f"<b class='{kind}'>{count} {word}</b>" for count, kind, word in counts if count)
    return _PAGE.format(
        title=escape(f"{runbook} on {counted(len(ended), 'lab')}"), style=STYLE, lead=lead or "no runs yet",
        rows="".join(_row(one, folder) for one in rows),
    )  # fmt: skip


def _row(one: Ended, folder: Path) -> str:
    mark, kind, word = _MARKS[one.light]
    name = escape(one.lab)
    if one.page is not None:
        name = f"<a href='{escape(os.path.relpath(one.page, folder), quote=True)}'>{name}</a>"
    when = escape(str((one.summary or {}).get("finished") or "")[:16].replace("T", " "))
    return (
        f"<tr><td class='light {kind}'>{mark} {word}</td><td>{name}</td><td>{escape(redact(one.sentence))}</td>"
        f"<td>{when}</td><td class='num'>{one.status}</td></tr>"
    )


def _run(runbook: str, order: Order) -> Ended:
    argv = [sys.executable, "-m", "labkit", "run", runbook, "--json", *order.words]
    began = time.monotonic()
    try:
        done = run_program(argv, timeout=_LONGEST, allowed=range(256), env=_own_environment())
    except StepFailed as exc:
        return Ended(order.lab, 5, time.monotonic() - began, error=exc.message)
    seconds = time.monotonic() - began
    said = redact(done.stderr.decode("utf-8", "replace")).strip().removeprefix("error: ")
    try:
        summary = json.loads(done.stdout)
        folder = Path(summary["folder"])
    except (ValueError, KeyError, TypeError):
        return Ended(order.lab, done.status or 5, seconds, error=said or "no summary")
    return Ended(
        str(summary.get("lab") or order.lab), done.status, seconds, folder, summary, said if done.status else ""
    )


def _own_environment() -> dict[str, str]:
    """This process's, but for the one folder that all runs would share."""
    return {name: value for name, value in os.environ.items() if name != OUTPUT_VARIABLE}


def _of_folder(path: Path, runbook: str) -> Ended | None:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["runbook"] != runbook:
            return None
        error = (summary.get("error") or {}).get("text") or ""
        status = 0 if summary["ok"] else 1 if (summary.get("error") or {}).get("type") == "CheckFailed" else 5
        return Ended(str(summary["lab"]), status, float(summary.get("seconds") or 0), path.parent, summary, error)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _replace(path: Path, text: str) -> None:
    """Write a file at once: somebody may be reading it, and another run be writing it."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
