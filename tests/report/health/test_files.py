"""The files for machines: what is written is read back by their own rules."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.facts.overview import CapacityRow, Overview
from labkit.health import HealthReport
from labkit.report.health.junit import junit_xml
from labkit.report.health.prometheus import prometheus_text
from tests.report.health.rows import NOW, OVERVIEW, REPORT, WELL

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)')
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> Samples:
    """Read the exposition format as node_exporter's textfile collector does: strictly, and without timestamps."""
    assert text.endswith("\n")
    found: Samples = {}
    helped: list[str] = []
    typed: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            helped.append(line.split(" ")[2])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind == "gauge"
            typed.append(name)
        else:
            name, _, rest = line.partition("{")
            inside, _, value = rest.rpartition("} ")
            assert _NAME.fullmatch(name)
            assert name == typed[-1] == helped[-1]
            key = (name, _labels(inside))
            assert key not in found
            found[key] = float(value)
    assert len(set(typed)) == len(typed) == len(helped)
    return found


def _labels(text: str) -> tuple[tuple[str, str], ...]:
    found, place = [], 0
    while place < len(text):
        match = _LABEL.match(text, place)
        assert match, text[place:]
        found.append((match[1], re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), match[2])))
        place = match.end()
    return tuple(found)


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple({"lab": "home", **labels}.items())]


def test_prometheus_text_says_what_the_report_says() -> None:
    samples = parse(prometheus_text(REPORT, OVERVIEW))
    assert value(samples, "labkit_health_score") == 71
    assert value(samples, "labkit_health_report_timestamp_seconds") == NOW.timestamp()
    assert value(samples, "labkit_health_light", area="proxmox") == 2
    assert value(samples, "labkit_health_light", area="nas") == 3
    assert value(samples, "labkit_health_findings", area="guests", severity="warning") == 1
    assert value(samples, "labkit_health_findings", area="guests", severity="error") == 0
    assert value(samples, "labkit_health_check_passed", area="proxmox", check="proxmox.quorum") == 1
    assert value(samples, "labkit_health_check_passed", area="git", check="git.plaintext") == 1
    assert value(samples, "labkit_health_check_passed", area="guests", check="guests.disk") == 0
    assert not [key for key in samples if ("check", "nas.pool") in key[1]]
    assert value(samples, "labkit_health_system_read", system="nas") == 0
    assert value(samples, "labkit_storage_full_days", storage="venus/local-lvm") == 4.2
    assert value(samples, "labkit_backup_last_timestamp_seconds", volume="media/cache") == 0
    assert value(samples, "labkit_pod_restarts", pod="media/karakeep-0") == 17
    assert value(samples, "labkit_route_response_seconds", route="auth.efym.net") == 0.045
    assert not [key for key in samples if ("route", "media.efym.net") in key[1]]
    ends = value(samples, "labkit_certificate_expiry_timestamp_seconds", certificate="auth.efym.net")
    assert ends == (NOW + timedelta(days=61)).timestamp()


@given(st.text(), st.floats(allow_nan=False))
def test_any_name_and_any_number_come_back(name: str, days: float) -> None:
    row = CapacityRow(name=name, kind="x", used=1, total=2, days_left=days)
    samples = parse(prometheus_text(WELL, Overview(capacity=(row,))))
    assert value(samples, "labkit_storage_full_days", storage=name) == pytest.approx(days, nan_ok=True)
    assert math.isfinite(value(samples, "labkit_storage_used_bytes", storage=name))


def structure(text: str) -> ET.Element:
    """Parse JUnit XML and hold it to the rules that its readers keep."""
    root = ET.fromstring(text)
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        assert {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"} <= set(suite.attrib)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        names = [case.attrib["name"] for case in suite]
        assert len(set(names)) == len(names)
        for case in suite:
            assert case.tag == "testcase"
            assert {"classname", "name", "time"} <= set(case.attrib)
            assert sum(child.tag in ("failure", "error", "skipped") for child in case) <= 1
            assert {child.tag for child in case} <= {"failure", "error", "skipped", "system-out"}
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.attrib[count]) == len(suite.findall(f"testcase/{tag}"))
        assert int(suite.attrib["tests"]) == len(suite)
    for count in ("tests", "failures", "errors", "skipped"):
        assert int(root.attrib[count]) == sum(int(suite.attrib[count]) for suite in root)
    return root


def ends(report: HealthReport) -> dict[str, str]:
    """How each case ended."""
    cases = structure(junit_xml(report)).iter("testcase")
    return {case.attrib["name"]: next((c.tag for c in case if c.tag != "system-out"), "ok") for case in cases}


def test_junit_has_a_case_per_check_and_failures_from_fail_on_on() -> None:
    assert ends(REPORT) == {
        "proxmox.host-online": "failure", "proxmox.quorum": "ok", "guests.disk": "ok", "guests.clock": "error",
        "nas.pool": "skipped", "report.unread system nas": "failure", "git.floating": "ok", "git.plaintext": "ok",
    }  # fmt: skip
    assert ends(REPORT.model_copy(update={"fail_on": "warning"}))["guests.disk"] == "failure"
    assert "failure" not in ends(REPORT.model_copy(update={"fail_on": "never"})).values()
    assert ends(WELL) == {"proxmox.quorum": "ok"}
    case = next(case for case in structure(junit_xml(REPORT)).iter("testcase") if case.find("failure") is not None)
    failure = case.find("failure")
    assert failure is not None
    assert failure.attrib["message"].startswith("host venus: expected what is right, got what is <wrong> & odd")


@given(st.text())
def test_junit_takes_any_text(text: str) -> None:
    odd = REPORT.findings[0].model_copy(update={"subject": text, "got": text})
    structure(junit_xml(REPORT.model_copy(update={"findings": (odd,)})))
