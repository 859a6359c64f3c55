"""Objects as client-go's typed clients send them."""

from __future__ import annotations

import json
import struct
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.twin.kube.door import ApiError
from labkit.twin.kube.protobuf import read_protobuf

TABLE = json.loads(files("labkit.twin.kube").joinpath("data/protobuf.json").read_text("utf-8"))


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    body = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(body)) + body


def envelope(version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, version) + field(2, kind)) + field(2, raw)


def test_a_config_map() -> None:
    meta = field(1, "name") + field(2, "") + field(8, b"") + field(11, field(1, "app") + field(2, "x"))
    raw = (
        field(1, meta) + field(2, field(1, "key") + field(2, "value")) + field(3, field(1, "b") + field(2, b"\x00\x01"))
    )
    assert read_protobuf(envelope("v1", "ConfigMap", raw)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "name", "labels": {"app": "x"}},
        "data": {"key": "value"},
        "binaryData": {"b": "AAE="},
    }


def test_times_quantities_ports_and_embedded_parts() -> None:
    port = field(1, "web") + field(3, 80) + field(4, field(1, 1) + field(2, 0) + field(3, "http"))
    service = envelope("v1", "Service", field(2, field(1, port)))
    assert read_protobuf(service)["spec"]["ports"] == [{"name": "web", "port": 80, "targetPort": "http"}]
    claim = field(1, field(1, field(1, "storage") + field(2, field(1, "1Gi"))))
    source = field(1, "data") + field(2, field(10, field(1, "claim")))
    limits = field(1, field(1, "cpu") + field(2, field(1, "2")))
    pod = field(2, field(1, source) + field(2, field(1, "c") + field(8, limits)) + field(4, 0))
    spec = read_protobuf(envelope("v1", "Pod", pod))["spec"]
    assert spec["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "claim"}}]
    assert spec["containers"] == [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]
    assert spec["terminationGracePeriodSeconds"] == 0
    assert claim
    lease = field(2, field(1, "me") + field(2, 15) + field(4, field(1, 1_700_000_000) + field(2, 123456000)))
    found = read_protobuf(envelope("coordination.k8s.io/v1", "Lease", lease))["spec"]
    assert found == {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2023-11-14T22:13:20.123456Z"}


def test_delete_options_of_any_group() -> None:
    raw = field(1, -1) + field(4, "Foreground") + field(2, field(1, "some-uid"))
    found = read_protobuf(envelope("policy/v1", "DeleteOptions", raw))
    assert found["gracePeriodSeconds"] == -1
    assert found["propagationPolicy"] == "Foreground"
    assert found["preconditions"] == {"uid": "some-uid"}


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        envelope("v1", "Nonsense", b""),
        envelope("v1", "ConfigMap", b"\x0a"),
        envelope("v1", "ConfigMap", b"\x0f\x01"),
    ],
)
def test_what_cannot_be_read(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        read_protobuf(body)
    assert refused.value.code == 400


def test_fields_that_nobody_knows_are_passed_over() -> None:
    raw = field(99, "x") + varint(98 << 3 | 1) + struct.pack("<d", 1.0) + field(2, field(1, "a") + field(2, "b"))
    assert read_protobuf(envelope("v1", "ConfigMap", raw))["data"] == {"a": "b"}


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_keep_their_sign(number: int) -> None:
    found = read_protobuf(envelope("v1", "DeleteOptions", field(1, number)))
    assert found["gracePeriodSeconds"] == number


def test_the_table_leads_everywhere() -> None:
    for name, fields in TABLE.items():
        for text in fields.values():
            code = text.partition(":")[2].strip("*[]{}")
            assert code in TABLE or len(code) == 1 or code in ("time", "quantity", "intstr", "raw", "duration"), name


def json_name(text: str) -> Any:
    return text.partition(":")[0]


def test_the_table_names_the_fields_that_the_types_have() -> None:
    types = json.loads(files("labkit.twin.kube").joinpath("data/types.json").read_text("utf-8"))
    for kind in ("Pod", "Service", "ConfigMap", "Secret", "Node", "PersistentVolumeClaim", "Namespace"):
        for part in ("", "Spec", "Status"):
            known = types.get(f"V1{kind}{part}", {})
            sent = {json_name(text) for text in TABLE.get(f"core/v1.{kind}{part}", {}).values()} - {""}
            assert sent <= set(known), kind
