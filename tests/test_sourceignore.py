"""Which files Flux leaves out, as a table: by patterns at the root, below it, of the source, and by itself."""

from __future__ import annotations

import pytest

from labkit.sourceignore import SourceIgnore, ignore_folders

Files = dict[str, str]
CASES: list[tuple[str, Files, str | None, str, str]] = [
    ("by itself: pictures and archives", {}, None, "a.yaml docs/a.md", "docs/a.png a.jpeg b/c.tar.gz d.zip"),
    ("by itself: files of Git and of CI", {}, None, "ci.yml", ".gitignore a/.gitattributes .github/x.yaml .drone.yml"),
    ("by itself: .sops.yaml anywhere", {}, None, "sops.yaml", ".sops.yaml a/.sops.yaml .goreleaser.yml"),
    (
        "own patterns take the place of the defaults",
        {"": "*.md\n"},
        None,
        "a.png .sops.yaml",
        "a.md b/a.md .gitmodules",
    ),
    ("so do those of the source", {}, "*.md\n", "a.png .sops.yaml .github/a.yaml", "a.md b/c/a.md .gitignore"),
    ("an empty text has no patterns", {"": "# nothing\n\n  \n"}, "", "a.md", "a.png"),
    ("everything but one folder", {"": "/*\n!/deploy\n"}, None, "deploy/a.yaml deploy/b/c.png", "a.yaml apps/deploy/a"),
    ("a file comes back although its folder is out", {"": "old/\n!old/keep.yaml\n"}, None, "old/keep.yaml", "old/a"),
    ("the last pattern decides", {"": "!a.yaml\na.yaml\n"}, None, "", "a.yaml x/a.yaml"),
    ("below a folder only", {"apps": "a.yaml\n/b.yaml\n"}, None, "a.yaml apps/x/b.yaml", "apps/x/a.yaml apps/b.yaml"),
    (
        "a folder's file over the root's",
        {"": "*.yaml\n", "apps": "!*.yaml\n"},
        None,
        "apps/a.yaml",
        "a.yaml app/a.yaml",
    ),
    (
        "the source over all files",
        {"": "a.yaml\n", "x": "a.yaml\n"},
        "!/x/a.yaml\n",
        "x/a.yaml y/b",
        "a.yaml x/y/a.yaml",
    ),
    ("a folder by its name with a slash", {"": "tmp/\n"}, None, "tmp x/tmp", "tmp/a x/tmp/a/b"),
    ("stars over folders", {"": "apps/**/test/*.yaml\n"}, None, "test/a.yaml", "apps/test/a.yaml apps/x/y/test/a.yaml"),
    ("what is no pattern matches nothing", {"": "/\n!\n[\n"}, None, "a b/c", ".gitignore"),
    ("escaped marks", {"": "\\#a\n\\!b\n"}, None, "a b", "#a !b"),
]


@pytest.mark.parametrize(
    ("files", "spec", "kept", "out"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_patterns(files: Files, spec: str | None, kept: str, out: str) -> None:
    ignore = SourceIgnore(files, spec)
    assert [path for path in kept.split() if ignore.excludes(path)] == []
    assert [path for path in out.split() if not ignore.excludes(path)] == []


def test_files_count_for_their_folder() -> None:
    paths = ["a.yaml", ".sourceignore", "apps/.sourceignore", "apps/not.sourceignore"]
    assert list(ignore_folders(paths)) == [("", ".sourceignore"), ("apps", "apps/.sourceignore")]
