"""JSON patch, merge patch and the strategic merge patch, as tables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.twin.kube.builtin_shapes import shape_of
from labkit.twin.kube.patch import PatchError, json_patch, merge_patch
from labkit.twin.kube.strategic import strategic_merge

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a"], {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ("x", "y", "y"),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@given(values, values)
def test_a_merge_patch_twice_is_the_same_as_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/list/1", "value": "x"}], {"list": [1, "x", 2], "map": {"k": "v"}}),
        ([{"op": "add", "path": "/list/-", "value": 3}], {"list": [1, 2, 3], "map": {"k": "v"}}),
        ([{"op": "remove", "path": "/list/0"}], {"list": [2], "map": {"k": "v"}}),
        ([{"op": "replace", "path": "/map/k", "value": None}], {"list": [1, 2], "map": {"k": None}}),
        ([{"op": "move", "from": "/map/k", "path": "/moved"}], {"list": [1, 2], "map": {}, "moved": "v"}),
        ([{"op": "copy", "from": "/list", "path": "/map/l"}], {"list": [1, 2], "map": {"k": "v", "l": [1, 2]}}),
        ([{"op": "test", "path": "/list/1", "value": 2}], {"list": [1, 2], "map": {"k": "v"}}),
        ([{"op": "add", "path": "/map/a~1b~0c", "value": 1}], {"list": [1, 2], "map": {"k": "v", "a/b~c": 1}}),
    ],
)
def test_json_patch(operations: list[Any], result: Any) -> None:
    target = {"list": [1, 2], "map": {"k": "v"}}
    assert json_patch(target, operations) == result
    assert target == {"list": [1, 2], "map": {"k": "v"}}


@pytest.mark.parametrize(
    "operations",
    [
        {"op": "add"},
        [{"path": "/a"}],
        [{"op": "test", "path": "/list/0", "value": 9}],
        [{"op": "remove", "path": "/nosuch"}],
        [{"op": "replace", "path": "/list/7", "value": 1}],
        [{"op": "add", "path": "/list/x", "value": 1}],
        [{"op": "add", "path": "/list/9", "value": 1}],
        [{"op": "add", "path": "/list/0/deep", "value": 1}],
        [{"op": "add", "path": "list", "value": 1}],
        [{"op": "add", "path": "/new"}],
        [{"op": "twist", "path": "/list"}],
        [{"op": "copy", "from": "/nosuch", "path": "/new"}],
    ],
)
def test_json_patches_that_cannot_be_done(operations: Any) -> None:
    with pytest.raises(PatchError):
        json_patch({"list": [1, 2]}, operations)


POD = shape_of("V1PodSpec")
TWO = {"containers": [{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}


def named(spec: Any) -> list[str]:
    return [container["name"] for container in spec["containers"]]


def test_containers_are_merged_by_name() -> None:
    patch = {"containers": [{"name": "a", "image": "a:2"}, {"name": "c"}]}
    merged = strategic_merge(TWO, patch, POD)
    assert named(merged) == ["a", "b", "c"]
    assert merged["containers"][0] == {"name": "a", "image": "a:2", "env": [{"name": "X", "value": "1"}]}
    assert TWO["containers"][0]["image"] == "a:1"


@pytest.mark.parametrize(
    ("patch", "names"),
    [
        ({"containers": [{"name": "a", "$patch": "delete"}]}, ["b"]),
        ({"containers": [{"$patch": "replace"}, {"name": "z"}]}, ["z"]),
        ({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}, ["b", "a"]),
        (
            {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "c"}]},
            ["c", "a", "b"],
        ),
        ({"$patch": "replace", "containers": [{"name": "q"}]}, ["q"]),
    ],
)
def test_directives_of_a_strategic_patch(patch: Any, names: list[str]) -> None:
    assert named(strategic_merge(TWO, patch, POD)) == names


def test_sets_are_merged_and_items_taken_out() -> None:
    meta = shape_of("V1ObjectMeta")
    assert strategic_merge({"finalizers": ["a"]}, {"finalizers": ["b"]}, meta)["finalizers"] == ["a", "b"]
    gone = {"$deleteFromPrimitiveList/finalizers": ["a"]}
    assert strategic_merge({"finalizers": ["a", "b"]}, gone, meta)["finalizers"] == ["b"]


def test_atomic_lists_are_replaced() -> None:
    taints = shape_of("V1NodeSpec")
    old = {"taints": [{"key": "a", "effect": "NoSchedule"}]}
    new = {"taints": [{"key": "b", "effect": "NoExecute"}]}
    assert strategic_merge(old, new, taints) == new


def test_retained_keys_drop_the_others() -> None:
    spec = shape_of("V1DeploymentSpec")
    old = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    patch = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    assert strategic_merge(old, patch, spec) == {"strategy": {"type": "Recreate"}}


@pytest.mark.parametrize("patch", [{"containers": [{"image": "x"}]}, {"$patch": "turn"}])
def test_strategic_patches_that_cannot_be_done(patch: Any) -> None:
    with pytest.raises(PatchError):
        strategic_merge(TWO, patch, POD)
