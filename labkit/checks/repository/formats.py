"""Findings as text, JSON, JUnit and SARIF. Pure."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET  # only writes
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from labkit import __version__
from labkit.checks.repository.finding import RULES, RepoFinding
from labkit.checks.repository.suppress import Sorted
from labkit.plan import Severity

SARIF_LEVELS = {Severity.INFO: "note", Severity.WARNING: "warning", Severity.ERROR: "error"}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_CONTROL = {code: " " for code in range(32) if code not in {9, 10, 13}} | {0xFFFE: " ", 0xFFFF: " "}
_EXTRA = {
    "suppression-ended": "no suppression has ended",
    "suppression-unused": "every suppression hides something",
}


def count_words(result: Sorted) -> str:
    """Say how many findings there are of each severity."""
    numbers = [(sum(f.severity is severity for f in result.findings), severity) for severity in reversed(Severity)]
    parts = [f"{number} {severity}{'' if number == 1 else 's'}" for number, severity in numbers]
    hidden = f", {len(result.suppressed)} suppressed" if result.suppressed else ""
    return ", ".join(parts) + hidden


def as_text(result: Sorted, counts: Mapping[str, int]) -> str:
    """Return two lines a finding, grouped by file, and a summary."""
    lines: list[str] = []
    for finding in result.findings:
        lines.append(f"{finding.file}:{finding.line}: {finding.severity} [{finding.id}] {finding.why}")
        if finding.remedy:
            lines.append(f"    {finding.remedy}")
    read = ", ".join(f"{number} {name}" for name, number in counts.items())
    return "\n".join([*lines, f"{count_words(result)} ({read})", ""])


def as_json(result: Sorted, counts: Mapping[str, int]) -> str:
    """Return findings, suppressed ones with their reasons, and counts."""
    hidden = [
        {**_row(finding), "reason": entry.reason, "expires": entry.expires.isoformat()}
        for finding, entry in result.suppressed
    ]
    tree = {"findings": [_row(f) for f in result.findings], "suppressed": hidden, "counts": dict(counts)}
    return json.dumps(tree, indent=2) + "\n"


def _row(finding: RepoFinding) -> dict[str, Any]:
    return {
        "id": finding.id, "file": finding.file, "line": finding.line, "severity": str(finding.severity),
        "why": finding.why, "remedy": finding.remedy, "fingerprint": finding.fingerprint,
    }  # fmt: skip


def as_junit(result: Sorted, counts: Mapping[str, int]) -> str:
    """Return a test case per rule that holds, and one per finding: warnings and errors are failures."""
    found = {finding.id for finding in result.findings}
    failures = [f for f in result.findings if f.severity is not Severity.INFO]
    held = [(name, sentence) for name, sentence in _sentences().items() if name not in found]
    total = str(len(held) + len(result.findings) + len(result.suppressed))
    top = ET.Element("testsuites", name="labkit check repo", tests=total, failures=str(len(failures)))
    suite = ET.SubElement(top, "testsuite", name="repository", tests=total, failures=str(len(failures)), errors="0",
                           skipped=str(len(result.suppressed)))  # fmt: skip
    properties = ET.SubElement(suite, "properties")
    for name, number in counts.items():
        ET.SubElement(properties, "property", name=_clean(name), value=str(number))
    for name, sentence in held:
        ET.SubElement(suite, "testcase", classname=name, name=sentence)
    for finding in result.findings:
        case = _case(suite, finding)
        if finding in failures:
            failure = ET.SubElement(case, "failure", type=finding.id, message=_clean(finding.why))
            failure.text = _clean(str(finding))
        else:
            ET.SubElement(case, "system-out").text = _clean(str(finding))
    for finding, entry in result.suppressed:
        ET.SubElement(_case(suite, finding), "skipped", message=_clean(f"{entry.reason} (until {entry.expires})"))
    ET.indent(top)
    return ET.tostring(top, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, finding: RepoFinding) -> ET.Element:
    place = _clean(f"{finding.file}:{finding.line}")
    return ET.SubElement(suite, "testcase", classname=finding.id, name=place, file=_clean(finding.file),
                          line=str(finding.line))  # fmt: skip


def _clean(text: str) -> str:
    """Leave out what XML cannot hold."""
    return text.translate(_CONTROL).encode("utf-8", "replace").decode()


def as_sarif(result: Sorted, counts: Mapping[str, int]) -> str:
    """Return SARIF 2.1.0: rules, results with places and fingerprints, suppressed ones with their reasons."""
    names = list(_sentences())
    rules = [
        {
            "id": name,
            "shortDescription": {"text": sentence},
            "defaultConfiguration": {
                "level": SARIF_LEVELS[RULES[name].severity if name in RULES else Severity.WARNING]
            },
        }
        for name, sentence in _sentences().items()
    ]
    results = [_sarif(finding, names) for finding in result.findings]
    for finding, entry in result.suppressed:
        why = {"kind": "external", "status": "accepted", "justification": f"{entry.reason} (until {entry.expires})"}
        results.append({**_sarif(finding, names), "suppressions": [why]})
    driver = {"name": "labkit", "semanticVersion": __version__, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "results": results,
        "columnKind": "unicodeCodePoints",
        "properties": dict(counts),
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _sarif(finding: RepoFinding, names: list[str]) -> dict[str, Any]:
    text = f"{finding.why}. {finding.remedy}" if finding.remedy else finding.why
    place = {"artifactLocation": {"uri": _uri(finding.file)}, "region": {"startLine": finding.line}}
    return {
        "ruleId": finding.id,
        "ruleIndex": names.index(finding.id),
        "level": SARIF_LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"labkit/v1": finding.fingerprint},
    }


def _uri(path: str) -> str:

    return quote(path.encode("utf-8", "replace"))


def _sentences() -> dict[str, str]:
    return {name: one.sentence for name, one in RULES.items()} | _EXTRA


FORMATS: dict[str, Callable[[Sorted, Mapping[str, int]], str]] = {
    "text": as_text, "json": as_json, "junit": as_junit, "sarif": as_sarif,
}  # fmt: skip
"""The formats by name."""
