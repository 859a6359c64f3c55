"""CRDs: all that come along install, and their schemas prune, default and validate."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.twin.kube import crd_files, schema
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.door import ApiError
from labkit.twin.kube.local import LocalApi

COUNTS = {
    "cert-manager": 6,
    "flux": 8,
    "longhorn-v1.10.2": 22,
    "longhorn-v1.11.3": 22,
    "longhorn-v1.12.1": 25,
    "longhorn-v1.9.2": 22,
    "metallb": 9,
    "system-upgrade": 1,
    "traefik": 10,
}
CRDS = "customresourcedefinitions.apiextensions.k8s.io"


def test_the_bundles() -> None:
    assert crd_files.bundles() == sorted(COUNTS)


@pytest.mark.parametrize("bundle", COUNTS)
def test_every_definition_installs_and_is_established(bundle: str) -> None:
    core = new_core()
    crd_files.install(core, bundle)
    crd_files.install(core, bundle)
    stored = LocalApi(core).list(CRDS)
    assert len(stored) == COUNTS[bundle]
    for crd in stored:
        state = crd["status"]
        assert [(c["type"], c["status"]) for c in state["conditions"]] == [
            ("NamesAccepted", "True"),
            ("Established", "True"),
        ]
        names = crd["spec"]["names"]
        for version in crd["spec"]["versions"]:
            served = core.registry.at(crd["spec"]["group"], version["name"], names["plural"])
            assert (served is not None) == version["served"]


@pytest.mark.parametrize("bundle", COUNTS)
def test_nothing_of_a_definition_is_lost(bundle: str) -> None:
    core = new_core()
    crd_files.install(core, bundle)
    for sent in crd_files.definitions(bundle):
        stored = core.store.get(CRDS, "", sent["metadata"]["name"])
        assert stored is not None
        for version, kept in zip(sent["spec"]["versions"], stored.object["spec"]["versions"], strict=True):
            assert kept["schema"] == version["schema"]


def cause_of(schema_: dict[str, Any], value: Any) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in schema.validate(value, schema_, "spec.x")]


@pytest.mark.parametrize(
    ("rule", "good", "bad", "said"),
    [
        ({"type": "string"}, "a", 5, 'Invalid value: "integer": HERE must be of type string: "integer"'),
        ({"type": "integer"}, 5, "5", 'Invalid value: "string": HERE must be of type integer: "string"'),
        ({"type": "integer"}, 5, 5.5, 'Invalid value: "number": HERE must be of type integer: "number"'),
        ({"type": "number"}, 5, True, 'Invalid value: "boolean": HERE must be of type number: "boolean"'),
        ({"type": "array", "items": {}}, [], {}, 'Invalid value: "object": HERE must be of type array: "object"'),
        ({"type": "string"}, "", None, 'Invalid value: "null": HERE must be of type string: "null"'),
        (
            {"x-kubernetes-int-or-string": True},
            "5",
            [],
            'Invalid value: "array": HERE must be of type integer,string: "array"',
        ),
        ({"type": "string", "enum": ["a", "b"]}, "a", "c", 'Unsupported value: "c": supported values: "a", "b"'),
        ({"type": "string", "minLength": 2}, "ab", "a", 'Invalid value: "a": HERE should be at least 2 chars long'),
        ({"type": "string", "maxLength": 2}, "ab", "abc", "Too long: may not be more than 2 bytes"),
        ({"type": "string", "pattern": "^a+$"}, "aa", "b", "Invalid value: \"b\": HERE should match '^a+$'"),
        ({"type": "integer", "minimum": 1}, 1, 0, "Invalid value: 0: HERE should be greater than or equal to 1"),
        ({"type": "integer", "maximum": 3}, 3, 4, "Invalid value: 4: HERE should be less than or equal to 3"),
        (
            {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
            2,
            1,
            "Invalid value: 1: HERE should be greater than 1",
        ),
        (
            {"type": "integer", "maximum": 3, "exclusiveMaximum": True},
            2,
            3,
            "Invalid value: 3: HERE should be less than 3",
        ),
        ({"type": "integer", "multipleOf": 4}, 8, 6, "Invalid value: 6: HERE should be a multiple of 4"),
        ({"type": "array", "minItems": 1, "items": {}}, [1], [], "Invalid value: 0: HERE should have at least 1 items"),
        ({"type": "array", "maxItems": 1, "items": {}}, [1], [1, 2], "Too many: 2: must have at most 1 items"),
        ({"type": "object", "maxProperties": 1}, {"a": 1}, {"a": 1, "b": 2}, "Too many: 2: must have at most 1 items"),
        (
            {"type": "string", "format": "date-time"},
            "2026-11-23T00:00:00Z",
            "today",
            'Invalid value: "today": HERE must be of type date-time: "today"',
        ),
    ],
)
def test_rules_of_one_value(rule: dict[str, Any], good: Any, bad: Any, said: str) -> None:
    assert cause_of(rule, good) == []
    assert cause_of(rule, bad) == [f"spec.x: {said}".replace("HERE", "spec.x in body")]


def test_duplicates_in_keyed_lists_and_sets() -> None:
    keyed = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object"},
    }
    assert cause_of(keyed, [{"k": 1}, {"k": 2}]) == []
    assert cause_of(keyed, [{"k": 1}, {"k": 1}]) == ['spec.x[1]: Duplicate value: {"k":1}']
    assert cause_of({"type": "array", "x-kubernetes-list-type": "set", "items": {}}, ["a", "a"]) == [
        'spec.x[1]: Duplicate value: "a"'
    ]


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1}, {"a": 1, "b": 2}),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": 2}, {"c": 1}),
        ({"allOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": 2}, {"a": 1}),
        ({"not": {"required": ["a"]}}, {"b": 1}, {"a": 1}),
    ],
)
def test_combined_rules(rule: dict[str, Any], good: Any, bad: Any) -> None:
    assert cause_of(rule, good) == []
    assert cause_of(rule, bad) != []


def test_defaults_go_as_deep_as_there_are_objects() -> None:
    rule = {
        "type": "object",
        "properties": {
            "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 3}}},
            "c": {"type": "object", "properties": {"d": {"type": "string", "default": "x"}}},
            "l": {"type": "array", "items": {"type": "object", "properties": {"e": {"default": 1}}}},
            "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"f": {"default": 2}}}},
            "n": {"type": "string", "default": "filled"},
            "k": {"type": "string", "nullable": True, "default": "never"},
        },
    }
    value = {"l": [{}], "m": {"x": {}}, "n": None, "k": None}
    schema.fill_defaults(value, rule)
    assert value == {"a": {"b": 3}, "l": [{"e": 1}], "m": {"x": {"f": 2}}, "n": "filled", "k": None}


def test_what_nobody_described_is_pruned() -> None:
    rule = {
        "type": "object",
        "properties": {
            "known": {"type": "object", "properties": {}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {}}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {}}}},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {}},
        },
    }
    value = {
        "known": {"x": 1},
        "open": {"x": 1},
        "map": {"m": {"a": 1, "x": 1}},
        "list": [{"a": 1, "x": 1}],
        "inner": {"kind": "K", "metadata": {"name": "n"}, "x": 1},
        "x": 1,
    }
    assert sorted(schema.prune(value, rule)) == ["inner.x", "known.x", "list[0].x", "map.m.x", "x"]
    assert value["inner"] == {"kind": "K", "metadata": {"name": "n"}}
    assert value["open"] == {"x": 1}


OBJECTS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "traefik",
        {"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "spec": {"routes": [{"match": "Host(`a`)"}]}},
        {"spec": {"routes": [{"kind": "Rule"}]}},
        "spec.routes[0].match: Required value",
    ),
    (
        "cert-manager",
        {
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "spec": {"secretName": "s", "issuerRef": {"name": "i"}, "privateKey": {"algorithm": "ECDSA"}},
        },
        {"spec": {"secretName": "s", "issuerRef": {"name": "i"}, "privateKey": {"algorithm": "Enigma"}}},
        'spec.privateKey.algorithm: Unsupported value: "Enigma": supported values: "RSA", "ECDSA", "Ed25519"',
    ),
    (
        "metallb",
        {
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "spec": {"addresses": ["192.168.5.50-192.168.5.60"]},
        },
        {"spec": {}},
        "spec.addresses: Required value",
    ),
    (
        "longhorn-v1.12.1",
        {"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "spec": {"size": "1073741824", "accessMode": "rwo"}},
        {"spec": {"accessMode": "rox"}},
        'spec.accessMode: Unsupported value: "rox": supported values: "rwo", "rwop", "rwx"',
    ),
    (
        "system-upgrade",
        {"apiVersion": "upgrade.cattle.io/v1", "kind": "Plan", "spec": {"upgrade": {"image": "i"}, "concurrency": 1}},
        {"spec": {"upgrade": {"image": "i"}, "concurrency": "one"}},
        'must be of type integer: "string"',
    ),
]


@pytest.mark.parametrize(("bundle", "good", "bad", "said"), OBJECTS, ids=[case[0] for case in OBJECTS])
def test_objects_are_validated(bundle: str, good: dict[str, Any], bad: dict[str, Any], said: str) -> None:
    core = new_core()
    crd_files.install(core, bundle)
    resource = core.registry.of_kind(good["apiVersion"], good["kind"])
    assert resource is not None
    api = LocalApi(core)
    meta = {"metadata": {"name": "x", "namespace": "default"}}
    made = api.create(resource.key, {**good, **meta})
    assert made["metadata"]["generation"] == 1
    with pytest.raises(ApiError) as refused:
        api.create(resource.key, {**good, **bad, "metadata": {"name": "y", "namespace": "default"}})
    assert refused.value.code == 422
    assert said in str(refused.value)


def widgets(**version: Any) -> dict[str, Any]:
    shape = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    first = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": shape}} | version
    return {
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Cluster",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [first],
        },
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": {}}, "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"),
        ({"storage": False}, "must have exactly one version marked as storage version"),
    ],
)
def test_wrong_definitions_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError) as refused:
        LocalApi(new_core()).create(CRDS, widgets(**change))
    assert said in str(refused.value)


def test_a_definition_waits_for_objects_that_somebody_holds() -> None:
    core = new_core()
    api = LocalApi(core)
    api.create(CRDS, widgets())
    api.create("widgets.example.org", {"metadata": {"name": "held", "finalizers": ["example.org/hold"]}})
    api.create("widgets.example.org", {"metadata": {"name": "free"}})
    api.delete(CRDS, "widgets.example.org")
    left = api.get(CRDS, "widgets.example.org")
    assert left is not None
    assert left["metadata"]["deletionTimestamp"]
    assert [w["metadata"]["name"] for w in api.list("widgets.example.org")] == ["held"]
    api.patch("widgets.example.org", "held", {"metadata": {"finalizers": None}})
    assert api.get(CRDS, "widgets.example.org") is None
    assert core.registry.named("widgets.example.org") is None
    api.create(CRDS, widgets())
    assert api.list("widgets.example.org") == []


def test_a_scale_of_a_custom_kind() -> None:
    from labkit.twin.kube.options import Target, WriteOptions
    from labkit.twin.kube.scale import scale_of, set_scale

    core = new_core()
    api = LocalApi(core)
    paths = {
        "specReplicasPath": ".spec.copies",
        "statusReplicasPath": ".status.copies",
        "labelSelectorPath": ".status.labels",
    }
    api.create(CRDS, widgets(subresources={"status": {}, "scale": paths}))
    api.create("widgets.example.org", {"metadata": {"name": "w"}, "spec": {"copies": 2}})
    api.patch("widgets.example.org", "w", {"status": {"copies": 1, "labels": "a=b"}}, subresource="status")
    resource = core.resource("widgets.example.org")
    scale = scale_of(resource, core.get(resource, "", "w"))
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "a=b"})
    set_scale(core, Target(resource, "", "w"), {"spec": {"replicas": 5}}, WriteOptions())
    found = api.get("widgets.example.org", "w")
    assert found is not None
    assert found["spec"] == {"copies": 5}
    assert found["metadata"]["generation"] == 2
