"""Manifests are parsed as YAML is, with the line of every value, whatever the text."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labkit.facts.manifests import dig, line_at, parse_manifests, walk_leaves

TEXT = """# a comment
apiVersion: v1
kind: ConfigMap
metadata:
  name: a
  labels: &labels {app: b}
data:
  text: |
    one
    two
  list:
    - x
    - y: 1
      z: *labels
---
kind: Second
"""


@pytest.mark.parametrize(
    ("steps", "line"),
    [
        ((), 2),
        (("kind",), 3),
        (("metadata", "name"), 5),
        (("metadata", "labels", "app"), 6),
        (("data", "text"), 8),
        (("data", "list", 0), 12),
        (("data", "list", 1, "y"), 13),
        (("data", "list", 1, "z", "app"), 6),
        (("data", "none", "deeper"), 7),
        (("data", "list", 9), 11),
    ],
)
def test_lines(steps: tuple[str | int, ...], line: int) -> None:
    first, second = parse_manifests(TEXT).trees
    assert line_at(first, steps) == line
    assert line_at(second, ("kind",)) == 16


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.text(max_size=8))
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@given(st.lists(TREES, min_size=1, max_size=3))
def test_what_is_written_is_read(trees: list[Any]) -> None:
    text = yaml.safe_dump_all(trees, default_style=None)
    assert list(parse_manifests(text).trees) == trees


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_any_text_gives_trees_or_a_trouble(text: str) -> None:
    parsed = parse_manifests(text)
    assert parsed.trouble is None or parsed.trouble.message


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 50_000, "a: &a [*a]", "&a [*a, *a]"])
def test_deep_and_endless_texts(text: str) -> None:
    assert parse_manifests(text).trouble is not None


def test_a_bomb_of_aliases() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert parse_manifests("\n".join(rows)).trouble is not None


def test_repeated_keys_and_merges() -> None:
    parsed = parse_manifests("a: 1\nb: 2\na: 3\n")
    assert [(trouble.line, trouble.message) for trouble in parsed.repeated] == [
        (3, "the key a stands twice, first in line 1")
    ]
    merged = parse_manifests("base: &base {x: 1, y: 2}\nown:\n  <<: *base\n  y: 3\n").trees[0]
    assert merged["own"] == {"x": 1, "y": 3}


def test_definitions_in_a_large_text_become_stubs() -> None:
    crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: things.example.net\n"
    filler = "spec:\n" + "".join(f"  key{n}: value\n" for n in range(10_000))
    parsed = parse_manifests(f"{crd}{filler}---\nkind: After\n")
    assert parsed.trees[0]["metadata"] == {"name": "things.example.net"}
    assert "spec" not in parsed.trees[0]
    assert line_at(parsed.trees[1], ("kind",)) == filler.count("\n") + 6


def test_walks() -> None:
    tree = parse_manifests(TEXT).trees[0]
    assert dict(walk_leaves(tree))["data", "list", 1, "y"] == 1
    assert dig(tree, "data", "list", 1, "z", "app") == "b"
    assert dig(tree, "data", "list", -1) is None
    assert dig(tree, "data", "text", "x") is None
