import io
from pathlib import Path

import pytest
from rich.console import Console

from labkit.plan import Action, Change, Plan
from labkit.report.live import Follower, describe_event

PLAN = Plan(
    runbook="provision-vms",
    lab="bench",
    changes=(
        Change(system="proxmox", kind="vm", target="alpha", action=Action.CREATE, after={"note": "[bold] stays"}),
        Change(system="proxmox", kind="vm", target="beta", action=Action.CREATE),
    ),
)
EVENTS = (
    {"event": "planned", "digest": PLAN.digest, "changes": [change.id for change in PLAN.changes]},
    {"event": "change started", "change": "vm/alpha/create", "action": "create", "text": ""},
    {"event": "change started", "change": "vm/beta/create", "action": "create", "text": ""},
    {"event": "step", "change": "vm/alpha/create", "action": "create", "text": "clones a-template"},
    {"event": "change done", "change": "vm/alpha/create", "action": "create", "text": ""},
    {"event": "change failed", "change": "vm/beta/create", "action": "create", "text": "no [room] left"},
    {"event": "planned again", "changes": ["vm/beta/create"]},
    {"event": "finding", "id": "x", "severity": "error", "subject": "beta", "expected": "it", "got": "none"},
    {
        "event": "finding",
        "id": "y",
        "severity": "warning",
        "subject": "one",
        "expected": "two",
        "got": "1",
        "remedy": "wait",
    },
)


def follow(folder: Path | None, *, terminal: bool, count: int = len(EVENTS)) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, color_system=None, highlight=False, soft_wrap=True, width=90)
    with Follower(folder, console) as follower:
        for event in EVENTS[:count]:
            follower(event)
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.json").write_text(PLAN.to_json())
    return tmp_path


def test_lines_in_a_log(folder: Path) -> None:
    said = follow(folder, terminal=False)
    assert said.splitlines()[:3] == [
        f"provision-vms: 2 to create; risk safe; digest {PLAN.digest}",
        "+ vm alpha: note [bold] stays [safe]",
        "+ vm beta:  [safe]",
    ]
    assert "+ vm/alpha: clones a-template\n" in said
    assert "+ vm/alpha: done\n" in said
    assert "+ vm/beta: FAILED: no [room] left\n" in said
    assert said.endswith("planned again: 1 change left\nwarning: one: expected two, got 1; wait\n")


def test_without_a_folder_a_plan_is_one_line() -> None:
    assert follow(None, terminal=False).startswith(f"plan {PLAN.digest}: 2 changes\n")


@pytest.mark.parametrize("count", [4, len(EVENTS)])
def test_a_terminal_shows_the_table_and_what_runs_and_gets_its_cursor_back(folder: Path, count: int) -> None:
    said = follow(folder, terminal=True, count=count)
    assert 0 < said.index("risk") < said.index("note [bold] stays")
    assert ("clones a-template" in said) is (count == 4)  # its last picture
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"event": "reported", "sentence": "Lab home is well."}, "Lab home is well."),
        ({**EVENTS[7], "ends": True}, ""),
        ({**EVENTS[7], "ends": False}, "error: beta: expected it, got none"),
    ],
)
def test_a_report_is_told_by_its_sentence_and_errors_once(event: dict[str, object], said: str) -> None:
    assert describe_event(event) == said
