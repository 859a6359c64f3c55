"""Whatever becomes of a manifest, the rules answer: no value has the type that a rule may rely on."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.checks.repository import check_repository
from labkit.facts.manifests import parse_manifests

from .small_trees import facts_of, load_cases

CASES = [case for _, case in load_cases()]
ODD = ([], {}, [None], {"name": []}, [[1]], "Host(`", "${X}", [5], {"a": {"b": []}})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 99999),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(ODD),
)


def mutate(tree: Any, value: Any, turn: int) -> Any:
    """Put a value in the place of one node of a tree; the turn decides which."""
    children = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    if not children or turn % 7 == 0:
        return value
    key, child = children[turn % len(children)]
    changed = mutate(child, value, turn // len(children) + turn % 3)
    if isinstance(tree, dict):
        return {**tree, key: changed}
    return [changed if index == key else item for index, item in enumerate(tree)]


@settings(max_examples=300)
@given(st.sampled_from(CASES), st.lists(st.tuples(SCALARS, st.integers(1, 100_000)), min_size=1, max_size=4))
def test_no_value_ends_in_a_traceback(case: Any, changes: list[tuple[Any, int]]) -> None:
    files = {}
    for path, text in case.files.items():
        trees = list(parse_manifests(text).trees)
        for value, turn in changes:
            index = turn % len(trees) if trees else 0
            trees[index : index + 1] = [mutate(tree, value, turn) for tree in trees[index : index + 1]]
        files[path] = "\n---\n".join(json.dumps(tree, default=dict) for tree in trees)
    assert all(finding.line > 0 and finding.why for finding in check_repository(facts_of(files)))


@settings(max_examples=150)
@given(st.sampled_from(CASES), st.lists(st.tuples(st.integers(0, 5000), st.text(max_size=3)), min_size=1, max_size=5))
def test_no_text_ends_in_a_traceback(case: Any, edits: list[tuple[int, str]]) -> None:
    files = {}
    for path, text in case.files.items():
        changed = text
        for at, put in edits:
            place = at % (len(changed) + 1)
            changed = changed[:place] + put + changed[place + at % 9 :]
        files[path] = changed
    assert all(finding.line > 0 for finding in check_repository(facts_of(files)))
