"""Build with the real kustomize, in parts that run side by side, and say what went wrong where."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.errors import LabError
from labkit.process import run_program
from labkit.systems.repository.layout import Layout

_SECONDS = 300.0
_PART = 100
"""Manifests in one call of kustomize: it compares every object with every other, so that large calls are slow."""
_ORIGIN = re.compile(
    r"^    config\.kubernetes\.io/origin: \|\n((?:      .*\n?)+)",
    re.MULTILINE,
)
_ORIGIN_PATH = re.compile(r"^      (path|configuredIn): (.+)$", re.MULTILINE)
_EMPTY = re.compile(r"^  annotations:\n(?!    )", re.MULTILINE)


@dataclass(frozen=True)
class Wish:
    """What to build: the entries (folders and files from the root), and what Flux adds to every kustomization."""

    entries: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    must_be_whole: bool = False
    """Something in the options needs to see all objects at once."""


@dataclass(frozen=True)
class Piece:
    """One object as kustomize wrote it, and the file it came from (`made` when a kustomization generated it)."""

    text: str
    file: str
    made: bool


@dataclass(frozen=True)
class Failure:
    """An entry that kustomize refused, with its words."""

    entry: str
    message: str


@dataclass(frozen=True)
class Made:
    """The objects of a wish, and the entries that could not be built."""

    pieces: tuple[Piece, ...]
    failures: tuple[Failure, ...]


class Kustomize:
    """Runs `kubectl kustomize` on a checked-out repository without writing into it.

    Args:
        root: the repository.
        layout: its folders.
        pool: where the calls run.
    """

    def __init__(self, root: Path, layout: Layout, pool: ThreadPoolExecutor) -> None:
        self._root = root.resolve()
        self._layout = layout
        self._pool = pool
        self._to_root = os.path.relpath(self._root, Path(tempfile.gettempdir()).resolve() / "build")
        self.calls = 0

    def build(self, wishes: Sequence[Wish]) -> list[Made]:
        """Build several wishes side by side."""
        parts = [self._parts(wish) for wish in wishes]
        runs = [
            [self._pool.submit(self._run, part, wish) for part in of] for of, wish in zip(parts, wishes, strict=True)
        ]
        made = []
        for wish, of, futures in zip(wishes, parts, runs, strict=True):
            pieces: list[Piece] = []
            failures: list[Failure] = []
            for part, future in zip(of, futures, strict=True):
                result = future.result()
                if isinstance(result, str):
                    pieces += self._pieces(result)
                else:
                    rest = self._narrow(part, wish, result)
                    pieces += rest.pieces
                    failures += rest.failures
            made.append(Made(tuple(pieces), tuple(failures)))
        return made

    def _parts(self, wish: Wish) -> list[tuple[str, ...]]:
        """Divide a wish so that no part is large; only what kustomize treats one by one is divided."""
        weights = {entry: self._layout.weight(entry) for entry in wish.entries}
        if wish.must_be_whole or sum(weights.values()) <= _PART:
            return [wish.entries] if wish.entries else []
        small = [
            part
            for entry in wish.entries
            for part in (self._layout.parts(entry) if weights[entry] > _PART else (entry,))
        ]
        parts: list[tuple[str, ...]] = []
        current: list[str] = []
        size = 0
        for entry in dict.fromkeys(small):
            weight = weights.get(entry) or self._layout.weight(entry)
            if current and size + weight > _PART:
                parts.append(tuple(current))
                current, size = [], 0
            current.append(entry)
            size += weight
        return [*parts, tuple(current)] if current else parts

    def _narrow(self, part: tuple[str, ...], wish: Wish, error: LabError) -> Made:
        """Find which entries of a failed part are to blame by halving it, and build the others."""
        small = part if len(part) > 1 or wish.must_be_whole else self._layout.parts(part[0])
        if len(small) == 1 or wish.must_be_whole:
            return Made((), (Failure(part[0], error.message),))
        halves = (small[: len(small) // 2], small[len(small) // 2 :])
        pieces: list[Piece] = []
        failures: list[Failure] = []
        for half, result in zip(halves, self._pool.map(lambda one: self._run(one, wish), halves), strict=True):
            if isinstance(result, str):
                pieces += self._pieces(result)
            else:
                rest = self._narrow(half, wish, result)
                pieces += rest.pieces
                failures += rest.failures
        return Made(tuple(pieces), tuple(failures))

    def _run(self, part: tuple[str, ...], wish: Wish) -> str | LabError:
        self.calls += 1
        with tempfile.TemporaryDirectory(prefix="labkit-build-") as name:
            folder = Path(name).resolve()
            (folder / "kustomization.yaml").write_text(self._overlay(part, wish.options), encoding="utf-8")
            try:
                done = run_program(
                    [_kubectl(), "kustomize", "--load-restrictor=LoadRestrictionsNone", folder],
                    timeout=_SECONDS,
                    env=_environment(),
                    error=BuildError,
                )
            except BuildError as exc:
                return exc
        return done.text

    def _overlay(self, part: Iterable[str], options: Mapping[str, Any]) -> str:
        """Write a kustomization that adds to the entries what Flux would add, and asks for the origins."""
        tree = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "buildMetadata": ["originAnnotations"],
            "resources": [os.path.join(self._to_root, entry) for entry in part],  # noqa: PTH118  # stays relative
            **options,
        }
        if "components" in tree:
            tree["components"] = [os.path.join(self._to_root, path) for path in tree["components"]]  # noqa: PTH118
        return json.dumps(tree)

    def _pieces(self, output: str) -> list[Piece]:
        parts = (part for part in re.split(r"^---\n", output, flags=re.MULTILINE) if part.strip())
        return [self._piece(part) for part in parts]

    def _piece(self, text: str) -> Piece:
        found = _ORIGIN.search(text)
        if found is None:
            return Piece(text, "", made=False)
        kind, path = next(iter(_ORIGIN_PATH.findall(found[1])), ("", ""))
        rest = _EMPTY.sub("", text[: found.start()] + text[found.end() :])
        return Piece(rest, path.strip("'\"").removeprefix(self._to_root + "/"), made=kind == "configuredIn")


class BuildError(LabError):
    """Report that kustomize could not build; `message` holds its words."""

    exit_status = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message.partition(" got ")[2].partition(": ")[2] or message, next_step=next_step)


def _kubectl() -> Path:
    beside = Path(sys.executable).parent / "kubectl"
    return beside if beside.exists() else Path(shutil.which("kubectl") or "kubectl")


def _environment() -> dict[str, str]:
    """No HOME and no proxies: a build depends on the repository only."""
    return {"PATH": os.environ.get("PATH", ""), "HOME": os.devnull, "KUBECONFIG": os.devnull, "GOMAXPROCS": "1"}
