"""`labkit schedule` and `labkit message` as a person types them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labkit.cli import main
from labkit.facts.schedules import Schedule
from labkit.redaction import forget_all
from labkit.systems.schedules import load_record, record_file, store_record
from tests.systems.test_messages import Web

ROOT = Path(__file__).parents[2]
LAB = ROOT / "tests" / "data" / "e2e" / "lab.yaml"
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> "$STATE/calls"
case "$(basename "$0") $1" in
"crontab -l") cat "$STATE/crontab" 2>/dev/null || { echo "no crontab for me" >&2; exit 1; } ;;
"crontab -") cat > "$STATE/crontab" ;;
esac
"""


class Home:
    """A user's home with a lab, and stand-ins for systemctl and crontab, which note what they are told."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.lab = folder / "my lab" / "parameters" / "lab.yaml"
        self.lab.parent.mkdir(parents=True)
        self.lab.write_text(LAB.read_text())
        (folder / "notebooks").symlink_to(ROOT / "notebooks")
        (folder / "bin").mkdir()
        for name in ("systemctl", "crontab"):
            program = folder / "bin" / name
            program.write_text(STAND_IN)
            program.chmod(0o755)
        self._patch, self._capture = patch, capture
        self.set(PATH=f"{folder / 'bin'}:{os.environ['PATH']}", HOME=str(folder), STATE=str(folder), TZ="UTC")
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            patch.delenv(name, raising=False)

    def set(self, **env: str) -> None:
        for name, value in env.items():
            self._patch.setenv(name, value)

    def labkit(self, *words: str, status: int = 0) -> str:
        """Run the command in this process; return its output, or its errors when it is to fail."""
        self._patch.chdir(self.folder)
        self._patch.setattr(sys, "argv", ["labkit", *words])
        self._capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capture.readouterr()
        assert ended.value.code == status, said.out + said.err
        return said.out if status in (0, 1) else said.err

    def schedule(self, *words: str, status: int = 0) -> str:
        return self.labkit("schedule", "-f", str(self.lab), *words, status=status)

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def state(self) -> Path:
        return self.folder / ".local" / "state" / "labkit" / "small"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Home]:
    yield Home(tmp_path, monkeypatch, capsys)
    forget_all()


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.stop()


DAILY = ("preflight", "--every", "day", "--at", "06:30")


def test_files_are_written_and_nothing_is_installed(home: Home) -> None:
    said = home.schedule(*DAILY, "--on", "lab", "--output", "units")
    names = ["labkit-small-preflight-failed.service", "labkit-small-preflight.service", "labkit-small-preflight.timer"]
    assert sorted(path.name for path in (home.folder / "units").iterdir()) == names
    assert "put SMALL_K3S_TOKEN='...', SMALL_READ_TOKEN='...', SMALL_TOKEN='...'" in said
    assert home.calls == []
    assert not home.state.exists() or not (home.state / "schedules").exists()
    home.schedule(*DAILY, "--as", "cron")
    folder = home.folder / "my lab" / "outputs" / "schedules" / "cron" / "labkit-small-preflight"
    assert "--on twin" in (folder / "labkit-small-preflight.crontab").read_text()


def test_units_are_installed_seen_and_removed(home: Home) -> None:
    said = home.schedule(*DAILY, "--on", "lab", "--install")
    assert "small/preflight: installed, every day at 06:30 (UTC), as systemd" in said
    assert "loginctl enable-linger" in said
    folder = home.folder / ".config" / "systemd" / "user"
    assert len(list(folder.iterdir())) == 3
    assert home.calls == ["systemctl --user daemon-reload",
                          "systemctl --user enable --now labkit-small-preflight.timer"]  # fmt: skip
    assert "installed already" in home.schedule(*DAILY, "--on", "lab", "--install")
    listed = json.loads(home.schedule("--list", "--json"))
    assert [(one["name"], one["how"], one["cron"], one["on"]) for one in listed] == [
        ("preflight", "systemd", "30 6 * * *", "lab")
    ]
    assert listed[0]["next"].endswith("T06:30:00Z") or listed[0]["next"].endswith("T06:30:00+00:00")
    assert listed[0]["findings"] == []
    assert "preflight as systemd; last never, last good never, next " in home.schedule("--list")
    assert "preflight as systemd; fine" in home.schedule("--check")
    assert "removed" in home.schedule("preflight", "--remove")
    assert list(folder.iterdir()) == []
    assert home.calls[-2:] == ["systemctl --user disable --now labkit-small-preflight.timer",
                               "systemctl --user daemon-reload"]  # fmt: skip
    assert "there was none" in home.schedule("preflight", "--remove")
    assert "no schedules" in home.schedule("--list")


def test_a_crontab_gets_one_block_however_often(home: Home) -> None:
    (home.folder / "crontab").write_text("0 1 * * * mine\n")
    for _ in range(2):
        home.schedule(*DAILY, "--as", "cron", "--on", "lab", "--install")
    home.schedule("preflight", "--every", "week", "--name", "weekly", "--as", "cron", "--on", "lab", "--install")
    text = (home.folder / "crontab").read_text()
    assert text.startswith("0 1 * * * mine\n# BEGIN labkit small/preflight\n30 6 * * * cd ")
    assert text.count("# BEGIN") == text.count("# END") == 2
    assert "/my lab' && set -a && { [ ! -r " in text
    home.schedule("preflight", "--remove", "--as", "cron")
    home.schedule("preflight", "--remove", "--as", "cron", "--name", "weekly")
    assert (home.folder / "crontab").read_text() == "0 1 * * * mine\n"


BAD = [
    ((), "RUNBOOK: expected a runbook, or --list or --check"),
    (("nosuch", "--every", "day"), "runbook: expected one of preflight"),
    (("preflight",), "--every: expected how often it runs"),
    (("preflight", "--every", "fortnight"), "--every: expected one of hour, day"),
    (("preflight", "--every", "day", "--at", "25:00"), "--at: expected a time of day"),
    (("preflight", "--every", "day", "--on", "moon"), "on: expected twin or lab"),
    (("preflight", "--every", "day", "--zone", "Mars"), "--zone: expected a time zone, for example Europe/Berlin"),
    (("preflight", "--every", "day", "--as", "cron", "--zone", "Asia/Tokyo"), "--zone: expected no other zone than"),
    (("preflight", "--every", "day", "--name", "Big Name"), "--name: expected lower-case letters"),
    (("preflight", "--every", "day", "--install"), "--install: expected --on lab beside it, got --on twin"),
    (("preflight", "--every", "day", "--install", "--on", "lab", "--output", "x"), "either --install or --output"),
    (("preflight", "--every", "day", "--system", "--as", "cron"), "--system: expected --as systemd"),
    (("preflight", "--every", "day", "-p", "nosuch=1"), "nosuch: expected one of the parameters lab, on"),
    (("preflight", "--every", "day", "-p", "on=lab"), "-p: expected --on for the parameter on"),
    (("preflight", "--every", "day", "-p", "lab=x"), "-p: expected -f for the parameter lab"),
    (("preflight", "--every", "day", "-p", "nonsense"), "-p: expected NAME VALUE"),
    (("upgrade-k3s", "--every", "day", "-p", "approve=none"), "-p: expected approve= or approve=safe"),
    (("upgrade-k3s", "--every", "day", "-p", "approve=0123456789ab"), "-p: expected approve= or approve=safe"),
    (("upgrade-k3s", "--every", "day", "-p", "approve=yes"), "approve: expected empty, none, safe"),
    (("preflight", "--every", "day", "--as", "kubernetes"), "--image: expected a container image with labkit"),
    (("preflight", "--every", "day", "--as", "kubernetes", "--install", "--on", "lab"), "--install: expected systemd"),
    (("preflight", "--every", "day", "--output", "/proc/x"), "--output"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words) or "nothing" for words, _ in BAD])
def test_bad_input_gives_one_clear_error(words: tuple[str, ...], said: str, home: Home) -> None:
    text = home.schedule(*words, status=2)
    assert text.startswith("error: 1 mistake in the input; nothing was started\n")
    assert said in text
    assert home.calls == []


def test_an_approval_may_be_safe(home: Home) -> None:
    home.schedule("upgrade-k3s", "--every", "week", "-p", "approve=safe", "--output", "u")
    assert "-p approve=safe\n" in (home.folder / "u" / "labkit-small-upgrade-k3s.service").read_text()


def test_a_report_tells_of_its_findings_itself(home: Home) -> None:
    unit = home.folder / "u" / "labkit-small-health-report.service"
    report = ("health-report", "--every", "day", "--output", "u", "--on", "lab")
    home.schedule(*report)
    assert "--findings-ok\n" in unit.read_text()
    home.lab.write_text(f"{LAB.read_text()}messages: {{to: [env:HOOK]}}\n")
    home.schedule(*report, "-p", "fail_on", "never")
    assert "--findings-ok -p fail_on=never -p notify=true\n" in unit.read_text()
    home.schedule(*report, "-p", "notify=false")
    text = unit.read_text()
    assert "--findings-ok" not in text
    assert "-p notify=false\n" in text


def test_without_systemd_it_says_what_else_there_is(home: Home) -> None:
    (home.folder / "bin" / "systemctl").unlink()
    home.set(PATH=str(home.folder / "bin"))
    text = home.schedule(*DAILY, "--on", "lab", "--install", status=5)
    assert "expected systemd on this machine, got none\n  next: use --as cron" in text


def test_a_missed_run_is_found_and_told_once(home: Home, web: Web) -> None:
    home.lab.write_text(f"{LAB.read_text()}messages: {{to: [env:HOOK]}}\n")
    home.set(HOOK=f"json://{web.place}/hook/t0ken")
    home.schedule(*DAILY, "--on", "lab", "--install")
    path = record_file(home.state, "preflight")
    record = load_record(path)
    assert isinstance(record, Schedule)
    store_record(path, record.model_copy(update={"since": datetime(2026, 1, 1, tzinfo=UTC)}))
    assert "error: schedule small/preflight: expected a run at" in home.schedule("--check", status=1)
    assert web.got == []
    for _ in range(2):
        assert "t0ken" not in home.schedule("--check", "--tell", status=1)
    (only,) = web.got
    assert json.loads(only[2])["title"] == "lab small: 1 worse"
    now = datetime.now(UTC)
    store_record(path, record.model_copy(update={"started": now, "ended": now, "status": 0, "success": now}))
    home.schedule("--check", "--tell")
    assert json.loads(web.got[1][2])["title"] == "lab small: 1 better"


def test_a_scheduled_run_that_cannot_begin_is_remembered_and_told(home: Home, web: Web) -> None:
    home.lab.write_text(f"{LAB.read_text()}messages: {{to: [env:HOOK]}}\n")
    home.set(HOOK=f"json://{web.place}/hook")
    given = ("--schedule", "small/preflight cron 30 6 * * * UTC")
    home.labkit("run", "preflight", "--lab", str(home.lab), "--on", "lab", *given, "-p", "nosuch=1", status=2)
    record = load_record(record_file(home.state, "preflight"))
    assert record is not None
    assert (record.status, record.how, record.lab_file) == (2, "cron", str(home.lab))
    assert json.loads(web.got[0][2])["title"] == "lab small: 1 worse"
    assert "exit status 2" in home.schedule("--check", status=1)
    home.lab.write_text("name: small\n")  # not even the lab file holds
    text = home.labkit("run", "preflight", "--lab", str(home.lab), "--on", "lab", *given, status=2)
    assert "nobody could be told" in text


def test_a_test_message(home: Home, web: Web) -> None:
    assert "messages: expected places to tell" in home.labkit("message", "test", "-f", str(home.lab), status=2)
    home.lab.write_text(f'{LAB.read_text()}messages: {{to: [env:HOOK, env:BAD], quiet: "00:00-23:59"}}\n')
    home.set(HOOK=f"json://{web.place}/hook", BAD=f"json://{web.place}/refuse/t0ken")
    assert "env:HOOK (JSON): sent, with the page" in home.labkit("message", "test", "-f", str(home.lab), status=1)
    sent = {path: json.loads(body) for path, _, body in web.got}["/hook"]
    assert sent["title"] == "labkit: a test from lab small"
    assert sent["attachments"][0]["filename"] == "report.html"
    assert home.labkit("message", "deliver", "-f", str(home.lab)) == ("nothing got worse or better: nobody is told\n")


def test_working_elsewhere(home: Home) -> None:
    assert "no schedules" in home.labkit("-C", str(home.folder / "new" / "place"), "schedule", "--list", "-f",
                                         str(home.lab))  # fmt: skip
    assert (home.folder / "new" / "place").is_dir()
    (home.folder / "file").write_text("")
    assert "expected a folder to work in" in home.labkit("-C", "file", "runbooks", status=2)
