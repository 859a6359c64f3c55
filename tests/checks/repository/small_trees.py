"""Small trees in text files: cases with `=== name`, files with `>>> path`, and `# <- rule` where a finding stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from labkit.facts.manifests import parse_manifests
from labkit.facts.repository import Build, Cluster, RepositoryFacts, Resource, SourceFile, is_encrypted

DATA = Path(__file__).parents[2] / "data" / "repository" / "rules"
_MARK = re.compile(r"[ ]*# <- (.*)$", re.MULTILINE)
ENTRY = {
    "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
    "kind": "Kustomization",
    "metadata": {"name": "flux-system", "namespace": "flux-system"},
    "spec": {"path": "./", "timeout": "5m", "sourceRef": {"kind": "GitRepository", "name": "flux-system"}},
}


@dataclass(frozen=True)
class Case:
    """One small tree: its files without the marks, those that nothing applies, and what is expected where."""

    name: str
    files: dict[str, str]
    unapplied: frozenset[str]
    expected: tuple[tuple[str, int, str], ...]

    def facts(self, *, decrypts: bool = True) -> RepositoryFacts:
        """Return the tree as if it had been read and built."""
        return facts_of(self.files, self.unapplied, decrypts=decrypts)


def facts_of(
    files: dict[str, str], unapplied: frozenset[str] = frozenset(), *, decrypts: bool = True
) -> RepositoryFacts:
    """Make facts of texts: every object is applied as it stands."""
    sources = tuple(_source(path, text) for path, text in files.items())
    resources = tuple(
        r for s in sources if s.path not in unapplied for r in s.resources() if "config.k8s" not in r.group
    )
    spec = {**ENTRY["spec"], **({"decryption": {"provider": "sops"}} if decrypts else {})}
    entry = Resource({**ENTRY, "spec": spec}, "gotk-sync.yaml", 1)
    sources_known = frozenset({("GitRepository", "flux-system", "flux-system")})
    return RepositoryFacts("test", sources, (Cluster("test", (Build(entry, "", resources),), sources_known),))


def _source(path: str, text: str) -> SourceFile:
    parsed = parse_manifests(text)
    trees = tuple((tree.line, tree) for tree in parsed.trees if isinstance(tree, dict))
    sealed = any(is_encrypted(tree) for _, tree in trees)
    return SourceFile(path, trees, parsed.trouble, parsed.repeated, recipients=("age1",) if sealed else ())


def load_cases() -> list[tuple[str, Case]]:
    """Return all cases of all files, by a name for pytest."""
    found = []
    for file in sorted(DATA.glob("*.txt")):
        for part in re.split(r"^=== ", file.read_text(), flags=re.MULTILINE)[1:]:
            case = _case(part)
            found.append((f"{file.stem}: {case.name}", case))
    return found


def _case(part: str) -> Case:
    name, _, rest = part.partition("\n")
    files, unapplied, expected = {}, set(), []
    for block in re.split(r"^>>> ", rest, flags=re.MULTILINE)[1:]:
        path, _, text = block.partition("\n")
        if text.startswith("#!unapplied\n"):
            unapplied.add(path)
        for number, line in enumerate(text.split("\n"), 1):
            if mark := _MARK.search(line):
                expected.append((path, number, mark[1].strip()))
        files[path] = _MARK.sub("", text)
    return Case(name, files, frozenset(unapplied), tuple(expected))
