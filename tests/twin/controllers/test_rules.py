"""Tables for the rules without I/O: quantities, selectors, tolerations, schedules, names, messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.twin.controllers.fit import matches_node, tolerates
from labkit.twin.controllers.job import parse_indexes, write_indexes
from labkit.twin.controllers.loadbalancer import expand
from labkit.twin.controllers.nodelifecycle import tolerated_for
from labkit.twin.controllers.objects import SAFE, matches, quantity, share, template_hash
from labkit.twin.controllers.pod_status import full_image
from labkit.twin.controllers.scheduler import failure_message


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("500m", 0.5), ("2Ki", 2048), ("1Gi", 2**30), ("1.5G", 1.5e9), ("1e3", 1000), (4, 4), ("x", 0)],
)
def test_quantity(text, number):
    assert quantity(text) == number


@pytest.mark.parametrize(
    ("value", "whole", "up", "number"),
    [("25%", 3, True, 1), ("25%", 3, False, 0), (2, 3, True, 2), ("100%", 4, False, 4), ("0%", 4, True, 0)],
)
def test_share(value, whole, up, number):
    assert share(value, whole, up=up) == number


@pytest.mark.parametrize(
    ("selector", "answer"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "x"}}, True),
        ({"matchLabels": {"app": "y"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["x", "y"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}, False),
        ({"matchExpressions": [{"key": "nosuch", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "n", "operator": "Gt", "values": ["3"]}]}, True),
        ({"matchExpressions": [{"key": "n", "operator": "Lt", "values": ["3"]}]}, False),
        ({"matchExpressions": [{"key": "n", "operator": "Nosuch"}]}, False),
    ],
)
def test_matches(selector, answer):
    assert matches(selector, {"app": "x", "n": "4"}) is answer


TAINT = {"key": "k", "value": "v", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("toleration", "answer"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "other"}, False),
        ({"key": "j", "operator": "Exists"}, False),
        ({}, False),
    ],
)
def test_tolerates(toleration, answer):
    assert tolerates(toleration, TAINT) is answer


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([], 0.0),
        ([{"operator": "Exists"}], None),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": 300}], 300.0),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": -1}], 0.0),
    ],
)
def test_how_long_a_taint_is_tolerated(tolerations, seconds):
    assert tolerated_for({"spec": {"tolerations": tolerations}}, [TAINT]) == seconds


def affinity(*terms):
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ({}, True),
        ({"nodeSelector": {"zone": "a"}}, True),
        ({"nodeSelector": {"zone": "b"}}, False),
        (affinity({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}), True),
        (affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}), False),
        (affinity({}), False),
        (affinity({}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}), True),
    ],
)
def test_matches_node(spec, answer):
    assert matches_node(spec, {"metadata": {"name": "n1", "labels": {"zone": "a"}}}) is answer


@given(st.sets(st.integers(0, 200)))
def test_completed_indexes_round_trip(indexes):
    assert parse_indexes(write_indexes(indexes)) == indexes


def test_completed_indexes_join_runs():
    assert write_indexes({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8"


@pytest.mark.parametrize(
    ("text", "count", "first", "last"),
    [
        ("192.168.5.50-192.168.5.60", 11, "192.168.5.50", "192.168.5.60"),
        ("192.168.5.64/30", 4, "192.168.5.64", "192.168.5.67"),
        ("192.168.5.50", 1, "192.168.5.50", "192.168.5.50"),
    ],
)
def test_address_ranges(text, count, first, last):
    found = expand(text)
    assert (len(found), found[0], found[-1]) == (count, first, last)


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("library/nginx:1", "docker.io/library/nginx:1"),
        ("ghcr.io/a/b:2", "ghcr.io/a/b:2"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("a/b@sha256:00", "docker.io/a/b@sha256:00"),
    ],
)
def test_image_names_in_full(image, full):
    assert full_image(image) == full


def test_failure_messages_count_reasons():
    taint = "node(s) had untolerated taint {node.kubernetes.io/unreachable: }"
    reasons = [taint, "Insufficient memory", "Insufficient memory"]
    assert failure_message(reasons, 3) == (
        f"0/3 nodes are available: 1 {taint}, 2 Insufficient memory. preemption: 0/3 nodes are available: "
        "2 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    )
    assert failure_message([], 0) == "no nodes available to schedule pods"


@given(st.dictionaries(st.text(max_size=5), st.integers()))
def test_template_hashes_are_safe_names(template):
    assert set(template_hash(template)) <= set(SAFE)
    assert template_hash(template) == template_hash(dict(reversed(template.items())))
    assert template_hash(template) != template_hash(template, 1)
