"""Read a GitOps repository from a folder: files, what Flux would build, and whether a key opens its secrets."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labkit.facts.repository import RepositoryFacts
from labkit.systems.repository.artifact import Artifacts
from labkit.systems.repository.clusters import build_clusters
from labkit.systems.repository.decrypt import public_keys, try_decryption
from labkit.systems.repository.files import list_files, read_creation_rules, read_files

__all__ = ["read_repository"]


def read_repository(folder: Path, *, age_keys: Sequence[str] = (), width: int = 2) -> RepositoryFacts:
    """Read a repository that is checked out in a folder; nothing in it is changed.

    Args:
        folder: its root.
        age_keys: texts of age key files; when there are any, every encrypted file is tried with them.
        width: how many programs (kubectl, sops) run side by side.

    Raises:
        InputError: when there is no such folder, or a text holds no age key.
    """
    recipients = tuple(recipient for text in age_keys for recipient in public_keys(text))
    paths = list_files(folder)
    files = read_files(folder, paths)
    with ThreadPoolExecutor(width) as pool:
        artifacts = Artifacts(folder, paths, {file.path: file for file in files}, pool)
        try:
            clusters = build_clusters(artifacts, files)
        finally:
            artifacts.close()
        decryptions = try_decryption(folder, files, "\n".join(age_keys), pool) if age_keys else ()
    return RepositoryFacts(
        root=str(folder),
        files=files,
        clusters=clusters,
        sops_rules=read_creation_rules(folder),
        decryptions=decryptions,
        key_recipients=recipients,
        ignored=artifacts.ignored,
        counts={"files": len(paths), "manifests": len(files), "builds": sum(len(c.builds) for c in clusters),
                "kustomize calls": artifacts.calls, "objects": sum(len(c.resources) for c in clusters)},
    )  # fmt: skip
