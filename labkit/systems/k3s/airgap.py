"""An installation without a way to the internet: the files of `k3s.airgap_dir`, looked at and carried to a machine.

The folder is looked at when the guests are read, so that a damaged file stops the runbook before it writes anything.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from labkit.errors import InputError, Mistake, StepFailed
from labkit.facts.guests import Airgap, AirgapProblem
from labkit.lab import Lab
from labkit.systems.access import Access, Step
from labkit.systems.guests import PROGRAM
from labkit.systems.ssh import Shell

SCRIPT = "/var/lib/labkit/k3s-install.sh"
SUMS = "sha256sum-amd64.txt"
_IMAGES = "/var/lib/rancher/k3s/agent/images"
_ARCHIVES = "k3s-airgap-images-"
_VERSION = re.compile(rb"v1\.\d+\.\d+\+k3s\d+")


def read_airgap(lab: Lab, access: Access) -> Airgap | None:
    """Return how the files to carry are; None for a lab whose guests fetch k3s themselves."""
    if lab.k3s.install != "airgap":
        return None
    folder = access.path(str(lab.k3s.airgap_dir))
    problems = tuple(_problems(folder))
    program = folder / "k3s"
    versions = _look(program, *_stamp(program))[1] if program.is_file() else ()
    return Airgap(folder=str(folder), problems=problems, versions=versions)


def airgap_files(lab: Lab, access: Access) -> dict[str, tuple[Path, int]]:
    """Return where each file of `k3s.airgap_dir` goes, with its mode, after comparing them with their checksums.

    Raises:
        InputError: one is missing, or its checksum is another than in the file of checksums.
    """
    folder = access.path(str(lab.k3s.airgap_dir))
    if problems := list(_problems(folder)):
        raise InputError([
            Mistake(problem.file, 0, 0, "k3s.airgap_dir", problem.expected, problem.got, problem.remedy)
            for problem in problems
        ])  # fmt: skip
    return {target: (path, mode) for path, (target, mode) in _wanted(folder).items()}


def carry(lab: Lab, access: Access, shell: Shell, step: Step) -> None:
    """Bring installer, binary and images of `k3s.airgap_dir` to a machine; what is there already stays.

    Raises:
        InputError: a file is missing or damaged here.
        StepFailed: it is another one on the guest.
    """
    for path, (source, mode) in airgap_files(lab, access).items():
        digest = _look(source, *_stamp(source))[0]
        if _remote_digest(shell, path) == digest:
            continue
        content = source.read_bytes()
        step.say(f"carries {source.name} ({-(-len(content) // 1024**2)} MiB)")
        shell.run(("install", "-d", "-m", "0755", str(Path(path).parent)), sudo=True)
        shell.write_file(path, content, mode=mode)
        seen = _remote_digest(shell, path)
        if seen != digest:
            raise StepFailed(f"{shell.name}: expected {path} with the SHA-256 {digest}, got {seen or 'none'}",
                             next_step="look at the free room of the guest (df -h), then run again")  # fmt: skip


def _wanted(folder: Path) -> dict[Path, tuple[str, int]]:
    """Each file with its place and mode; images of more than k3s itself (kube-vip) may lie there too."""
    images = {image: (f"{_IMAGES}/{image.name}", 0o644) for image in sorted(folder.glob("*.tar*"))}
    return {folder / "install.sh": (SCRIPT, 0o755), folder / "k3s": (PROGRAM, 0o755), **images}


def _problems(folder: Path) -> Iterator[AirgapProblem]:
    """What is missing in the folder, or else what does not fit its checksum."""
    wanted = _wanted(folder)
    needed = [*wanted, folder / SUMS]
    if not any(path.name.startswith(_ARCHIVES) for path in wanted):
        needed.append(folder / f"{_ARCHIVES}amd64.tar.zst")
    missing = [path for path in needed if not path.is_file()]
    for path in missing:
        yield AirgapProblem(file=str(path), expected="a file that can be read", got="none",
                            remedy="a release of k3s has it; install.sh is what get.k3s.io serves")  # fmt: skip
    if missing:
        return
    sums = _read_sums(folder / SUMS)
    yield from (problem for path in wanted if (problem := _compare(path, sums)) is not None)


def _read_sums(path: Path) -> dict[str, str]:
    lines = (line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {words[1].lstrip("*"): words[0].lower() for words in lines if len(words) == 2}


def _compare(path: Path, sums: Mapping[str, str]) -> AirgapProblem | None:
    """A problem when a file has another checksum than listed; k3s lists its own files, not the installer."""
    expected = sums.get(path.name)
    if expected is None:
        listed = path.name == "k3s" or path.name.startswith(_ARCHIVES)
        return AirgapProblem(file=str(path), expected=f"a checksum in {SUMS}", got="none") if listed else None
    seen = _look(path, *_stamp(path))[0]
    if seen == expected:
        return None
    remedy = f"fetch it again, with the {SUMS} of the same release"
    return AirgapProblem(file=str(path), expected=f"the SHA-256 {expected}", got=seen, remedy=remedy)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=32)
def _look(path: Path, _size: int, _changed: int) -> tuple[str, tuple[str, ...]]:
    """The SHA-256 of a file, and the versions of k3s that its bytes name (a binary names its own)."""
    content = path.read_bytes()
    versions = {match.decode() for match in _VERSION.findall(content)} if path.name == "k3s" else set()
    return hashlib.sha256(content).hexdigest(), tuple(sorted(versions))


def _remote_digest(shell: Shell, path: str) -> str:
    done = shell.run(("sha256sum", "--", path), sudo=True, check=False)
    return done.text.split()[0] if done.status == 0 and done.text.split() else ""
