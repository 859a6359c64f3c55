"""Suppressions are strict and end; every format can be read back and keeps every finding."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.checks.repository import RULES
from labkit.checks.repository.finding import RepoFinding
from labkit.checks.repository.formats import FORMATS
from labkit.checks.repository.suppress import Sorted, parse_suppressions, sort_out
from labkit.errors import InputError
from labkit.plan import Severity

TODAY = date(2026, 6, 1)
FINDING = RepoFinding("apps/a/deployment.yaml", 9, "image-floating", Severity.INFO, "why", "remedy")
OTHER = RepoFinding("apps/b/deployment.yaml", 9, "image-floating", Severity.ERROR, "why", "remedy")


def entry(**changed: str) -> str:
    fields = {"id": "image-floating", "file": "apps/a/*", "reason": "built by hand every week", "expires": "2026-12-31"}
    fields |= changed
    return "suppress:\n  - " + "\n    ".join(f'{key}: "{value}"' for key, value in fields.items() if value) + "\n"


def test_a_suppression_hides_what_it_names_and_no_more() -> None:
    result = sort_out([FINDING, OTHER], parse_suppressions(entry()), TODAY)
    assert result.findings == (OTHER,)
    assert [finding for finding, _ in result.suppressed] == [FINDING]


@pytest.mark.parametrize(
    ("expires", "ids"), [("2026-06-01", []), ("2026-05-31", ["suppression-ended", "image-floating"])]
)
def test_a_suppression_holds_through_its_last_day(expires: str, ids: list[str]) -> None:
    result = sort_out([FINDING], parse_suppressions(entry(expires=expires)), TODAY)
    assert [finding.id for finding in result.findings] == ids


def test_a_suppression_of_nothing_is_told() -> None:
    result = sort_out([OTHER], parse_suppressions(entry()), TODAY)
    assert {finding.id for finding in result.findings} == {"image-floating", "suppression-unused"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "suppress:\n", "suppress: []\n"])
def test_no_suppressions(text: str) -> None:
    assert parse_suppressions(text) == ()


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("a: b: c\n", 1, "YAML"),
        ("- a\n", 1, "a mapping"),
        ("suppressions: []\n", 1, "the key suppress"),
        ("suppress: {}\nmore: 1\n", 2, "the key suppress"),
        ("suppress: text\n", 1, "a list"),
        ("suppress: [text]\n", 1, "a mapping with id"),
        (entry(id="no-such-rule"), 2, "the id of a rule"),
        (entry(reason="short"), 4, "a reason"),
        (entry(reason=""), 2, "a reason"),
        (entry(expires=""), 2, "a date"),
        (entry(expires="next year"), 5, "a date"),
        (entry(until="2027-01-01"), 6, "one of id"),
        ("suppress: []\nsuppress: []\n", 2, "YAML"),
        ("suppress: []\n---\nsuppress: []\n", 1, "one YAML document"),
    ],
)
def test_bad_suppressions_are_refused_with_their_line(text: str, line: int, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_suppressions(text)
    assert any(m.line == line and m.expected.startswith(expected) for m in caught.value.mistakes), caught.value


@given(st.text(max_size=300))
def test_any_text_is_suppressions_or_an_input_error(text: str) -> None:
    try:
        parse_suppressions(text)
    except InputError as exc:
        assert exc.mistakes  # noqa: PT017  # both ends are fine


findings = st.builds(
    RepoFinding, st.text(min_size=1, max_size=30), st.integers(1, 10_000), st.sampled_from(sorted(RULES)),
    st.sampled_from(list(Severity)), st.text(max_size=40), st.text(max_size=40),
)  # fmt: skip


@given(st.lists(findings, max_size=6), st.sampled_from(sorted(FORMATS)))
def test_every_format_holds_every_finding(found: list[RepoFinding], form: str) -> None:
    hidden = parse_suppressions(entry())[0]
    text = FORMATS[form](Sorted(tuple(found), ((FINDING, hidden),)), {"files": 3})
    if form == "json":
        tree = json.loads(text)
        assert [row["line"] for row in tree["findings"]] == [f.line for f in found]
        assert tree["suppressed"][0]["reason"] == hidden.reason
    elif form == "sarif":
        results = json.loads(text)["runs"][0]["results"]
        assert [r["ruleId"] for r in results] == [*(f.id for f in found), FINDING.id]
        assert results[-1]["suppressions"][0]["justification"].startswith(hidden.reason)
    elif form == "junit":
        cases = ET.fromstring(text.encode("utf-8", "surrogatepass")).findall(".//testcase")
        assert len([case for case in cases if case.get("line")]) == len(found) + 1
        failed = [f for f in found if f.severity is not Severity.INFO]
        assert sum(case.find("failure") is not None for case in cases) == len(failed)
    else:
        assert all(f"[{f.id}]" in text for f in found)
        assert text.endswith("1 suppressed (3 files)\n")


def test_sarif_names_its_rules_and_places() -> None:
    run = json.loads(FORMATS["sarif"](Sorted((OTHER,)), {}))["runs"][0]
    names = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert set(RULES) <= set(names)
    result = run["results"][0]
    assert names[result["ruleIndex"]] == result["ruleId"] == "image-floating"
    assert result["level"] == "error"
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "apps/b/deployment.yaml"}, "region": {"startLine": 9}}


def test_a_finding_is_one_of_a_runbook_as_well() -> None:
    finding = OTHER.as_finding()
    assert (finding.id, finding.subject) == ("repository.image-floating", "apps/b/deployment.yaml:9")
    assert finding.expected == RULES["image-floating"].sentence
