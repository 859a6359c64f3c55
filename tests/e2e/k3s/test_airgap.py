"""An installation without the internet: files are carried over SSH, and looked at before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import CheckFailed
from labkit.systems import ssh
from labkit.twin.client import TwinHandle
from tests.e2e.k3s.conftest import bootstrap, edit_lab, enter, look, targets

MakeTwin = Callable[..., TwinHandle]
IMAGES = "/var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst"


def without_internet(data: Any) -> None:
    data["k3s"] |= {"install": "airgap", "airgap_dir": "~/k3s-release"}


def test_files_are_carried_once_they_are_whole(make_twin: MakeTwin, lab_file: Path) -> None:
    edit_lab(lab_file, without_internet)
    # Nothing may be fetched: the installer would fail.
    twin = make_twin("installer-download-fails:99")
    folder = twin.state / "labkit" / "files" / "k3s-release"
    program = (folder / "k3s").read_bytes()
    before = twin.status()["writes"].get("guests", 0)

    (folder / "k3s").write_bytes(program + b"!")
    with pytest.raises(CheckFailed, match=r"k3s-release/k3s: expected the SHA-256 \w+, got \w+; fetch it again"):
        bootstrap(lab_file)
    (folder / "k3s").unlink()
    with pytest.raises(CheckFailed, match="k3s-release/k3s: expected a file that can be read, got none"):
        bootstrap(lab_file)
    assert twin.status()["writes"].get("guests", 0) == before

    (folder / "k3s").write_bytes(program)
    bootstrap(lab_file)
    assert targets(bootstrap(lab_file)) == []
    lab, access, _ = enter(lab_file)
    assert {node.version for node in look(lab_file, "k3s").nodes} == {lab.k3s.version}
    with ssh.connect(lab, access, lab.machines[-1]) as shell:
        assert shell.read_file("/usr/local/bin/k3s") == program
        assert shell.is_file(IMAGES, sudo=True)
