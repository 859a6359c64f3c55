"""The journal and the lock of a run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from labkit.errors import Refused
from labkit.run.journal import Journal, read_journal
from labkit.run.lock import lab_lock
from labkit.secrets import remember


def test_every_event_is_one_line_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run" / "journal.jsonl", runbook="r", who="me@here")
    journal.write("started")
    assert [event["event"] for event in read_journal(journal.path)] == ["started"]
    journal.write("step", text="two\nlines", change="vm/a/create")
    events = read_journal(journal.path)
    assert events[1]["text"] == "two\nlines"
    assert events[1]["who"] == "me@here"
    assert str(events[0]["time"]).endswith("Z")


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write("one")
    with journal.path.open("a") as file:
        file.write('{"event": "tw')
    assert [event["event"] for event in read_journal(journal.path)] == ["one"]


def test_a_secret_never_reaches_the_journal(tmp_path: Path) -> None:
    secret = remember('s3cr3t-"with quotes"-and-length')
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write("step", text=f"token={secret}", nested={"value": secret})
    assert "s3cr3t" not in journal.path.read_text()


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    threads = [
        threading.Thread(target=lambda: [journal.write("step", text="x" * 500) for _ in range(50)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_journal(journal.path)) == 400


HOLD = """
import sys, time
from pathlib import Path
from labkit.run.lock import lab_lock
with lab_lock(Path(sys.argv[1]), runbook="provision-vms"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_names_its_holder_and_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        said = rf"provision-vms by .* \(process {holder.pid}\) since 2"
        with pytest.raises(Refused, match=said), lab_lock(path, runbook="other"):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with lab_lock(path, runbook="other"):
        assert str(os.getpid()) in path.read_text()
    with lab_lock(path, runbook="again"):
        pass
