"""The folders of a repository as kustomize sees them: which have a kustomization, and what a plain one lists. Pure."""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.facts.manifests import maps, texts
from labkit.facts.repository import SourceFile

_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_PLAIN = {"apiVersion", "kind", "metadata", "resources"}
_REMOTE = re.compile(r"^[a-z+]+://|^git@|^(www\.)?(github|gitlab|bitbucket)\.[a-z]+[/:]|\?ref=|//.*\.git")


class Layout:
    """The files of a repository by folder; folders are written without a slash at the end, the root is empty.

    Args:
        paths: the files that Flux sees.
        files: those of them that were parsed, by path.
        ignored: the files that Flux leaves out.
    """

    def __init__(
        self, paths: Iterable[str], files: Mapping[str, SourceFile], ignored: frozenset[str] = frozenset()
    ) -> None:
        self.files = files
        self.ignored = ignored
        self._paths = sorted(paths)
        self._known = set(self._paths)
        self._folders = {""}
        for path in self._paths:
            folder = posixpath.dirname(path)
            while folder not in self._folders:
                self._folders.add(folder)
                folder = posixpath.dirname(folder)

    def has_folder(self, folder: str) -> bool:
        """Tell whether a folder exists."""
        return folder in self._folders

    def has_file(self, path: str) -> bool:
        """Tell whether a file exists."""
        return path in self._known

    def is_ignored(self, path: str) -> bool:
        """Tell whether a file, or everything in a folder, is there and left out by Flux."""
        if self.has_file(path) or self.has_folder(path):
            return False
        return path in self.ignored or any(one.startswith(f"{path}/") for one in self.ignored)

    def kustomization(self, folder: str) -> str | None:
        """Return the path of a folder's kustomization."""
        paths = (posixpath.join(folder, name) for name in _NAMES)
        return next((path for path in paths if path in self._known), None)

    def tree(self, folder: str) -> Any:
        """Return a folder's kustomization as a tree, or None."""
        path = self.kustomization(folder)
        file = self.files.get(path) if path else None
        return file.documents[0][1] if file and file.documents else None

    def manifests(self, folder: str) -> Iterator[str]:
        """Yield the YAML files below a folder, in order."""
        prefix = f"{folder}/" if folder else ""
        for path in self._paths[bisect_left(self._paths, prefix) :]:
            if not path.startswith(prefix):
                break
            if path.endswith((".yaml", ".yml")):
                yield path

    def entries(self, folder: str) -> tuple[str, ...]:
        """Return what Flux builds of a folder: itself when it has a kustomization, else all manifests below it.

        A folder below with a kustomization of its own stands for everything in it.
        """
        if self.kustomization(folder) is not None:
            return (folder,)
        found: dict[str, None] = {}
        for path in self.manifests(folder):
            found[self._owner(path, folder)] = None
        return tuple(found)

    def _owner(self, path: str, folder: str) -> str:
        """Return the topmost folder between two that has a kustomization, else the file itself."""
        start = len(folder) + 1 if folder else 0
        parts = path[start:].split("/")[:-1]
        for count in range(1, len(parts) + 1):
            middle = posixpath.join(folder, *parts[:count])
            if self.kustomization(middle) is not None:
                return middle
        return path

    def parts(self, entry: str) -> tuple[str, ...]:
        """Take a folder whose kustomization does nothing but list resources apart, down to what does more."""
        if (listed := self._listed(entry)) is None:
            return (entry,)
        return tuple(part for child in listed for part in self.parts(child))

    def _listed(self, entry: str) -> list[str] | None:
        tree = self.tree(entry) if entry in self._folders else None
        if (
            not isinstance(tree, dict)
            or not set(tree) <= _PLAIN
            or tree.get("kind", "Kustomization") != "Kustomization"
        ):
            return None
        listed = tree.get("resources")
        if not isinstance(listed, list) or not listed or not all(isinstance(text, str) for text in listed):
            return None
        paths = [resolve(entry, text) for text in listed]
        inside = [path for path in paths if path != entry and (path in self._known or self.kustomization(path))]
        # A folder that lists one of its own parents would never end; kustomize says so itself.
        below = all(path.startswith(f"{entry}/") or not entry or path in self._known for path in inside)
        return paths if below and len(inside) == len(paths) == len(set(paths)) else None

    def weight(self, entry: str) -> int:
        """Count the manifests of an entry."""
        return sum(1 for _ in self.manifests(entry)) if entry in self._folders else 1

    def is_remote(self, entry: str) -> str | None:
        """Return what an entry, or what it lists, fetches from elsewhere; None when all is here."""
        waiting, seen = [entry], {entry}
        while waiting:
            tree = self.tree(folder := waiting.pop())
            for text in _references(tree):
                if _REMOTE.search(text):
                    return text
                path = resolve(folder, text)
                if path not in seen and path in self._folders:
                    seen.add(path)
                    waiting.append(path)
        return None


def _references(tree: Any) -> list[str]:
    if not isinstance(tree, dict):
        return []
    lists = [text for key in ("resources", "bases", "components", "crds") for text in texts(tree.get(key))]
    return [*lists, *(str(patch["path"]) for patch in maps(tree.get("patches")) if "path" in patch)]


def resolve(folder: str, text: str) -> str:
    """Return the path from the root that a relative path in a folder means; `../...` when it leads outside."""
    path = posixpath.normpath(posixpath.join(folder, text))
    return "" if path == "." else path
