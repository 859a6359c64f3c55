"""Run a twin: `python -m labkit.twin --lab FILE --state DIR`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

from labkit.errors import InputError, LabError
from labkit.twin.options import DEFAULT_SCALE, NAS_VERSIONS, SCENARIOS, VERSIONS, Options
from labkit.twin.state import AGE_KEY, MISTAKES, make_folder, write_json


def parse(words: list[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m labkit.twin", description="Run a twin of a lab on loopback.")
    parser.add_argument("--lab", type=Path, required=True, help="the lab file")
    parser.add_argument("--state", type=Path, required=True, help="a folder of the twin's own")
    parser.add_argument("--scenario", choices=SCENARIOS, default="empty")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=DEFAULT_SCALE, help="real seconds per twin second")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME[:ARGUMENT]...")
    parser.add_argument("--parent", type=int, help="end when this process ends")
    parser.add_argument("--temporary", action="store_true", help="delete the folder at the end")
    parser.add_argument("--log", type=Path, help="write here instead of standard error")
    parser.add_argument("--proxmox", choices=VERSIONS, default="9.1", help="the version of Proxmox")
    parser.add_argument("--nas", choices=NAS_VERSIONS, default="25.10", help="the version of TrueNAS")
    parser.add_argument("--repo", default="", help="serve a copy of this repository (a path or URL)")
    parser.add_argument("--repo-branch", default="", help="the branch of it; its current one else")
    given = parser.parse_args(words)
    state = make_folder(given.state)
    if given.scale <= 0:
        parser.error("--scale: expected a number above zero")
    return Options(
        lab_file=given.lab.resolve(), state=state, scenario=given.scenario, seed=given.seed,
        scale=given.scale, faults=tuple(given.fault), parent=given.parent, log=given.log, proxmox=given.proxmox,
        temporary=given.temporary, nas=given.nas, repo=given.repo, repo_branch=given.repo_branch,
        age_key=_take(state / AGE_KEY),
    )  # fmt: skip


def _take(file: Path) -> str:
    """Return the text of a file that is there for us alone, and remove it; "" when there is none."""
    if not file.exists():
        return ""
    text = file.read_text(encoding="utf-8")
    file.unlink()
    return text


def main() -> None:
    """Run until a signal, the control server or the parent's end stops it."""
    os.umask(0o077)
    options = parse(sys.argv[1:])
    if options.log is not None:
        handle = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
    try:
        from labkit.twin.process import run  # noqa: PLC0415  # bad options are told before anything heavy

        run(options)
    except LabError as exc:
        if isinstance(exc, InputError):
            write_json(options.state / MISTAKES, [asdict(one) for one in exc.mistakes])
        sys.stderr.write(f"error: {exc}\n")
        sys.exit(exc.exit_status)


if __name__ == "__main__":
    main()
