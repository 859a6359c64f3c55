import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import asyncssh
import pyrage
import pytest

from labkit.errors import InputError, StepFailed, SystemDown
from labkit.twin.client import TwinHandle, join_twin, start_twin
from tests.twin.conftest import SCALE, Api, until


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False


def children(state: Path) -> list[int]:
    """Processes that were started for a twin's folder, found by their arguments."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if any(word.startswith(f"{state}/fakepve") for word in words) and alive(int(folder.name)):
            found.append(int(folder.name))
    return found


def test_the_folder_is_only_for_its_owner_and_says_where_everything_is(twin: TwinHandle) -> None:
    data = json.loads((twin.state / "twin.json").read_text())
    assert stat.S_IMODE(twin.state.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(data["secrets_file"]).stat().st_mode) == 0o600
    assert stat.S_IMODE((twin.state / "control.token").stat().st_mode) == 0o600
    assert (data["pid"], data["lab"], data["scenario"], data["scale"]) == (twin.pid, "bench", "provisioned", SCALE)
    places = json.loads(twin.connect_file.read_text())
    assert set(places) >= {"north.lan:8006", "south.lan:8006", "10.20.0.11:22", "10.20.0.12:22", "10.20.0.13:22"}
    assert all(place.startswith("127.0.0.1:") for place in places.values())


def test_every_reference_has_a_secret_of_its_kind(twin: TwinHandle) -> None:
    assert set(twin.secrets) == {
        "env:BENCH_TOKEN", "env:BENCH_READ_TOKEN", "file:~/.ssh/bench", "keyring:bench/k3s",
        "sops:secrets.yaml#git.key", "file:~/.config/age/bench.txt", "env:BENCH_NAS",
    }  # fmt: skip
    for name in ("file:~/.ssh/bench", "sops:secrets.yaml#git.key"):
        assert asyncssh.import_private_key(twin.secrets[name]).get_algorithm() == "ssh-ed25519"
    identity = twin.secrets["file:~/.config/age/bench.txt"].strip().splitlines()[-1]
    assert str(pyrage.x25519.Identity.from_str(identity).to_public()) in twin.secrets["file:~/.config/age/bench.txt"]


def test_no_secret_is_in_the_logs(twin: TwinHandle) -> None:
    text = "".join(path.read_text() for path in twin.state.glob("*.log"))
    assert not [name for name, value in twin.secrets.items() if value in text]


def test_same_seed_same_answers(twin: TwinHandle, lab_file: Path, tmp_path: Path) -> None:
    def look(one: TwinHandle) -> object:
        api = Api(one)
        secrets = {name: value for name, value in one.secrets.items() if "age" not in name}
        return (
            secrets,
            [api.get(f"{api.path(name)}/config") for name in ("alpha", "gamma")],
            api.get("/nodes/north/qemu/100/agent/file-read", file="/etc/ssh/ssh_host_ed25519_key.pub"),
        )

    other = start_twin(lab_file, state=tmp_path, scenario="provisioned", scale=SCALE, seed=1, parent=os.getpid())
    try:
        assert look(other) == look(twin)
    finally:
        other.stop()


def test_another_seed_has_other_secrets(lab_file: Path, tmp_path: Path, twin: TwinHandle) -> None:
    other = start_twin(lab_file, state=tmp_path, seed=2, parent=os.getpid())
    try:
        assert other.secrets.keys() == twin.secrets.keys()
        assert not set(other.secrets.values()) & set(twin.secrets.values())
    finally:
        other.stop()


def test_it_ends_with_its_parent_even_when_that_is_killed(lab_file: Path, tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from labkit.twin.client import start_twin\n"
        "twin = start_twin(Path(sys.argv[1]), state=Path(sys.argv[2]), parent=os.getpid())\n"
        "print(twin.pid, flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", program, str(lab_file), str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert children(tmp_path)
        parent.kill()
    until(lambda: None if alive(pid) or children(tmp_path) else True)
    assert not (tmp_path / "twin.json").exists()


def test_fakepve_dies_with_a_twin_that_is_killed(lab_file: Path, tmp_path: Path) -> None:
    twin = start_twin(lab_file, state=tmp_path, parent=os.getpid())
    assert children(tmp_path)
    os.kill(twin.pid, signal.SIGKILL)
    until(lambda: None if twin.is_alive() or children(tmp_path) else True)
    with pytest.raises(SystemDown, match="expected one that runs"):
        join_twin(tmp_path)
    twin.stop()


def test_another_process_can_join_and_stop(lab_file: Path, tmp_path: Path) -> None:
    started = start_twin(lab_file, state=tmp_path, faults=["slow:1"], parent=os.getpid())
    joined = join_twin(tmp_path)
    assert joined.secrets == started.secrets
    assert joined.status()["faults"] == ["slow:1"]
    joined.clear("slow")
    assert started.status()["faults"] == []
    started.stop(remove=True)
    assert not tmp_path.exists()


def test_a_wrong_lab_file_is_told_with_its_mistakes(tmp_path: Path) -> None:
    wrong = tmp_path / "lab.yaml"
    wrong.write_text("name: [")
    with pytest.raises(InputError, match=r"lab\.yaml"):
        start_twin(wrong, state=tmp_path / "state")


def test_a_temporary_folder_goes_with_the_twin_however_it_ends(
    lab_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    twin = start_twin(lab_file, parent=os.getpid())
    assert (twin.state.parent, twin.state.stat().st_mode & 0o077) == (tmp_path, 0)
    os.kill(twin.pid, signal.SIGTERM)  # nobody calls stop(): its starter was killed
    until(lambda: None if twin.is_alive() else True)
    assert not list(tmp_path.glob("labkit-twin-*"))
    wrong = tmp_path / "lab.yaml"
    wrong.write_text("name: [")
    with pytest.raises(InputError, match=r"lab\.yaml"):
        start_twin(wrong)
    with pytest.raises(InputError, match="template-locked"):
        start_twin(lab_file, faults=["templates-locked"])
    assert not list(tmp_path.glob("labkit-twin-*"))


def test_a_twin_that_is_not_installed_is_told_with_the_way_to_it(
    lab_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SystemDown, match=r"pip install 'labkit\[twin\]'"):
        start_twin(lab_file, state=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_fault_is_told(twin: TwinHandle, lab_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="template-locked"):
        start_twin(lab_file, state=tmp_path, faults=["templates-locked"])
    with pytest.raises(InputError, match="scale: expected a number above zero, got 0"):
        start_twin(lab_file, state=tmp_path, scale=0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="template-locked"):
        twin.fault("templates-locked")


def test_the_control_server_wants_its_token(twin: TwinHandle) -> None:
    token = twin.state / "control.token"
    kept = token.read_text()
    token.write_text("wrong")
    try:
        with pytest.raises(StepFailed, match="token"):
            twin.status()
    finally:
        token.write_text(kept)


def test_counts_begin_anew_after_a_reset(twin: TwinHandle, api: Api) -> None:
    api.get("/version")
    assert twin.status()["requests"]["proxmox"] > 0
    twin.reset()
    assert twin.status()["requests"]["proxmox"] == 0
    assert twin.status()["writes"] == {"guests": 0, "kubernetes": 0, "proxmox": 0}
