"""The report as JUnit XML, for what shows test results: a suite per area, a case per check. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from labkit.health import HealthFinding, HealthReport, Outcome

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(report: HealthReport) -> str:
    """Return the report as XML. What gives exit status 1 is a failure; less severe findings stand in system-out."""
    failing = {one.key for one in report.failing}
    root = ET.Element("testsuites", name=f"health of lab {report.lab}")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for area in report.areas:
        suite = _suite(report, area.area, failing)
        root.append(suite)
        for name in totals:
            totals[name] += int(suite.attrib[name])
    root.attrib |= {name: str(value) for name, value in totals.items()} | {"time": f"{report.cost.seconds:.3f}"}
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(report: HealthReport, area: str, failing: set[tuple[str, str]]) -> ET.Element:
    suite = ET.Element("testsuite", name=area, timestamp=f"{report.made_at:%Y-%m-%dT%H:%M:%S}", time="0.000")
    checks = [one for one in report.checks if one.area == area]
    found = [one for one in report.findings if one.area == area]
    for check in checks:
        mine = [one for one in found if one.id == check.id]
        case = _case(suite, area, check.id, mine, failing)
        if check.outcome is Outcome.UNASKED:
            ET.SubElement(case, "skipped", message=_clean(f"{', '.join(check.missing)} could not be read"))
        elif check.outcome is Outcome.BROKEN:
            said = next((one.got for one in found if one.subject == f"check {check.id}"), "")
            ET.SubElement(case, "error", type="broken", message=_clean(said))
    known = {check.id for check in checks}
    for finding in found:
        if finding.id not in known:  # what the report found of itself: a system that was not read, an entry that ended
            _case(suite, area, f"{finding.id} {finding.subject}", [finding], failing)
    counts = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error",
              "skipped": "testcase/skipped"}  # fmt: skip
    suite.attrib |= {name: str(len(suite.findall(path))) for name, path in counts.items()}
    return suite


def _case(
    suite: ET.Element, area: str, name: str, findings: Sequence[HealthFinding], failing: set[tuple[str, str]]
) -> ET.Element:
    case = ET.SubElement(suite, "testcase", classname=f"health.{area}", name=_clean(name), time="0.000")
    bad = [one for one in findings if one.key in failing]
    if bad:  # JUnit takes one failure per case
        said = bad[0] if len(bad) == 1 else f"{len(bad)} findings, the first: {bad[0]}"
        failure = ET.SubElement(case, "failure", type=bad[0].severity.value, message=_clean(str(said)))
        failure.text = _clean("\n".join(str(one) for one in bad))
    rest = [one for one in findings if one.key not in failing]
    if rest:
        ET.SubElement(case, "system-out").text = _clean("\n".join(f"{one.severity}: {one}" for one in rest))
    return case


def _clean(text: str) -> str:
    """Leave out what XML cannot hold at all."""
    return _FORBIDDEN.sub("\ufffd", text)
