"""TrueNAS' query language, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.twin.nas.errors import RpcError
from labkit.twin.nas.query import run_query

ROWS: list[dict[str, Any]] = [
    {
        "name": "tank",
        "size": 30,
        "tags": ["a", "b"],
        "when": {"$date": 1_700_000_000_000},
        "p": {"used": {"parsed": 5}},
    },
    {"name": "Vault", "size": 10, "tags": [], "when": {"$date": 1_600_000_000_000}, "p": {"used": {"parsed": 9}}},
    {"name": "flash", "size": None, "tags": ["b"], "when": {"$date": 1_650_000_000_000}, "p": {"a.b": 1}},
]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ([], ["tank", "Vault", "flash"]),
        ([["name", "=", "tank"]], ["tank"]),
        ([["name", "!=", "tank"]], ["Vault", "flash"]),
        ([["size", ">", 10]], ["tank"]),
        ([["size", ">=", 10]], ["tank", "Vault"]),
        ([["size", "<", 30]], ["Vault"]),
        ([["name", "~", "^[tf]"]], ["tank", "flash"]),
        ([["name", "in", ["tank", "flash"]]], ["tank", "flash"]),
        ([["name", "nin", ["tank", "flash"]]], ["Vault"]),
        ([["tags", "rin", "b"]], ["tank", "flash"]),
        ([["tags", "rnin", "b"]], ["Vault"]),
        ([["name", "^", "ta"]], ["tank"]),
        ([["name", "!^", "ta"]], ["Vault", "flash"]),
        ([["name", "$", "sh"]], ["flash"]),
        ([["name", "C=", "vault"]], ["Vault"]),
        ([["name", "C^", "VA"]], ["Vault"]),
        ([["p.used.parsed", "=", 9]], ["Vault"]),
        ([["p.a\\.b", "=", 1]], ["flash"]),
        ([["OR", [["name", "=", "tank"], ["size", "=", 10]]]], ["tank", "Vault"]),
        ([["OR", [[["name", "=", "tank"], ["size", "=", 10]], ["name", "=", "flash"]]]], ["flash"]),
        ([["when.$date", ">", "2022-01-01T00:00:00+00:00"]], ["tank", "flash"]),
    ],
)
def test_filters(filters: list[Any], names: list[str]) -> None:
    assert [row["name"] for row in run_query(ROWS, filters)] == names


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"count": True}, 3),
        ({"order_by": ["-name"], "select": ["name"]}, [{"name": "tank"}, {"name": "flash"}, {"name": "Vault"}]),
        ({"order_by": ["nulls_last:size"], "select": ["size"]}, [{"size": 10}, {"size": 30}, {"size": None}]),
        ({"limit": 1, "offset": 1, "select": [["p.used.parsed", "n"]]}, [{"n": 9}]),
        ({"get": True, "select": ["p.used.parsed"]}, {"p": {"used": {"parsed": 5}}}),
    ],
)
def test_options(options: dict[str, Any], answer: Any) -> None:
    assert run_query(ROWS, [], options) == answer


@pytest.mark.parametrize(
    ("filters", "options", "code"),
    [
        ([["name", "=", "no"]], {"get": True}, -32001),
        ([["name", "is", "no"]], {}, -32602),
        ([["name", "="]], {}, -32602),
        ("name", {}, -32602),
        ([["when.$date", "in", []]], {}, -32602),
        ([["when.$date", ">", "yesterday"]], {}, -32602),
        ([], {"limits": 1}, -32602),
        ([], {"get": True, "offset": 2}, -32602),
    ],
)
def test_mistakes(filters: Any, options: dict[str, Any], code: int) -> None:
    with pytest.raises(RpcError) as seen:
        run_query(ROWS, filters, options)
    assert seen.value.code == code
