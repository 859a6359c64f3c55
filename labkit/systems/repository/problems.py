"""Turn kustomize's words into a place in the repository and one sentence. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from labkit.facts.manifests import dig, line_at, texts
from labkit.facts.repository import BuildProblem, SourceFile
from labkit.systems.repository.layout import Layout, resolve

_STEP = re.compile(
    r"(?:accumulating resources from|merging resources from|accumulation of path|target for path) '([^']+)'"
)
_LINE = re.compile(r"yaml: (?:unmarshal errors: )?line (\d+): ([^\n]+?)(?: in File: (\S+))?$")
_TWICE = re.compile(r"already registered id: ([A-Za-z]+)\.\S*?/(\S+?)\.(?:\[\w+\]|\S+)")
_UNKNOWN = re.compile(r'unknown field "([^"]+)"')
_KEYS = {"patches": "patch", "patchesStrategicMerge": "patch", "replacements": "replacement", "components": "component"}
_SURPLUS = re.compile(r"': must build at directory: .*$|': evalsymlink failure .*$", re.DOTALL)
_GONE = re.compile(r"no such file or directory|not a valid directory|evalsymlink failure")
_HEAD = re.compile(r"^(error: |accumulating (components|resources): |accumulation err=')+")


def locate(layout: Layout, root: str, entry: str, message: str) -> BuildProblem:
    """Name the file and line that a failed build is about.

    Args:
        layout: the repository's folders.
        root: the repository's absolute path, which kustomize's words begin with.
        entry: the folder or file that could not be built.
        message: kustomize's words.
    """
    said = " ".join(message.replace(root + "/", "").replace(root, ".").split())
    folder, last = _follow(layout, entry, said)
    if _GONE.search(said) and last and not layout.has_file(last) and not layout.has_folder(last):
        where, line = _listed_at(layout, folder, last)
        why = "is left out by .sourceignore or spec.ignore" if layout.is_ignored(last) else "does not exist"
        return BuildProblem(where, line, f"{last} {why}, and a kustomization lists it")
    file = last if last and layout.has_file(last) else layout.kustomization(folder) or entry
    if (broken := _broken(layout, entry if not layout.has_file(entry) else file, file)) is not None:
        return broken
    return BuildProblem(file, _line_of(layout.files.get(file), said), _short(said))


def _follow(layout: Layout, entry: str, said: str) -> tuple[str, str]:
    """Follow the chain of paths in an error to its end: the last folder, and the last path."""
    folder, last = (entry if layout.has_folder(entry) else posixpath.dirname(entry)), ""
    for text in _STEP.findall(said):
        if text.startswith("../") and "labkit" not in text and not layout.has_file(resolve(folder, text)):
            path = next((p for p in _tails(text) if layout.has_file(p) or layout.has_folder(p)), resolve(folder, text))
        else:
            path = text if layout.has_file(text) or layout.has_folder(text) else resolve(folder, text)
        last = path
        if layout.has_folder(path):
            folder = path
    return folder, last


def _tails(text: str) -> Iterable[str]:
    parts = text.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))


def _listed_at(layout: Layout, folder: str, path: str) -> tuple[str, int]:
    """Return where a folder's kustomization lists a path."""
    tree = layout.tree(folder)
    file = layout.kustomization(folder) or folder
    for key in ("resources", "components", "bases"):
        for index, text in enumerate(texts(dig(tree, key))):
            if resolve(folder, text) == path:
                return file, line_at(tree, (key, index))
    return file, 1


def _broken(layout: Layout, entry: str, file: str) -> BuildProblem | None:
    """Return the first mistake of YAML in the file, else in the files of the entry."""
    below = (file, *layout.manifests(entry)) if layout.has_folder(entry) else (file, entry)
    for path in dict.fromkeys(below):
        source = layout.files.get(path)
        trouble = source and (source.trouble or next(iter(source.repeated), None))
        if trouble:
            return BuildProblem(path, trouble.line or 1, f"it is no valid YAML: {trouble.message}")
    return None


def _line_of(file: SourceFile | None, said: str) -> int:
    if file is None or not file.documents:
        return 1
    if (twice := _TWICE.search(said)) is not None:
        return next((r.line for r in file.resources() if (r.kind, r.name) == (twice[1], twice[2])), 1)
    if (unknown := _UNKNOWN.search(said)) is not None:
        return line_at(file.documents[0][1], (unknown[1],), 1)
    if "Resource metadata" in said or "'Kind' is missing" in said:
        lacking = (line for line, tree in file.documents if not dig(tree, "kind") or not dig(tree, "metadata", "name"))
        return next(lacking, 1)
    for key, word in _KEYS.items():
        if word in said and dig(file.documents[0][1], key) is not None:
            return line_at(file.documents[0][1], (key,), 1)
    return file.documents[0][0]


def _short(said: str) -> str:
    """Leave out the chain that leads to the cause, which the place tells already."""
    last = None
    for last in _STEP.finditer(said):  # noqa: B007  # the last one counts
        pass
    tail = said[last.end() :].lstrip("': ") if last else said
    tail = _SURPLUS.sub("", tail)
    tail = _HEAD.sub("", tail) or said
    return f"kustomize says: {tail.rstrip(chr(39))[:400]}"
