"""Who owns which field: sets of fields, updates, and server-side apply."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.twin.kube import fieldsets
from labkit.twin.kube.builtin_shapes import shape_of
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.door import ApiError
from labkit.twin.kube.local import LocalApi
from labkit.twin.kube.shapes import ANY

nodes = st.recursive(
    st.just({}), lambda inner: st.dictionaries(st.sampled_from([".", "f:a", "f:b", "f:c"]), inner, max_size=4)
)


def clean(tree: Any) -> Any:
    found = {key: {} if key == "." else clean(node) for key, node in tree.items()}
    return {} if set(found) == {"."} else found


trees = nodes.map(clean).filter(lambda tree: bool(tree) and "." not in tree)


def members(tree: Any) -> set[str]:
    return set(fieldsets.paths(tree))


@given(trees, trees)
def test_sets_of_fields_behave_as_sets(left: Any, right: Any) -> None:
    assert members(fieldsets.join(left, right)) == members(left) | members(right)
    assert members(fieldsets.without(left, right) or {}) == members(left) - members(right)
    both = fieldsets.intersection(left, right)
    assert (members(both) if both is not None else set()) == members(left) & members(right)


maps = st.recursive(
    st.integers(0, 2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
    max_leaves=6,
).filter(lambda value: isinstance(value, dict))


@given(maps, maps)
def test_what_was_compared_is_what_differs(old: Any, new: Any) -> None:
    changed, removed = fieldsets.compare(old, new, ANY)
    assert (changed is None and removed is None) == (old == new)
    merged = fieldsets.merge(old, new, ANY)
    assert fieldsets.compare(fieldsets.merge(merged, new, ANY), merged, ANY) == (None, None)


def test_items_are_named_by_their_keys() -> None:
    spec = {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}], "tolerations": [{"key": "x"}]}
    fields = fieldsets.all_fields(spec, shape_of("V1PodSpec"))
    assert list(fieldsets.paths(fields)) == [
        '.containers[name="c"]',
        '.containers[name="c"].name',
        '.containers[name="c"].ports[containerPort=80,protocol="TCP"]',
        '.containers[name="c"].ports[containerPort=80,protocol="TCP"].containerPort',
        ".tolerations",
    ]


@pytest.fixture
def api() -> LocalApi:
    return LocalApi(new_core(), "controller")


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": data}


def deployment(*containers: dict[str, Any], replicas: int | None = None) -> dict[str, Any]:
    labels = {"app": "web"}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": list(containers)}},
    }
    meta = {"name": "web", "namespace": "default"}
    spec |= {} if replicas is None else {"replicas": replicas}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def managers(obj: Any) -> list[tuple[str, str, str]]:
    return [(m["manager"], m["operation"], m.get("subresource", "")) for m in obj["metadata"]["managedFields"]]


def test_what_is_applied_no_more_goes(api: LocalApi) -> None:
    api.apply(config_map(a="1", b="1"), manager="one")
    assert api.apply(config_map(a="1"), manager="one")["data"] == {"a": "1"}


def test_what_another_owns_as_well_stays(api: LocalApi) -> None:
    api.apply(config_map(a="1", b="1"), manager="one")
    api.apply(config_map(b="1"), manager="two")
    left = api.apply(config_map(a="1"), manager="one")
    assert left["data"] == {"a": "1", "b": "1"}
    assert managers(left) == [("one", "Apply", ""), ("two", "Apply", "")]


def test_the_same_once_more_writes_nothing(api: LocalApi) -> None:
    first = api.apply(config_map(a="1"), manager="one")
    again = api.apply(config_map(a="1"), manager="one")
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_conflicts_are_listed_and_forced(api: LocalApi) -> None:
    api.apply(config_map(a="1", b="1"), manager="one")
    api.patch("configmaps", "c", {"data": {"z": "1"}}, "default")
    with pytest.raises(ApiError) as refused:
        api.apply(config_map(a="2", b="2", z="2"), manager="two")
    assert refused.value.code == 409
    assert str(refused.value) == (
        'Apply failed with 3 conflicts: conflicts with "controller" using v1:\n- .data.z\n'
        'conflicts with "one":\n- .data.a\n- .data.b'
    )
    forced = api.apply(config_map(a="2", b="2", z="2"), manager="two", force=True)
    assert managers(forced) == [("two", "Apply", "")]


def test_an_update_takes_what_it_changes(api: LocalApi) -> None:
    api.apply(config_map(a="1", b="1"), manager="one")
    api.patch("configmaps", "c", {"data": {"a": "2"}}, "default")
    with pytest.raises(ApiError, match=r'conflict with "controller" using v1: \.data\.a'):
        api.apply(config_map(a="1", b="1"), manager="one")


def test_items_of_keyed_lists_have_owners_of_their_own(api: LocalApi) -> None:
    api.apply(deployment({"name": "a", "image": "a:1"}), manager="one")
    both = deployment({"name": "b", "image": "b:1"})
    api.apply(both, manager="two")
    found = api.apply(deployment({"name": "a", "image": "a:2"}), manager="one")
    images = [container["image"] for container in found["spec"]["template"]["spec"]["containers"]]
    assert images == ["a:2", "b:1"]
    del both["spec"]["template"]["spec"]["containers"][0]
    both["spec"]["template"]["spec"].pop("containers")
    left = api.apply(both, manager="two")
    assert [c["name"] for c in left["spec"]["template"]["spec"]["containers"]] == ["a"]


def test_defaults_are_nobodys(api: LocalApi) -> None:
    api.apply(deployment({"name": "a", "image": "a:1"}), manager="one")
    scaled = api.apply(deployment({"name": "a", "image": "a:1"}, replicas=3), manager="two")
    assert scaled["spec"]["replicas"] == 3


def test_the_status_has_its_own_owners(api: LocalApi) -> None:
    made = api.apply(deployment({"name": "a", "image": "a:1"}), manager="one")
    api.update_status("deployments.apps", {**made, "status": {"replicas": 1}})
    found = api.get("deployments.apps", "web", "default")
    assert found is not None
    assert managers(found) == [("one", "Apply", ""), ("controller", "Update", "status")]


def test_what_an_update_removes_belongs_to_nobody(api: LocalApi) -> None:
    api.apply(config_map(a="1", b="1"), manager="one")
    api.patch("configmaps", "c", {"data": {"b": None}}, "default")
    found = api.get("configmaps", "c", "default")
    assert found is not None
    (entry,) = [m for m in found["metadata"]["managedFields"] if m["manager"] == "one"]
    assert entry["fieldsV1"] == {"f:data": {"f:a": {}}}


def test_a_client_may_clear_the_owners(api: LocalApi) -> None:
    api.apply(config_map(a="1"), manager="one")
    cleared = api.patch("configmaps", "c", {"metadata": {"managedFields": [{}]}}, "default")
    assert "managedFields" not in cleared["metadata"]
    assert api.apply(config_map(a="2"), manager="two")["data"] == {"a": "2"}
