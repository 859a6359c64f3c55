"""The answers that a real kube-apiserver gave to 200 requests, asked of the twin in the same order."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from .recorded import Player, at, differences, facts_of, leaves

DATA = Path(__file__).parents[2] / "data" / "kube-api"
REQUESTS = json.loads((DATA / "requests.json").read_text("utf-8"))
ANSWERS = json.loads((DATA / "answers.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def player(bare) -> Player:
    return Player(bare)


@pytest.fixture(scope="module")
def bare(alone):
    with httpx.Client(base_url=alone.url, timeout=20, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("request_", REQUESTS, ids=[request["id"] for request in REQUESTS])
def test_the_twin_answers_as_the_real_server_did(player: Player, request_) -> None:
    assert differences(request_, ANSWERS[request_["id"]], player.send(request_)) == []


def test_every_request_has_an_answer() -> None:
    assert len(REQUESTS) == 200
    assert {request["id"] for request in REQUESTS} == set(ANSWERS)


@pytest.mark.parametrize(
    ("path", "value"),
    [("status", 500), ("body.reason", "Other"), ("body.message", "other"), ("body.details.name", "x")],
)
def test_the_comparison_sees_a_wrong_status(path: str, value: object) -> None:
    request = next(r for r in REQUESTS if r["id"] == "cm-again")
    changed = json.loads(json.dumps(ANSWERS["cm-again"]))
    *parents, last = path.split(".")
    at(changed, ".".join(parents))[last] = value
    assert len(differences(request, ANSWERS["cm-again"], changed)) == 1


def test_the_comparison_sees_a_lost_field() -> None:
    request = next(r for r in REQUESTS if r["id"] == "deploy-create")
    changed = json.loads(json.dumps(ANSWERS["deploy-create"]))
    del changed["body"]["spec"]["template"]["spec"]["containers"][1]
    del changed["body"]["metadata"]["uid"]
    said = differences(request, ANSWERS["deploy-create"], changed)
    assert any("containers.1.name" in line for line in said)
    assert any("meta uid" in line for line in said)


def test_paths_and_leaves_agree() -> None:
    value = {"a": [{"b.c": 1}, {}], "d": None}
    assert sorted(leaves(value)) == ["a.0.b~c", "a.1", "d"]
    assert at(value, "a.0.b~c") == 1
    assert facts_of({"method": "GET"}, {"status": 404, "type": "text/plain", "body": "404"})["text"] == "404"
