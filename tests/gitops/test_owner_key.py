"""Rehearse on one's own repository: the owner's age key opens its secrets, and stays in the twin's folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyrage
import pytest

from labkit.checks.flux import check_age_key
from labkit.lab.loader import load_lab
from labkit.secrets import Secrets
from labkit.systems.access import Access, Clock
from labkit.systems.gitread import read_git
from labkit.twin.client import join_twin
from labkit.twin.git.client import git
from labkit.twin.repository import lab_values, materialise
from tests.gitops.hosts import ROOT, labkit, write_small_lab

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an owner: a lab of one VM, a repository on a branch of its own, and the key of its secrets."""
    folder = tmp_path_factory.mktemp("owner")
    lab = load_lab(write_small_lab(folder / "parameters" / "lab.yaml"))
    identity = pyrage.x25519.Identity.generate()
    (folder / "keys.txt").write_text(f"# created: 2026-01-01\n# public key: {identity.to_public()}\n{identity}\n")
    (folder / "keys.txt").chmod(0o600)
    repository = folder / "mine"
    materialise(repository, age_recipient=str(identity.to_public()), values=lab_values(lab), seed=b"mine")
    git(["-C", repository, "branch", "-m", "trunk"])
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    (folder / "tmp").mkdir()
    return folder


def secret_of(home: Path) -> str:
    return (home / "keys.txt").read_text().splitlines()[-1]


@contextmanager
def watched_arguments(word: str) -> Iterator[list[str]]:
    """Collect the command lines of this machine's processes that hold a word, for the time of the block."""
    found: list[str] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = file.read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if word in line:
                    found.append(line)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def holders(folder: Path, word: str) -> list[str]:
    """Return the files below a folder that hold a word; the images of volumes are large, and made by the twin."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".img"]
    return sorted(path.relative_to(folder).as_posix() for path in files if word.encode() in path.read_bytes())


def test_the_owners_key_opens_the_repository_and_is_written_nowhere_else(home: Path) -> None:
    up = ["twin", "up", "--scenario", "k3s", "--scale", "0.005", "--repo", "mine", "--repo-branch", "trunk"]
    key = secret_of(home)
    with watched_arguments(key) as seen:
        began = labkit(home, *up, "--age-key", "file:keys.txt")
        assert began.returncode == 0, began.stderr
        try:
            ended = labkit(home, "run", "bootstrap-flux")
            places = holders(home, key)
            modes = {(home / place).stat().st_mode & 0o077 for place in places}
        finally:
            labkit(home, "twin", "down")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr
    assert "planned again: 0 changes left" in ended.stdout
    assert seen == []
    assert key not in began.stdout + began.stderr + ended.stdout + ended.stderr
    assert "keys.txt" in places
    assert [place for place in places if not place.startswith("twin/")] == ["keys.txt"]
    assert modes == {0}
    assert not (home / "twin").exists()


def test_without_it_the_preflight_names_the_file_and_the_option(home: Path) -> None:
    began = labkit(home, "twin", "up", "--repo", "mine")
    try:
        lab = load_lab(home / "parameters" / "lab.yaml")
        twin = join_twin(home / "twin")
        access = Access(on="twin", secrets=Secrets(overrides=twin.secrets), state=twin.state / "labkit",
                        clock=Clock(twin.scale), closed=True, connect_file=twin.connect_file)  # fmt: skip
        found = [str(one) for one in check_age_key(read_git(lab, access))]
    finally:
        labkit(home, "twin", "down")
    assert "secret.yaml and " in began.stderr
    assert "--age-key file:" in began.stderr
    mine = next(one for one in found if one.startswith("kubernetes/apps/karakeep/secret.yaml: expected git.age_key"))
    assert "it is for another key" in mine
    assert "--age-key of labkit rehearse or labkit twin up" in mine


def test_a_key_that_opens_nothing_is_told_before_anything_runs(home: Path) -> None:
    other = str(pyrage.x25519.Identity.generate())
    (home / "other.txt").write_text(other + "\n")
    ended = labkit(home, "rehearse", "--repo", "mine", "--age-key", "file:other.txt")
    assert ended.returncode == 2
    assert "secret.yaml: expected a key that opens it, got another" in ended.stderr
    assert other not in ended.stdout + ended.stderr
    (home / "other.txt").unlink()
    assert holders(home, other) == []
