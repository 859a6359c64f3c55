"""Units and crontab lines: systemd's own checker reads the one, a shell the other, whatever the names hold."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import InputError
from labkit.rules.crontab import crontab_block, put_block, remove_block
from labkit.rules.scheduling import Job
from labkit.rules.timetable import parse_timetable
from labkit.rules.units import command_line, quote, render_units, timers

ODD = 'it\'s 100% "odd" $HOME \\ `x` ; #1'
JOB = Job(name="report", lab="small", runbook="health-report", on="lab", when=parse_timetable("day", "06:30"),
          zone="Europe/Berlin", named=True, program=("/bin/true",), folder="/tmp", lab_file="/lab.yaml")  # fmt: skip
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def test_what_stands_in_the_units() -> None:
    units = render_units(replace(JOB, env_file="/home/me/small.env", pairs=("fail_on=error",), findings_ok=True))
    assert list(units) == ["labkit-small-report.service", "labkit-small-report.timer",
                           "labkit-small-report-failed.service"]  # fmt: skip
    service, timer, failed = units.values()
    run = (
        "ExecStart=:/bin/true run health-report --lab /lab.yaml --on lab "
        '--schedule "small/report systemd 30 6 * * * Europe/Berlin" --findings-ok -p fail_on=error\n'
    )
    assert run in service
    assert "OnFailure=labkit-small-report-failed.service\n" in service
    assert "EnvironmentFile=-/home/me/small.env\n" in service
    for word in ("Type=oneshot", "NoNewPrivileges=yes", "RestrictNamespaces=yes", "UMask=0077"):
        assert f"{word}\n" in service
    assert "OnCalendar=*-*-* 06:30:00 Europe/Berlin\nPersistent=true\nRandomizedDelaySec=300\n" in timer
    assert "WantedBy=timers.target" in timer
    assert "ExecStart=:/bin/true schedule --check --tell -f /lab.yaml\n" in failed
    assert "OnFailure" not in failed
    assert timers(units) == ("labkit-small-report.timer",)


def test_the_machine_s_own_zone_is_not_written() -> None:
    units = render_units(replace(JOB, named=False))
    assert "OnCalendar=*-*-* 06:30:00\n" in units["labkit-small-report.timer"]


def test_quiet_hours_bring_a_timer_that_delivers() -> None:
    units = render_units(replace(JOB, quiet="22:00-07:00", quiet_zone="Europe/Berlin"))
    assert timers(units) == ("labkit-small-report.timer", "labkit-small-messages.timer")
    assert "OnCalendar=*-*-* 07:00:00 Europe/Berlin\n" in units["labkit-small-messages.timer"]
    assert "message deliver -f /lab.yaml\n" in units["labkit-small-messages.service"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("plain/word=1", "plain/word=1"), ("two words", '"two words"'), ("50%", '"50%%"'), ('say "x"', '"say \\"x\\""'),
     ("back\\slash", '"back\\\\slash"'), ("$HOME", '"$HOME"'), ("", '""'), (";", '";"'), ("a\nb", '"a\\nb"')],
)  # fmt: skip
def test_words_are_quoted(word: str, expected: str) -> None:
    assert quote(word) == expected
    assert command_line(("/bin/x", word)) == f":/bin/x {expected}"  # the colon keeps $ from being replaced


@needs_systemd
@pytest.mark.parametrize("user", ["", "daemon"], ids=["user", "system"])
def test_systemd_takes_the_units(user: str, tmp_path: Path) -> None:
    folder = tmp_path / ODD.replace("/", "")
    folder.mkdir()
    program = folder / "labkit"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    job = replace(JOB, program=(str(program),), folder=str(folder), lab_file=f"{folder}/lab.yaml",
                  env_file=f"{folder}/small.env", pairs=(f"a={ODD}",), quiet="22:00-07:00")  # fmt: skip
    said = verify(render_units(job, user=user), tmp_path / "units", user=bool(user))
    assert said == ""


@needs_systemd
def test_systemd_would_say_what_is_wrong(tmp_path: Path) -> None:
    said = verify(render_units(replace(JOB, program=("/nowhere/lab kit",))), tmp_path / "units", user=False)
    assert "/nowhere/lab kit is not executable" in said


def verify(units: dict[str, str], folder: Path, *, user: bool) -> str:
    """What systemd's own checker says about units; nothing when it is content."""
    folder.mkdir()
    for name, text in units.items():
        (folder / name).write_text(text)
    runtime = folder.parent / "runtime"
    runtime.mkdir()
    done = subprocess.run(
        ["systemd-analyze", *([] if user else ["--user"]), "verify", *(str(folder / name) for name in units)],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), "LC_ALL": "C"},
    )  # fmt: skip
    return done.stderr


