"""Change files of the lab's repository: a checkout to work in, files written by what the plan says, one commit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from labkit.errors import LabError, StepFailed
from labkit.lab import Lab
from labkit.plan import Action, Change
from labkit.systems.access import Access, Step
from labkit.systems.git import check_out, commit_all, fetch, leave, local_mirror, push

_BOOK = "work.json"


def work_folder(access: Access, system: str) -> Path:
    """Return where the files of one plan are worked on: two runs on one lab exclude each other."""
    return access.state / "work" / system


def start_work(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Check out the branch's head into a fresh folder, and keep what the plan says about its files.

    `after` of the change holds `files`, by path: what is to be done with each.
    """
    mirror = fetch(lab, access)
    folder = work_folder(access, change.system)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A branch that waits for review is worked on where it stands.
    base = mirror.heads.get(str(change.after.get("branch") or mirror.branch), mirror.head)
    check_out(mirror, folder, base)
    book = folder.with_suffix(f".{_BOOK}")
    book.write_text(json.dumps(change.after), encoding="utf-8")
    step.say(f"at {base[:7] or 'the first commit'}")
    return f"at {base[:7]}"


def read_book(access: Access, system: str) -> dict[str, Any]:
    """Return what the plan says about the files.

    Raises:
        LabError: its checkout was not made.
    """
    book = work_folder(access, system).with_suffix(f".{_BOOK}")
    if not book.is_file():
        raise LabError(f"checkout of {system}: expected it to have been made, got none", next_step="run again")
    found: dict[str, Any] = json.loads(book.read_text(encoding="utf-8"))
    return found


def write_file(folder: Path, path: str, text: str | None) -> str:
    """Write or remove one file of a checkout; a folder that becomes empty goes, too."""
    target = folder / path
    if folder.resolve() not in target.resolve().parents:
        raise StepFailed(f"{path}: expected a file inside the repository, got one outside")
    if text is None:
        target.unlink(missing_ok=True)
        if target.parent != folder:
            with suppress(OSError):  # it is not empty, or another file of it was its last
                target.parent.rmdir()
        return "removed"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return f"{len(text.splitlines())} lines"


def finish_work(lab: Lab, access: Access, step: Step, *, system: str, branch: str, message: str,
                pushed: Callable[[], None] = lambda: None) -> str:  # fmt: skip
    """Commit the checkout's changes and push them to a branch; return the commit, empty when nothing changed.

    `pushed` is called at once when the branch has moved, before anything is tidied up.
    """
    folder = work_folder(access, system)
    if not folder.is_dir():
        raise LabError(f"checkout of {system}: expected a folder to commit, got none", next_step="run again")
    commit = commit_all(lab, folder, message)
    if commit:
        step.say(f"pushes {commit[:7]} to {branch}")
        commit = push(lab, access, folder, branch)
        pushed()
    leave(local_mirror(lab, access), folder)
    folder.with_suffix(f".{_BOOK}").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    return commit


def apply_git(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Carry out one change of files as plain texts: for a new repository of Flux."""
    if change.kind == "checkout":
        return start_work(lab, access, change, step)
    if change.kind == "file":
        text = read_book(access, change.system)["files"][change.target]
        return write_file(work_folder(access, change.system), change.target, text)
    if change.kind == "commit" and change.action is Action.ACT:
        message = str(change.after["message"])
        commit = finish_work(lab, access, step, system=change.system, branch=change.target, message=message)
        return f"{change.target} at {commit[:7]}" if commit else "nothing to commit"
    raise LabError(f"{change.id}: expected a change of files, got one that is not known")
