"""Start, join and steer a twin from another process. Synchronous, and light to import."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.errors import InputError, LabError, Mistake, StepFailed, SystemDown
from labkit.process import start_program
from labkit.twin.options import DEFAULT_SCALE, NasVersion, Version
from labkit.twin.state import AGE_KEY, CONTROL_TOKEN, LOG, MISTAKES, TWIN, make_folder, write_whole

__all__ = ["DEFAULT_SCALE", "TwinHandle", "join_twin", "start_twin"]

_START_SECONDS = 150.0
_START_TWIN_SECONDS = 400.0
"""Of the twin: what a scenario may take on a slow one."""
_STOP_SECONDS = 10.0
_ASK_SECONDS = 30.0
_MOST_LINES = 25


class TwinHandle:
    """A running twin: where its files are, and what can be done to it.

    Attributes:
        state: its folder.
        lab: the lab's name; `scenario`, `scale`, `seed`: as it was started; `pid`: its process.
        connect_file: the JSON file `{"host:port": "127.0.0.1:port"}` that leads to it.
        trust: `{"host:port": {"ca": path}}` for certificates.
        secrets: a value for every secret reference of the lab file.
        unreadable: encrypted files of the repository that it was given, which its age key does not open.
        exports: the folder where each NFS export of the NAS is mounted, by its URL.
    """

    def __init__(self, state: Path, data: dict[str, Any], process: subprocess.Popen[bytes] | None = None) -> None:
        self.state = state
        self.lab: str = data["lab"]
        self.scenario: str = data["scenario"]
        self.scale: float = data["scale"]
        self.seed: int = data["seed"]
        self.pid: int = data["pid"]
        self.connect_file = Path(data["connect_file"])
        self.trust: dict[str, dict[str, str]] = data["trust"]
        self.secrets: dict[str, str] = json.loads(Path(data["secrets_file"]).read_text())
        self.exports: dict[str, str] = data.get("exports", {})
        self.unreadable: list[str] = data.get("unreadable", [])
        self._control: str = data["control"]
        self._process = process

    def status(self) -> dict[str, Any]:
        """Return scenario, scale, faults, counts of requests, writes and clones, pace and uptime."""
        answer = self.ask("status")
        assert isinstance(answer, dict)  # noqa: S101  # the control server's own promise
        return answer

    def fault(self, name: str) -> None:
        """Switch a fault on: `name` or `name:argument`."""
        self.ask("fault", name=name)

    def clear(self, name: str) -> bool:
        """Switch a fault off, or all of a name; return whether one was on."""
        return bool(self.ask("clear", name=name))

    def reset(self) -> None:
        """Count requests and writes anew."""
        self.ask("reset")

    def move_vm(self, name: str, host: str) -> None:
        """Move a VM to another host, as a person or HA does."""
        self.ask("move", name=name, host=host)

    def delete_vm(self, name: str) -> None:
        """Delete a VM, as a person does."""
        self.ask("delete", name=name)

    def add_vm(self, name: str, *, vmid: int | None = None, host: str = "", address: str = "") -> int:
        """Make and start a VM that is not the lab's; return its VMID."""
        return int(self.ask("add", name=name, vmid=vmid, host=host, address=address))

    def configure_vm(self, name: str, *, restart: bool = True, **values: str) -> None:
        """Set keys of a VM's configuration, as a person does; `restart` makes them count at once."""
        self.ask("configure", name=name, restart=restart, values=values)

    def unlock_vm(self, name: str) -> None:
        """Clear the lock of a VM."""
        self.ask("unlock", name=name)

    def power_vm(self, name: str, *, on: bool) -> None:
        """Switch a VM on or off, as a person does."""
        self.ask("power", name=name, on=on)

    def data(self) -> dict[str, dict[str, Any]]:
        """Return for each volume its claim, the writes of its app, and the checksum of its files."""
        return dict(self.ask("data", what="read"))

    def write_data(self) -> dict[str, dict[str, Any]]:
        """Have every running app write more to its volume; return the same as `data`."""
        return dict(self.ask("data", what="write"))

    def night(self) -> dict[str, dict[str, Any]]:
        """Have every recurring job that makes backups run once; return the same as `data`."""
        return dict(self.ask("night"))

    def destroy(self) -> dict[str, Any]:
        """Have all machines lost with their disks and the cluster; return the same as `past`."""
        return dict(self.ask("destroy"))

    def past(self) -> dict[str, Any]:
        """Return what each backup held when it was taken (`backups`), and each volume when it was lost (`end`)."""
        return dict(self.ask("past"))

    def ask(self, action: str, **given: Any) -> Any:
        """Send one action to the control server and return its answer.

        Raises:
            InputError: what was given does not fit the twin.
            StepFailed: it cannot be done.
            SystemDown: the twin does not answer.
        """
        request = urllib.request.Request(  # loopback, by our own hand
            f"http://{self._control}/{action}",
            data=json.dumps(given).encode(),
            headers={
                "Authorization": f"Bearer {(self.state / CONTROL_TOKEN).read_text()}",
                "Content-Type": "application/json",
            },
        )
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=_ASK_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as exc:
            with exc:
                said = json.load(exc)
            if "mistakes" in said:
                raise _mistaken(said["mistakes"]) from exc
            raise StepFailed(f"twin: {said.get('error')}") from exc
        except OSError as exc:
            raise SystemDown(f"twin {self.state}: expected an answer, got {exc}", next_step="labkit twin up") from exc

    def is_alive(self) -> bool:
        """Tell whether the twin's process is there."""
        if self._process is not None:
            return self._process.poll() is None
        return _alive(self.pid)

    def stop(self, *, remove: bool = False) -> None:
        """End the twin; with `remove`, delete its folder too."""
        try:
            self.ask("stop")
        except LabError:
            _signal(self.pid, signal.SIGTERM) if self.is_alive() else None
        end = time.monotonic() + _STOP_SECONDS
        while self.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        if self.is_alive():
            _signal(self.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        if remove:
            shutil.rmtree(self.state, ignore_errors=True)


def start_twin(
    lab_file: Path,
    *,
    state: Path | None = None,
    scenario: str = "empty",
    seed: int = 1,
    scale: float = DEFAULT_SCALE,
    faults: Sequence[str] = (),
    parent: int | None = None,
    proxmox: Version = "9.1",
    nas: NasVersion = "25.10",
    repo: str = "",
    repo_branch: str = "",
    age_key: str = "",
) -> TwinHandle:
    """Start a twin and wait until it is ready.

    Args:
        lab_file: the lab that it stands in for.
        state: its folder; when None a temporary one, which goes when the twin ends, however that comes about.
        scenario: one of `labkit.twin.options.SCENARIOS`.
        seed: what ids, keys and addresses depend on beside the lab.
        scale: real seconds per twin second.
        faults: names of faults that are on from the start.
        parent: a process with whose end the twin ends.
        proxmox: the version of Proxmox that it is.
        nas: the version of TrueNAS.
        repo: the path or URL of a repository that it serves a copy of; the example repository when empty.
        repo_branch: the branch of it; its current one when empty.
        age_key: the text of the age key that opens that repository's secrets; it is kept in the twin's folder only.

    Raises:
        InputError: when the lab file, the scale, a fault, the repository or the age key is wrong.
        SystemDown: when it is not installed or does not come up; the text has the end of its log.
    """
    _check_faults(lab_file, faults)
    if scale <= 0:
        raise InputError([Mistake("twin", 0, 0, "scale", "a number above zero", f"{scale:g}")])
    _check_installed()
    folder = make_folder(state or Path(tempfile.mkdtemp(prefix="labkit-twin-")))
    (folder / TWIN).unlink(missing_ok=True)
    (folder / LOG).unlink(missing_ok=True)
    (folder / MISTAKES).unlink(missing_ok=True)
    (folder / AGE_KEY).unlink(missing_ok=True)
    if age_key:
        write_whole(folder / AGE_KEY, age_key)
    words: list[str | Path] = [sys.executable, "-m", "labkit.twin", "--lab", lab_file, "--state", folder]
    words += ["--scenario", scenario, "--seed", str(seed), "--scale", str(scale), "--proxmox", proxmox, "--nas", nas]
    words += [word for name in faults for word in ("--fault", name)]
    words += [] if parent is None else ["--parent", str(parent)]
    words += ["--temporary"] if state is None else []
    words += ["--repo", repo, "--repo-branch", repo_branch] if repo else []
    process = start_program(words, log=folder / LOG)
    try:
        return TwinHandle(folder, _wait(folder, process, max(_START_SECONDS, _START_TWIN_SECONDS * scale)), process)
    except LabError:
        (folder / AGE_KEY).unlink(missing_ok=True)
        if state is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _check_faults(lab_file: Path, faults: Sequence[str]) -> None:
    """Tell a wrong fault before anything is made."""
    if faults:
        from labkit.lab.loader import load_lab  # noqa: PLC0415  # slow to import, and rarely needed here
        from labkit.twin.targets import check_faults  # noqa: PLC0415

        check_faults(load_lab(lab_file), faults)


def _check_installed() -> None:
    if importlib.util.find_spec("fakepve") is None:
        raise SystemDown(
            "twin: expected the programs that it is made of, got no fakepve",
            next_step="pip install 'labkit[twin]', or in a checkout: pip install -e '.[twin]'",
        )


def _wait(folder: Path, process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """Return what the twin tells once it is ready; raise InputError or SystemDown when it does not come up."""
    end = time.monotonic() + seconds
    while (data := _read(folder)) is None or data["pid"] != process.pid:
        if process.poll() is not None:
            raise _failure(folder, process.returncode)
        if time.monotonic() > end:
            process.kill()
            process.wait()
            raise SystemDown(f"twin: expected it to be ready within {seconds:g} s; its log ends:\n{_tail(folder)}")
        time.sleep(0.01)
    return data


def join_twin(state: Path) -> TwinHandle:
    """Return a handle on a twin that runs already; raise SystemDown when there is none."""
    data = _read(state)
    if data is None or not _alive(data["pid"]):
        raise SystemDown(f"twin {state}: expected one that runs, got none", next_step="labkit twin up")
    return TwinHandle(state.resolve(), data)


def _mistaken(rows: list[dict[str, Any]]) -> InputError:
    return InputError(Mistake(**row) for row in rows)


def _failure(folder: Path, status: int | None) -> LabError:
    said = _tail(folder)
    if (file := folder / MISTAKES).exists():
        return _mistaken(json.loads(file.read_text()))
    if status == InputError.exit_status:
        return InputError([Mistake("twin", 0, 0, "", "a lab file and options that it can start with", said)])
    return SystemDown(f"twin: expected it to start, got exit status {status}; its log ends:\n{said}")


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        data: dict[str, Any] = json.loads((folder / TWIN).read_text())
    except FileNotFoundError:
        return None
    return data


def _tail(folder: Path) -> str:
    log = folder / LOG
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    return "\n".join(lines[-_MOST_LINES:])


def _alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
