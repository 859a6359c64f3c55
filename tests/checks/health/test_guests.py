"""What the report says of the guests: for each trouble what it must find, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from labkit.facts.guesthealth import FileSystem, UnitState
from tests.checks.health.trio import DAY, LAB, NOW, Row, findings, found, got, guests, kube, limits, pve

GIB = 1024**3
ROOT = FileSystem(target="/", total=100 * GIB, used=82 * GIB, free=18 * GIB, inodes=1000, inodes_used=50)


def units(**states: str) -> dict[str, UnitState]:
    well = {"k3s-agent": "active", "k3s": "inactive", "qemu-guest-agent": "active"}
    given = well | {name.replace("_", "-"): state for name, state in states.items()}
    return {name: UnitState(state=state) for name, state in given.items()}


TABLE: dict[str, tuple[dict[str, Any], list[Row]]] = {
    "well": ({}, []),
    "away": ({"reachable": False, "problem": "no answer"}, [("reachable", "error", "guest four")]),
    "another machine": (
        {"reachable": False, "host_key": "wrong", "problem": "..."}, [("host-key", "error", "guest four")],
    ),
    "fills": ({"file_systems": (ROOT,)}, [("disk", "warning", "guest four")]),
    "full": (
        {"file_systems": (ROOT.model_copy(update={"used": 93 * GIB, "free": 7 * GIB}),)},
        [("disk", "error", "guest four")],
    ),
    "longhorn's own disk": (
        {"file_systems": (ROOT.model_copy(update={"used": 1, "target": "/"}),
                          ROOT.model_copy(update={"target": "/var/lib/longhorn"}))},
        [("disk", "warning", "guest four")],
    ),
    "inodes": (
        {"file_systems": (ROOT.model_copy(update={"used": GIB, "inodes_used": 900}),)},
        [("inodes", "warning", "guest four")],
    ),
    "no fixed inodes": ({"file_systems": (ROOT.model_copy(update={"used": GIB, "inodes": 0}),)}, []),
    "read-only": ({"read_only": True}, [("read-only", "error", "guest four")]),
    "memory": ({"memory_free": GIB // 5}, [("memory", "warning", "guest four")]),
    "clock ahead": ({"clock_offset": 9.0}, [("clock", "warning", "guest four")]),
    "clock behind": ({"clock_offset": -3.0}, [("clock", "warning", "guest four")]),
    "perhaps ahead": ({"clock_offset": 2.5, "clock_error": 1.0}, []),
    "not synchronized": ({"synchronized": False}, [("clock", "warning", "guest four")]),
    "does not say": ({"synchronized": None, "clock_offset": None}, []),
    "restart asked for lately": ({"reboot_since": NOW - 3 * DAY}, []),
    "restart asked for long ago": ({"reboot_since": NOW - 20 * DAY}, [("reboot", "warning", "guest four")]),
    "failed unit": ({"failed_units": ("snapd",)}, [("units", "warning", "guest four")]),
    "k3s failed": (
        {"failed_units": ("k3s-agent",), "units": units(k3s_agent="failed")}, [("k3s-unit", "error", "guest four")],
    ),
    "the other role": (
        {"units": units(k3s="active", k3s_agent="inactive")}, [("k3s-unit", "error", "guest four")],
    ),
    "starts again and again": ({"units": units(k3s_agent="activating")}, [("k3s-unit", "error", "guest four")]),
    "no k3s": ({"k3s_version": ""}, [("k3s-version", "warning", "guest four")]),
    "an older k3s": (
        {"k3s_version": "v1.33.3+k3s1"},
        [("k3s-version", "warning", "guest four"), ("kubernetes.version", "warning", "node four")],
    ),
    "a newer k3s": (
        {"k3s_version": "v1.34.1+k3s1"},
        [("k3s-version", "warning", "k3s.version of the lab file"), ("kubernetes.version", "warning", "node four")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_each_trouble_is_found_and_nothing_else(name: str) -> None:
    values, expected = TABLE[name]
    assert found(guest_health=guests(four=values)) == [
        (check if "." in check else f"guests.{check}", *rest) for check, *rest in expected
    ]


def test_words() -> None:
    assert got("guests.clock", guest_health=guests(four={"clock_offset": -3.0})) == ["3.0 s behind"]
    assert got("guests.clock", guest_health=guests(four={"synchronized": False})) == ["nothing keeps it right"]
    assert got("guests.disk", guest_health=guests(four={"file_systems": (ROOT,)})) == ["82 %, 18 GiB free"]
    asked = {"reboot_since": NOW - 20 * DAY, "reboot_for": ("linux-image-6.8.0-88-generic", "linux-base")}
    assert got("guests.reboot", guest_health=guests(four=asked)) == [
        "asked for 20 days ago for linux-image-6.8.0-88-generic, linux-base"
    ]
    both = guests(four={"units": units(k3s="active", k3s_agent="failed")})
    assert got("guests.k3s-unit", guest_health=both) == ["k3s-agent failed, and k3s active"]


def test_limits_of_the_lab_file_count() -> None:
    assert found(limits("guests", disk_percent=90, disk_full_percent=95), guest_health=guests(
        four={"file_systems": (ROOT,)})) == []  # fmt: skip
    late = guests(four={"reboot_since": NOW - timedelta(days=3)})
    assert found(limits("guests", reboot_days=2), guest_health=late) == [("guests.reboot", "warning", "guest four")]


def test_remedies_name_what_to_do() -> None:
    ill = {name: values for name, (values, _) in TABLE.items() if values}
    for values in ill.values():
        facts = {"proxmox-health": pve(), "guest-health": guests(four=values), "kubernetes": kube()}
        for one in findings(LAB, facts):
            assert one.remedy, one.id
            assert "`" in one.remedy or "run " in one.remedy or "ssh " in one.remedy, (one.id, one.remedy)
