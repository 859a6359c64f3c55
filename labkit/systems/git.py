"""The lab's Git repository, with the real git: fetched into the state folder, worked on in checkouts of its own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labkit import gitssh
from labkit.errors import LabError, StepFailed, SystemDown
from labkit.lab import Lab
from labkit.process import Output, run_program
from labkit.systems import loop
from labkit.systems.access import Access
from labkit.systems.githost import git_host, known_hosts
from labkit.systems.retry import retry

LOCAL_SECONDS = 120.0
REMOTE_SECONDS = 300.0
PUSH_ATTEMPTS = 5
_MARK = re.compile(rf"{gitssh.MARK}: ([a-z-]+): (.*)")
_NEXT = {
    "unreachable": "look whether the Git server is up and this machine reaches it, then run again",
    "broken": "run again",
    "denied": "add the public half of git.deploy_key to the repository's deploy keys, with write access for "
    "add-app and for a new repository",
    "changed-host": "do not go on before you know why; compare with the fingerprints that its owner publishes",
    "unknown-host": "put its host key into the file that git.known_hosts of the lab file names",
    "input": "look at git.deploy_key and git.known_hosts of the lab file",
}


class GitError(StepFailed):
    """Report what git refused; `said` holds its words."""

    @property
    def said(self) -> str:
        """What git wrote, without our own words."""
        return self.message


class GitDown(SystemDown):
    """Report a Git server that cannot be reached or does not let us in; `problem` says which."""

    def __init__(self, message: str, *, problem: str, next_step: str) -> None:
        super().__init__(message, next_step=next_step)
        self.problem = problem


class PushRefused(GitError):
    """Report that the server did not take what was pushed."""


@dataclass(frozen=True)
class Mirror:
    """A bare copy of the lab's repository; all branches as they were when it was fetched."""

    folder: Path
    branch: str
    heads: dict[str, str]

    @property
    def head(self) -> str:
        """The commit at the head of the lab's branch; empty when it does not exist."""
        return self.heads.get(self.branch, "")


def fetch(lab: Lab, access: Access) -> Mirror:
    """Bring the copy of the repository up to date, and return it.

    Raises:
        GitDown: the server is not reached, is not the known one, or refuses the key.
        InputError: the URL, the key or the known hosts cannot be used.
    """
    folder = _mirror_folder(lab, access)
    with _locked(folder):
        if not (folder / "HEAD").exists():
            folder.mkdir(parents=True, exist_ok=True)
            run_git(folder, "init", "--quiet", "--bare")
        elif (known := _heads(folder)) and known == _remote_heads(lab, access):
            return Mirror(folder, lab.git.branch, known)
        _remotely(lab, access, folder, "fetch", "--quiet", "--prune", "--no-tags", "--no-auto-gc", lab.git.url,
                  "+refs/heads/*:refs/heads/*")  # fmt: skip
        return Mirror(folder, lab.git.branch, _heads(folder))


def local_mirror(lab: Lab, access: Access) -> Mirror:
    """Return the copy of the repository as it was fetched last."""
    folder = _mirror_folder(lab, access)
    return Mirror(folder, lab.git.branch, _heads(folder))


def _mirror_folder(lab: Lab, access: Access) -> Path:
    return access.state / "git" / f"{hashlib.sha256(lab.git.url.encode()).hexdigest()[:12]}.git"


def _remote_heads(lab: Lab, access: Access) -> dict[str, str] | None:
    """Ask the server where its branches are; None when that fails: git itself then says why."""
    server = git_host(lab.git.url)
    call = gitssh.Call(server.host, server.path, server.user, server.port)
    limit = access.clock.real(40.0)
    try:
        return loop.call(gitssh.list_heads(call, ssh_environment(lab, access)), timeout=limit)
    except (gitssh.SshError, TimeoutError):
        return None


