"""Every rule speaks where it should, at the right line, and is silent on its near misses."""

from __future__ import annotations

import pytest

from labkit.checks.repository import RULES, check_repository
from labkit.plan import Severity

from .small_trees import Case, load_cases

CASES = load_cases()
_ELSEWHERE = {"build-failed", "flux-path-missing", "not-built", "flux-variable-undefined", "yaml-invalid",
              "sops-recipients", "sops-key", "sops-mac", "sops-no-decryption"}  # fmt: skip


@pytest.mark.parametrize(("case"), [case for _, case in CASES], ids=[name for name, _ in CASES])
def test_findings_are_where_they_are_marked(case: Case) -> None:
    found = check_repository(case.facts())
    assert sorted((f.file, f.line, f.id) for f in found) == sorted(case.expected), "\n".join(map(str, found))


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])
def test_findings_never_quote_a_secret(case: Case) -> None:
    words = ("hunter2", "R3alPassw0rd", "Zk3Tq9LmXw81BvRt55Yh", "Tr0ubador", "s3cr3t", "b3BlbnNza")
    said = "\n".join(map(str, check_repository(case.facts())))
    assert not any(word in said for word in words)


def test_every_rule_has_a_case() -> None:
    marked = {name for _, case in CASES for _, _, name in case.expected}
    assert set(RULES) - marked == _ELSEWHERE


def test_findings_have_a_reason_and_a_remedy() -> None:
    found = [finding for _, case in CASES for finding in check_repository(case.facts())]
    assert all(finding.why and finding.remedy and finding.line > 0 for finding in found)


def test_missing_decryption() -> None:
    case = next(case for name, case in CASES if "without decryption" in name)
    assert [f.id for f in check_repository(case.facts(decrypts=False))] == ["sops-no-decryption"]


@pytest.mark.parametrize(
    ("flux", "expected"),
    [
        ((2, 0), ["flux-api-deprecated", "flux-api-removed"]),  # OCIRepository v1 and Alert v1beta3 are not yet there
        ((2, 6), ["flux-api-deprecated"] * 4),
        ((2, 7), ["flux-api-deprecated"] * 3 + ["flux-api-removed"]),
        ((2, 9), ["flux-api-deprecated"] + ["flux-api-removed"] * 3),
    ],
)
def test_target_version_decides_what_is_removed(flux: tuple[int, int], expected: list[str]) -> None:
    case = next(case for name, case in CASES if "removed in 2.7" in name)
    found = [f.id for f in check_repository(case.facts(), flux=flux) if f.id.startswith("flux-api")]
    assert sorted(found) == expected


def test_severity_differs_where_a_wrong_port_still_works() -> None:
    case = next(case for name, case in CASES if name == "ingress: ports")
    found = [f for f in check_repository(case.facts()) if f.id == "route-port"]
    assert [f.severity for f in found] == [Severity.ERROR, Severity.WARNING, Severity.ERROR]
