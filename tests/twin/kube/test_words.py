"""Small languages of the API: selectors, quantities, ages, paths, names, and what a request's path says."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.twin.kube.clock import age, parse_stamp, stamp
from labkit.twin.kube.door import ApiError
from labkit.twin.kube.jsonpath import find, parse
from labkit.twin.kube.names import check_labels, check_name
from labkit.twin.kube.paths import read_accept, read_path
from labkit.twin.kube.quantity import canonical, parse_quantity
from labkit.twin.kube.registry import Registry, version_rank
from labkit.twin.kube.selectors import field_matcher, label_matcher, selector_matches, selector_text

LABELS = {"app": "a", "tier": "x-1", "n": "5"}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("app=a", True),
        ("app==a", True),
        ("app != a", False),
        ("other!=a", True),
        ("app in (a, b)", True),
        ("app in (b)", False),
        ("app notin (b),tier", True),
        ("other notin (b)", True),
        ("!other", True),
        ("! app", False),
        ("app,tier=x-1", True),
        ("app=", False),
        ("n>4", True),
        ("n<5", False),
        ("other>1", False),
    ],
)
def test_label_selectors(selector: str, fits: bool) -> None:
    matcher = label_matcher(selector)
    assert matcher is not None
    assert matcher({"metadata": {"labels": LABELS}}) is fits


def test_an_empty_selector_takes_all() -> None:
    assert label_matcher("") is None


@pytest.mark.parametrize("selector", ["app in a", "app in (a", ",", "app in", "=a", "app=a b"])
def test_label_selectors_that_cannot_be_read(selector: str) -> None:
    with pytest.raises(ApiError) as refused:
        label_matcher(selector)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("key", "selector", "fits"),
    [
        ("pods", "spec.nodeName=n1", True),
        ("pods", "spec.nodeName!=n1", False),
        ("pods", "metadata.name=p,status.phase!=Failed", True),
        ("pods", "status.podIP=", True),
        ("nodes", "spec.unschedulable=true", True),
        ("secrets", "type=Opaque", False),
    ],
)
def test_field_selectors(key: str, selector: str, fits: bool) -> None:
    obj = {"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "unschedulable": True}, "status": {"phase": "Running"}}
    resource = Registry().named(key)
    assert resource is not None
    matcher = field_matcher(selector, resource)
    assert matcher is not None
    assert matcher(obj) is fits


@pytest.mark.parametrize("selector", ["spec.colour=red", "nonsense"])
def test_field_selectors_that_nobody_knows(selector: str) -> None:
    resource = Registry().named("pods")
    assert resource is not None
    with pytest.raises(ApiError) as refused:
        field_matcher(selector, resource)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("selector", "fits", "text"),
    [
        ({"matchLabels": {"app": "a"}}, True, "app=a"),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}, True, "app in (a,b)"),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, False, "app notin (a)"),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True, "app"),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False, "!app"),
        ({}, True, ""),
        (None, False, ""),
    ],
)
def test_selectors_of_objects(selector: Any, fits: bool, text: str) -> None:
    assert selector_matches(selector, LABELS) is fits
    assert selector_text(selector) == text


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("100", "100"),
        (5, "5"),
        ("1e3", "1e3"),
        ("2500M", "2500M"),
        ("1000M", "1G"),
        ("0", "0"),
        ("500Ki", "500Ki"),
        ("0.1m", "100u"),
        ("0.0000000001", "1n"),
    ],
)
def test_quantities_are_written_as_the_server_does(given_: Any, wanted: str) -> None:
    assert canonical(given_) == wanted


@given(st.integers(0, 10**15), st.sampled_from(["", "Ki", "Mi", "Gi", "m", "k", "M", "G"]))
def test_a_quantity_keeps_its_value(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    assert parse_quantity(canonical(text)) == parse_quantity(text)
    assert canonical(canonical(text)) == canonical(text)


def test_quantities_that_are_none() -> None:
    assert parse_quantity("1Ki") == Fraction(1024)
    for text in ("", "1x", "GB", "--1"):
        with pytest.raises(ValueError, match="must match"):
            parse_quantity(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (-10, "<invalid>"),
        (119, "119s"),
        (120, "2m"),
        (190, "3m10s"),
        (1560, "26m"),
        (3 * 3600, "3h"),
        (5 * 3600 + 720, "5h12m"),
        (47 * 3600, "47h"),
        (51 * 3600, "2d3h"),
        (12 * 86400, "12d"),
        (800 * 86400, "2y70d"),
        (3650 * 86400, "10y"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert age(seconds) == text


@given(st.integers(0, 4 * 10**9))
def test_time_stamps_come_back(seconds: int) -> None:
    assert parse_stamp(stamp(seconds)) == seconds


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.size", ["1"]),
        ("{.spec.size}", ["1"]),
        (".spec.nosuch.deep", []),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type!='Ready')].status", ["False"]),
        (".status.conditions[0].type", ["Ready"]),
        (".status.conditions[-1].type", ["Other"]),
        (".status.conditions[9].type", []),
        (".status.conditions[*].type", ["Ready", "Other"]),
        (r".metadata.annotations.example\.org/note", ["n"]),
        (".metadata.annotations['example.org/note']", ["n"]),
        (".status.conditions[?(@.on==true)].type", ["Other"]),
    ],
)
def test_paths_of_printer_columns(path: str, found: list[Any]) -> None:
    obj = {
        "metadata": {"annotations": {"example.org/note": "n"}},
        "spec": {"size": "1"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False", "on": True}]
        },
    }
    assert find(obj, parse(path)) == found


@pytest.mark.parametrize(
    ("key", "name", "good"),
    [
        ("configmaps", "a.b-c", True),
        ("configmaps", "-a", False),
        ("configmaps", "A", False),
        ("configmaps", "a" * 254, False),
        ("namespaces", "a.b", False),
        ("services", "1a", False),
        ("services", "a1", True),
        ("clusterroles.rbac.authorization.k8s.io", "system:node", True),
        ("clusterroles.rbac.authorization.k8s.io", "a/b", False),
        ("pods", "", False),
    ],
)
def test_names(key: str, name: str, good: bool) -> None:
    assert (check_name(key, name) == []) is good


@pytest.mark.parametrize(
    ("key", "value", "good"),
    [
        ("a", "b", True),
        ("example.org/a", "", True),
        ("a b", "c", False),
        ("Example.org/a", "c", False),
        ("example.org/", "c", False),
        ("a", "b c", False),
        ("a", "b" * 64, False),
        ("a" * 64, "b", False),
    ],
)
def test_labels(key: str, value: str, good: bool) -> None:
    assert (check_labels({key: value}, "metadata.labels") == []) is good


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/api", ("", "", "", "", "", "")),
        ("/api/v1", ("", "v1", "", "", "", "")),
        ("/apis/apps", ("apps", "", "", "", "", "")),
        ("/apis/apps/v1/deployments", ("apps", "v1", "", "deployments", "", "")),
        ("/api/v1/namespaces/demo", ("", "v1", "", "namespaces", "demo", "")),
        ("/api/v1/namespaces/demo/status", ("", "v1", "", "namespaces", "demo", "status")),
        ("/api/v1/namespaces/demo/pods", ("", "v1", "demo", "pods", "", "")),
        ("/api/v1/namespaces/demo/pods/p/log", ("", "v1", "demo", "pods", "p", "log")),
        ("/api/v1/watch/namespaces/demo/pods", ("", "v1", "demo", "pods", "", "")),
    ],
)
def test_request_paths(path: str, parts: tuple[str, ...]) -> None:
    place = read_path(path)
    assert (place.group, place.version, place.namespace, place.plural, place.name, place.subresource) == parts
    assert place.watch is ("/watch/" in path)


def test_what_follows_a_proxy() -> None:
    assert read_path("/api/v1/namespaces/a/services/b:80/proxy/v1/volumes").rest == "v1/volumes"


@pytest.mark.parametrize(
    ("header", "form", "acceptable"),
    [
        ("", "object", True),
        ("*/*", "object", True),
        ("application/vnd.kubernetes.protobuf,application/json", "object", True),
        ("application/vnd.kubernetes.protobuf", "object", False),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Table", True),
        ("application/json;as=Chart;v=v1;g=meta.k8s.io,application/json", "object", True),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "PartialObjectMetadata", True),
    ],
)
def test_what_a_client_accepts(header: str, form: str, acceptable: bool) -> None:
    wanted = read_accept(header)
    assert (wanted.form, wanted.acceptable) == (form, acceptable)


def test_versions_are_ranked() -> None:
    versions = ["v1alpha1", "v1beta2", "v1", "v2", "v1beta1", "v10"]
    assert sorted(versions, key=version_rank, reverse=True) == ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1"]
