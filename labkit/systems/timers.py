"""Install schedules on this machine: units of systemd, or a block in the user's crontab."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from labkit.errors import InputError, Mistake, StepFailed
from labkit.process import run_program

_SECONDS = 60.0


def write_files(folder: Path, files: Mapping[str, str]) -> tuple[Path, ...]:
    """Write files into a folder, made when it is not there; return those that were not the same before."""
    changed = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            path = folder / name
            if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
                path.write_text(text, encoding="utf-8")
                changed.append(path)
    except OSError as exc:
        got = exc.strerror or type(exc).__name__
        raise InputError([Mistake("--output", 0, 0, str(folder), "a folder that can be written", got)]) from exc
    return tuple(changed)


def unit_folder(*, system: bool) -> Path:
    """Return where units are: those of the system, or of this user."""
    if system:
        return Path("/etc/systemd/system")
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "systemd" / "user"


def install_units(files: Mapping[str, str], timers: Sequence[str], *, system: bool) -> tuple[Path, ...]:
    """Write units and start their timers; return the files that changed.

    Raises:
        StepFailed: systemd does not take them, or is not there.
    """
    changed = write_files(unit_folder(system=system), files)
    _systemctl("daemon-reload", system=system)
    _systemctl("enable", "--now", *timers, system=system)
    return changed


def remove_units(names: Sequence[str], *, system: bool) -> tuple[Path, ...]:
    """Stop timers and remove the files of units; return those that were there."""
    folder = unit_folder(system=system)
    there = [folder / name for name in names if (folder / name).is_file()]
    if timers := [path.name for path in there if path.suffix == ".timer"]:
        _systemctl("disable", "--now", *timers, system=system)
    for path in there:
        path.unlink()
    if there:
        _systemctl("daemon-reload", system=system)
    return tuple(there)


def edit_crontab(edit: Callable[[str], str]) -> bool:
    """Change the user's crontab; return whether it changed.

    Raises:
        StepFailed: there is no crontab program, or it refuses.
    """
    program = shutil.which("crontab")
    if program is None:
        raise StepFailed("crontab: expected the program of cron, got none", next_step="install cron, or --as systemd")
    done = run_program([program, "-l"], timeout=_SECONDS, allowed=(0, 1))  # 1: there is none yet
    before = done.text if done.status == 0 else ""
    after = edit(before)
    if after == before:
        return False
    run_program([program, "-"], stdin=after.encode(), timeout=_SECONDS)
    return True


def _systemctl(*words: str, system: bool) -> None:
    program = shutil.which("systemctl")
    if program is None:
        raise StepFailed("systemctl: expected systemd on this machine, got none", next_step="use --as cron")
    run_program([program, *([] if system else ["--user"]), *words], timeout=_SECONDS)
