"""A Git host for tests: a bare repository over real SSH, and the access of a lab that has nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import asyncssh

from labkit.lab import Lab
from labkit.secrets import Secrets
from labkit.systems import loop
from labkit.systems.access import Access, Clock
from labkit.systems.githost import PINNED
from labkit.twin.git import Bare, GitServer

ROOT = Path(__file__).parents[2]
LAB_FILE = Path(__file__).parents[1] / "data/gitops/lab.yaml"


def new_key() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()


class Host:
    """The Git host: its repository, its keys, and how it is reached."""

    def __init__(self, lab: Lab, folder: Path, template: Path, age_key: str) -> None:
        self.lab = lab
        self.folder = folder
        self.age_key = age_key
        self.key, self.host_key = new_key(), new_key()
        shutil.copytree(template, folder / "bare.git")
        self.bare = Bare(folder / "bare.git", lab.git.branch)
        public = asyncssh.import_private_key(self.key).export_public_key().decode()
        self.server = GitServer(self.bare.folder, "/efym/homelab.git", keys=[public], host_key=self.host_key,
                                log=folder / "git.log")  # fmt: skip
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        loop.call(self.server.start(self.socket))

    def access(self, **secrets: str) -> Access:
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        (state / PINNED).write_text(f"github.com {self.server.public_host_key}\n", encoding="utf-8")
        values = {self.lab.git.deploy_key: self.key, self.lab.git.age_key: self.age_key, **secrets}
        return Access(on="twin", secrets=Secrets(values), state=state, clock=Clock(0.01), closed=True,
                      connect={"github.com:22": f"127.0.0.1:{self.port}"})  # fmt: skip

    def stop(self) -> None:
        if self.server.listens:
            loop.call(self.server.stop())


def labkit(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a user's folder, with the twin and the temporary files there."""
    (home / "tmp").mkdir(exist_ok=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(home / "tmp"), "LABKIT_TWIN": str(home / "twin")}
    return subprocess.run(
        [sys.executable, "-m", "labkit", *words],
        cwd=home, env=env, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


def write_small_lab(path: Path) -> Path:
    """Write a lab of one VM, large enough for the example's apps, with the files that its runbooks ask for."""
    lines = (LAB_FILE.parents[1] / "e2e/lab.yaml").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith(("  two:", "  three:"))) + "\n"
    for old, new in (("{north: {}, south: {}}", "{north: {}}"), ("cores: 2", "cores: 4"), ("10 GiB", "250 GiB")):
        text = text.replace(old, new)
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path
