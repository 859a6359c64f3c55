"""Files of the user on a twin: where they are, and the folder for an installation without the internet."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from labkit.twin.k3s.script import INSTALLER, binary
from labkit.twin.world import World

_IMAGES = "k3s-airgap-images-amd64.tar.zst"
_STAND_IN = b"stands for the images of k3s; no guest of the twin unpacks them\n"


def user_file(state: Path, text: str) -> Path:
    """Return where a file of the user is on a twin: below its own folder."""
    parts = [part for part in PurePosixPath(text).parts if part not in {"~", "/", ".."}]
    return state.joinpath("labkit", "files", *parts)


def furnish_airgap(world: World) -> None:
    """Put what stands for a release of k3s where the lab file says; what is there already stays."""
    k3s = world.lab.k3s
    if k3s.install != "airgap" or not k3s.airgap_dir:
        return
    folder = user_file(world.options.state, k3s.airgap_dir)
    if folder.exists():
        return
    folder.mkdir(parents=True)
    files = {"install.sh": INSTALLER.encode(), "k3s": binary(k3s.version), _IMAGES: _STAND_IN}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}" for name in ("k3s", _IMAGES)]
    (folder / "sha256sum-amd64.txt").write_text("\n".join(sums) + "\n")