def _heads(folder: Path) -> dict[str, str]:
    lines = run_git(folder, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads").text
    return {name: commit for commit, _, name in (line.partition(" ") for line in lines.splitlines())}


@contextmanager
def checked_out(mirror: Mirror, commit: str = "") -> Iterator[Path]:
    """Give a folder with the files of a commit (the head's when empty) for the time of the block."""
    parent = Path(tempfile.mkdtemp(prefix="labkit-git-"))
    try:
        yield check_out(mirror, parent / "tree", commit)
    finally:
        leave(mirror, parent / "tree")
        shutil.rmtree(parent, ignore_errors=True)


def check_out(mirror: Mirror, folder: Path, commit: str = "") -> Path:
    """Make a working tree of a commit in a new folder; one that was left there is replaced.

    A branch that does not exist yet gives a tree without files, whose first commit will have no parent.
    """
    leave(mirror, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    target = commit or mirror.head
    with _locked(mirror.folder):
        if target:
            run_git(mirror.folder, "worktree", "add", "--quiet", "--detach", "--force", folder, target)
            return folder
    run_git(mirror.folder, "init", "--quiet", f"--initial-branch={mirror.branch}", folder)
    return folder


def leave(mirror: Mirror, folder: Path) -> None:
    """Remove a working tree."""
    shutil.rmtree(folder, ignore_errors=True)
    with _locked(mirror.folder):
        run_git(mirror.folder, "worktree", "prune")


def commit_all(lab: Lab, tree: Path, message: str) -> str:
    """Commit every change in a working tree; return the commit, or an empty text when nothing changed."""
    run_git(tree, "add", "--all")
    if not run_git(tree, "status", "--porcelain").text.strip():
        return ""
    run_git(tree, "commit", "--quiet", "--no-gpg-sign", "--message", message, identity=_identity(lab))
    return head_of(tree)


def head_of(tree: Path) -> str:
    """Return the commit that a working tree stands on."""
    return run_git(tree, "rev-parse", "HEAD").text.strip()


def push(lab: Lab, access: Access, tree: Path, branch: str) -> str:
    """Push a working tree's commit to a branch; when the branch has moved, rebase on it and try again. Never force.

    Returns:
        The commit that the branch's head is now.

    Raises:
        PushRefused: the server does not take it, or the changes clash with what was pushed meanwhile.
        GitDown: the server is not reached, or refuses the key.
    """
    for _ in range(PUSH_ATTEMPTS):
        try:
            _remotely(lab, access, tree, "push", "--quiet", lab.git.url, f"HEAD:refs/heads/{branch}")
        except GitError as exc:
            if not re.search(r"non-fast-forward|fetch first|cannot lock ref|stale info", exc.said):
                raise _refused(branch, exc) from exc
            _rebase(lab, access, tree, branch)
        else:
            return head_of(tree)
    raise PushRefused(f"branch {branch}: expected it to stay for a moment, got {PUSH_ATTEMPTS} moves in a row",
                      next_step="run again when nobody else pushes")  # fmt: skip


def _refused(branch: str, exc: GitError) -> PushRefused:
    words = " ".join(exc.said.split())
    key = re.search(r"read.only|write access|denied", words, re.IGNORECASE)
    hint = "look at the branch's protection rules, or use via=pull-request"
    return PushRefused(f"branch {branch}: expected the push to be taken, got: {words}",
                       next_step="give the deploy key write access" if key else hint)  # fmt: skip


def _rebase(lab: Lab, access: Access, tree: Path, branch: str) -> None:
    _remotely(lab, access, tree, "fetch", "--quiet", "--no-tags", lab.git.url, f"refs/heads/{branch}")
    try:
        run_git(tree, "rebase", "--quiet", "FETCH_HEAD", identity=_identity(lab))
    except GitError as exc:
        clashes = run_git(tree, "diff", "--name-only", "--diff-filter=U").text.split()
        run_git(tree, "rebase", "--abort", identity=_identity(lab))
        raise PushRefused(
            f"branch {branch}: expected our commit to fit on what was pushed meanwhile, got clashes in "
            f"{', '.join(clashes) or exc.said}",
            next_step="run again: it reads the new files and plans anew",
        ) from exc


def show(mirror: Mirror, commit: str, path: str) -> str | None:
    """Return the text of a file in a commit, or None when it is not there."""
    done = run_git(mirror.folder, "show", f"{commit}:{path}", allowed=(0, 128))
    return done.text if done.status == 0 else None


def holds(lab: Lab, access: Access, commit: str) -> Callable[[str], bool]:
    """Return a function that tells whether a revision of Flux (`branch@sha1:...`) holds a commit."""
    answers: dict[str, bool] = {}

    def fits(revision: str) -> bool:
        if revision not in answers:
            mirror = fetch(lab, access)
            words = ("merge-base", "--is-ancestor", commit, revision.rpartition(":")[2])
            answers[revision] = run_git(mirror.folder, *words, allowed=(0, 1, 128)).status == 0
        return answers[revision]

    return fits


def changed_files(mirror: Mirror, commit: str) -> tuple[str, ...]:
    """Return the files that a commit changes since it left the lab's branch."""
    base = run_git(mirror.folder, "merge-base", mirror.branch, commit, allowed=(0, 1)).text.strip()
    if not base:
        return ()
    said = run_git(mirror.folder, "diff", "--name-only", "--no-renames", "-z", base, commit).stdout
    return tuple(os.fsdecode(name) for name in said.split(b"\0") if name)


def run_git(folder: Path, *words: str | Path, allowed: Sequence[int] = (0,),
            identity: dict[str, str] | None = None) -> Output:  # fmt: skip
    """Run git on this machine only, without the user's settings and hooks.

    Raises:
        GitError: it ended otherwise than allowed.
    """
    return _git(folder, words, {**_environment(), **(identity or {})}, LOCAL_SECONDS, allowed)


def _remotely(lab: Lab, access: Access, folder: Path, *words: str | Path) -> Output:
    """Run git against the lab's server; a connection that does not come about is tried three times."""
    env = {**_environment(), **ssh_environment(lab, access)}

    def once() -> Output:
        try:
            return _git(folder, words, env, REMOTE_SECONDS, (0,))
        except GitError as exc:
            raise _down(lab, exc) from exc

    return retry(once, on=_Unreachable, clock=access.clock, deadline=60.0, pause=2.0, attempts=3)


class _Unreachable(GitDown):
    """A connection that may come about in a moment."""


def _down(lab: Lab, exc: GitError) -> LabError:
    """Tell a server that is not reached from one that refuses what is asked."""
    found = _MARK.search(exc.said)
    if found is None:
        if re.search(r"[Rr]epository .*not found|does not (exist|appear)|not a git repository", exc.said):
            return GitDown(f"Git repository {lab.git.url}: expected it on its server, got: {_last(exc.said)}",
                           problem="no-repository", next_step="look at git.url of the lab file")  # fmt: skip
        return exc
    problem, said = found[1], found[2]
    kind = _Unreachable if problem in ("unreachable", "broken") else GitDown
    return kind(f"Git {said}", problem=problem, next_step=_NEXT.get(problem, "run again"))


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "ERROR" in line or "fatal" in line), lines[-1] if lines else "nothing")


def ssh_environment(lab: Lab, access: Access) -> dict[str, str]:
    """Return the variables with which git reaches the lab's server: key, known hosts, route."""
    server = git_host(lab.git.url)
    return gitssh.environment(
        access.secrets.resolve(lab.git.deploy_key),
        known_hosts(lab, access),
        route=access.route(server.host, server.port),
        seconds=access.clock.real(20.0),
    )


def _git(folder: Path, words: Sequence[str | Path], env: dict[str, str], seconds: float,
         allowed: Sequence[int]) -> Output:  # fmt: skip
    argv: list[str | Path] = ["git", "-C", folder, "-c", "core.hooksPath=/dev/null", *words]
    return run_program(argv, timeout=seconds, env=env, allowed=allowed, error=GitError)


def _environment() -> dict[str, str]:
    """Nothing of the user's: no settings, no hooks, no agent, no questions."""
    return {
        "PATH": os.environ.get("PATH", ""), "HOME": os.devnull, "LANG": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }  # fmt: skip


def _identity(lab: Lab) -> dict[str, str]:
    name, mail = "labkit", f"labkit@{lab.domain}"
    return {
        "GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": mail, "GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": mail,
    }  # fmt: skip


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep others from the same copy: two git processes may not change one repository's worktrees at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
