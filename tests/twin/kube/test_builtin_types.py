"""The table of built-in types agrees with the official client, and the merge rules name real fields."""

from __future__ import annotations

import json

import pytest

from labkit.twin.kube import builtin_shapes
from labkit.twin.kube.builtin_shapes import shape_of
from labkit.twin.kube.resources import builtin_resources

from .builtin_types import TABLE, derive

STORED = json.loads(TABLE.read_text("utf-8"))


def test_the_table_is_what_the_client_says() -> None:
    now = derive()
    for name, fields in STORED.items():
        for field, code in fields.items():
            assert now[name].get(field, code) == code, f"{name}.{field}: write the table anew with builtin_types.py"


@pytest.mark.parametrize("resource", builtin_resources(), ids=lambda r: r.key)
def test_every_resource_has_a_shape(resource) -> None:
    assert "metadata" in resource.shape.fields
    meta = resource.shape.child("metadata")
    assert meta.child("finalizers").list_type == "set"
    assert meta.child("ownerReferences").keys == ("uid",)


def test_merge_rules_name_fields_that_there_are() -> None:
    places = [*builtin_shapes._keyed(), *builtin_shapes._SETS.replace("~", "").split(), *builtin_shapes._ATOMIC_FIELDS]
    places += [pair.split("=")[0] for pair in builtin_shapes._STRATEGIC_ONLY.split()]
    for place in places:
        name, _, field = place.partition(".")
        assert field in STORED[name], place
    for name in builtin_shapes._ATOMIC_TYPES.split():
        assert name in STORED


def test_types_may_hold_themselves() -> None:
    schema = shape_of("V1JSONSchemaProps")
    inner = schema.child("properties").child("anything").child("properties").child("more")
    assert inner.child("type").kind == "string"
