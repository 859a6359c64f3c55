"""Which files of a repository Flux leaves out: .sourceignore files, `spec.ignore`, and what it does without both. Pure.

Any pattern of one's own takes the place of the default ones; only Git's own files stay out in any case. Of all
patterns that match a path or a folder above it, the last one decides, so that, other than in Git, a file may come back
in although its folder is out. The patterns of a folder's file count below that folder, those of `spec.ignore` come
after all files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pathspec import PathSpec, Pattern
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

FILE = ".sourceignore"
_ALWAYS = (".git/", ".gitignore", ".gitmodules", ".gitattributes")
_DEFAULT = (
    "*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip",
    ".github/", ".circleci/", ".travis.yml", ".gitlab-ci.yml", "appveyor.yml", ".drone.yml", "cloudbuild.yaml",
    "codeship-services.yml", "codeship-steps.yml",
    "**/.goreleaser.yml", "**/.sops.yaml", "**/.flux.yaml",
)  # fmt: skip


class SourceIgnore:
    """Tell which files of a repository are not in the artifact that Flux makes of it.

    Args:
        files: the text of each .sourceignore by its folder, which is empty for the root.
        spec: `spec.ignore` of the GitRepository, None when it has none.
    """

    def __init__(self, files: Mapping[str, str], spec: str | None = None) -> None:
        own = [(folder, _patterns(text)) for folder, text in sorted(files.items())]
        own += [("", _patterns(spec))] if spec is not None else []
        own = [(folder, lines) for folder, lines in own if lines]
        groups = [("", [*_ALWAYS]), *(own or [("", [*_DEFAULT])])]
        self._groups = [(f"{folder}/" if folder else "", _compiled(lines)) for folder, lines in reversed(groups)]

    def excludes(self, path: str) -> bool:
        """Tell whether a file, by its path from the root, is left out."""
        for prefix, patterns in self._groups:
            if path.startswith(prefix):
                found = patterns.check_file(path[len(prefix) :]).include
                if found is not None:
                    return found
        return False


def ignore_folders(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the .sourceignore files among paths: the folder that each counts for, and its path."""
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name == FILE:
            yield folder, path


def _patterns(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip(" !/") and not line.startswith("#")]


def _compiled(lines: Iterable[str]) -> PathSpec[Pattern]:
    """Compile patterns; one that is none matches nothing."""
    return PathSpec(pattern for line in lines for pattern in _compiled_line(line))


def _compiled_line(line: str) -> list[Pattern]:
    try:
        return list(PathSpec.from_lines(GitIgnoreSpecPattern, [line]).patterns)
    except ValueError:
        return []
