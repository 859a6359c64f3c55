from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from labkit.lab import Lab, load_lab
from labkit.twin.git import serve_copy
from labkit.twin.repository import lab_values, materialise
from tests.gitops.hosts import LAB_FILE, Host


@pytest.fixture(scope="session")
def lab() -> Lab:
    return load_lab(LAB_FILE)


@pytest.fixture(scope="session")
def identity() -> str:
    return str(pyrage.x25519.Identity.generate())


@pytest.fixture(scope="session")
def example(lab: Lab, identity: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example repository, bare; copied for each test that pushes."""
    folder = tmp_path_factory.mktemp("example")
    recipient = str(pyrage.x25519.Identity.from_str(identity).to_public())
    materialise(folder / "tree", age_recipient=recipient, values=lab_values(lab))
    serve_copy(str(folder / "tree"), folder / "bare.git", lab.git.branch)
    return folder / "bare.git"


@pytest.fixture
def host(lab: Lab, identity: str, example: Path, tmp_path: Path) -> Iterator[Host]:
    made = Host(lab, tmp_path, example, identity)
    yield made
    made.stop()
    gc.collect()  # what asyncssh leaves behind would else be found while Python parses, which 3.11 does not survive


@pytest.fixture(scope="session")
def shared_host(lab: Lab, identity: str, example: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that nobody pushes to."""
    made = Host(lab, tmp_path_factory.mktemp("host"), example, identity)
    yield made
    made.stop()
    gc.collect()
