"""Read the lab's repository: fetch it, build what Flux would, try the age key on its secrets."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from labkit.facts.git import GitFacts, Proposal
from labkit.facts.repository import RepositoryFacts
from labkit.gitssh import matching_keys
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.git import Mirror, changed_files, checked_out, fetch, show
from labkit.systems.githost import git_host, known_hosts
from labkit.systems.gotk import inspect_components
from labkit.systems.repository import read_repository
from labkit.systems.repository.files import decode, list_files

PROPOSALS = "labkit/"
"""Branches that labkit pushes for review begin with this."""
_LARGEST = 512 * 1024
_KEPT = (".yaml", ".yml", ".md", ".json", ".txt")
_known: dict[tuple[str, str, str], tuple[RepositoryFacts, dict[str, str]]] = {}
_guard = threading.Lock()


def read_git(lab: Lab, access: Access) -> GitFacts:
    """Return what the head of the lab's branch holds; a commit is built once in a process.

    Raises:
        GitDown: the Git server is not reached, is not the known one, or refuses the key.
    """
    server = git_host(lab.git.url)
    hosts = known_hosts(lab, access)
    mirror = fetch(lab, access)
    path = lab.git.path.removeprefix("./").strip("/")
    repository, texts = _repository(lab, access, mirror)
    flux = f"{path}/flux-system" if path else "flux-system"
    parts = inspect_components(texts.get(f"{flux}/gotk-components.yaml", ""))
    return GitFacts(
        url=lab.git.url,
        branch=lab.git.branch,
        path=path,
        head=mirror.head,
        host_keys=matching_keys(hosts, server.host, server.port),
        texts=texts,
        repository=repository,
        proposals=tuple(_proposals(mirror)),
        flux_version=parts.version,
        controllers=parts.controllers,
        crds=parts.crds,
    )


def _repository(lab: Lab, access: Access, mirror: Mirror) -> tuple[RepositoryFacts, dict[str, str]]:
    if not mirror.head:
        return RepositoryFacts(lab.git.url, ()), {}
    age_key = access.secrets.resolve(lab.git.age_key)
    key = (str(mirror.folder), mirror.head, hashlib.sha256(age_key.encode()).hexdigest())
    with _guard:
        if key not in _known:
            with checked_out(mirror) as folder:
                _known.clear()
                _known[key] = (read_repository(folder, age_keys=[age_key]), dict(_texts(folder)))
        return _known[key]


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    for path in list_files(folder):
        file = folder / path
        wanted = path.endswith("gotk-components.yaml") or file.stat().st_size <= _LARGEST
        if wanted and (path.endswith(_KEPT) or re.search(r"(^|/)\.sops\.ya?ml$", path)):
            text = decode(file.read_bytes())
            if text is not None:
                yield path, text


def _proposals(mirror: Mirror) -> Iterator[Proposal]:
    for branch, commit in sorted(mirror.heads.items()):
        if branch.startswith(PROPOSALS) and mirror.head:
            files = {path: show(mirror, commit, path) for path in changed_files(mirror, commit)}
            yield Proposal(branch=branch, head=commit, files=files)