def test_the_block_of_a_crontab() -> None:
    assert crontab_block(JOB) == (
        "# BEGIN labkit small/report\n"
        "30 6 * * * cd /tmp && /bin/true run health-report --lab /lab.yaml --on lab "
        "--schedule 'small/report cron 30 6 * * * Europe/Berlin' >/dev/null "
        "|| /bin/true schedule --check --tell -f /lab.yaml\n"
        "# END labkit small/report\n"
    )
    quiet = crontab_block(replace(JOB, quiet="22:00-07:00")).splitlines()
    assert quiet[2] == "0 7 * * * cd /tmp && /bin/true message deliver -f /lab.yaml >/dev/null"


OTHERS = st.lists(st.sampled_from(["# mine", "0 1 * * * backup", "", "MAILTO=me"]), max_size=5)


@given(OTHERS, OTHERS)
def test_a_block_is_put_in_place_and_taken_out_and_the_rest_stays(before: list[str], after: list[str]) -> None:
    text = "".join(f"{line}\n" for line in before)
    with_block = put_block(text, JOB)
    assert with_block == text + crontab_block(JOB)
    longer = with_block + "".join(f"{line}\n" for line in after)
    assert put_block(longer, JOB) == longer
    later = replace(JOB, when=parse_timetable("day", "07:00"))
    assert put_block(longer, later) == longer.replace(crontab_block(JOB), crontab_block(later))
    assert remove_block(longer, "small", "report") == text + "".join(f"{line}\n" for line in after)
    assert remove_block(text, "small", "report") == text


def test_blocks_of_other_schedules_are_left_alone() -> None:
    both = put_block(put_block("", JOB), replace(JOB, name="drill"))
    assert remove_block(both, "small", "report") == crontab_block(replace(JOB, name="drill"))


def test_a_block_without_its_end_is_refused() -> None:
    with pytest.raises(InputError, match="expected the line `# END labkit small/report`"):
        put_block("# BEGIN labkit small/report\n0 1 * * * mine\n", JOB)


@pytest.mark.parametrize(("pair", "said"), [("a=b\nc", "line break"), ("a=" + "x" * 1000, "at most 990 characters")])
def test_what_cron_cannot_hold_is_refused(pair: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        crontab_block(replace(JOB, pairs=(pair,)))


WORDS = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=30)


@given(WORDS, WORDS.map(lambda word: word.replace("/", "-")))
@settings(max_examples=25)
def test_a_shell_gets_back_every_word(tmp_path_factory: pytest.TempPathFactory, value: str, name: str) -> None:
    folder = tmp_path_factory.mktemp("cron") / f"d {name}"
    folder.mkdir()
    (folder / "small.env").write_text("SECRET='a b$c'\n")
    script = folder / "show.py"
    script.write_text("import json, os, sys\n"
                      "json.dump([os.getcwd(), os.environ['SECRET'], *sys.argv[1:]], open('out', 'w'))\n")  # fmt: skip
    job = replace(JOB, program=(sys.executable, "-S", str(script)), folder=str(folder), pairs=(f"a={value}",),
                  env_file=str(folder / "small.env"))  # fmt: skip
    line = crontab_block(job).split("\n")[1]
    command = as_cron_reads(line)
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=30, env={"PATH": "/usr/bin:/bin"})
    found = json.loads((folder / "out").read_text())
    assert found[:2] == [str(folder), "a b$c"]
    assert found[2:] == list(job.run_words("cron"))


def as_cron_reads(line: str) -> str:
    """The command of a line: a percent sign that no backslash precedes would end it."""
    command = line.split(" ", 5)[5]
    found, place = [], 0
    while place < len(command):
        if command.startswith("\\%", place):
            found.append("%")
            place += 2
            continue
        assert command[place] != "%", "cron would cut the command here"
        found.append(command[place])
        place += 1
    return "".join(found)
