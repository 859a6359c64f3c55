"""The drill from end to end on one twin: what it proves, what it leaves, and what it says of each fault."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from labkit.errors import CheckFailed, LabError, StepFailed
from labkit.facts.evidence import CONFIG_MAP, label_value, scratch_name
from labkit.facts.longhorn import NAMESPACE
from labkit.systems.access import Step
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn import scratch as scratches
from labkit.systems.longhorn.parse import parse_backup
from labkit.systems.longhorn.paths import own, volume_act
from labkit.systems.longhorn.scratch import Scratch
from labkit.twin.client import TwinHandle
from tests.drill.conftest import Drill, until


def forget(cluster: Cluster, claim: str) -> None:
    """Make the evidence of a claim a month old, so that a drill of it is due."""
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIG_MAP}"
    key = f"default.{claim}"
    seen = json.loads(cluster.get(path)["data"][key])
    seen["at"] = (datetime.fromisoformat(seen["at"]) - timedelta(days=30)).isoformat()
    cluster.patch(path, {"data": {key: json.dumps(seen)}})


def failure(**wants: Any) -> LabError:
    with pytest.raises(LabError) as caught:
        Drill(**wants)
    return caught.value


def live(twin: TwinHandle) -> dict[str, Any]:
    return {name: (one["instance"], one["writes"], one["checksum"]) for name, one in twin.data().items()}


def test_backups_are_taken_verified_restored_compared_and_nothing_else_stays(twin: TwinHandle) -> None:
    twin.write_data()
    before = live(twin)
    done = Drill(side_by_side=2)
    assert done.changes == [
        "backup/default/notes/create", "drill/default/notes/act",
        "backup/default/photos/create", "drill/default/photos/act",
    ]  # fmt: skip
    assert done.plan is not None
    assert done.plan.risk == "safe"
    assert live(twin) == before
    facts = done.longhorn
    assert {(one.claim, one.proven, one.files) for one in facts.evidence} == {("notes", True, 3), ("photos", True, 3)}
    assert {one.volume: one.tree for one in facts.evidence} == {name: one[2] for name, one in before.items()}
    assert facts.leftovers == ()
    assert len(facts.volumes) == len(facts.backups) == 2
    assert {one.claim for one in facts.backups} == {"notes", "photos"}, "the labels that a restore needs"
    assert Drill().changes == []


def test_a_later_drill_replaces_the_backup_of_the_one_before_and_a_probe_has_its_say(cluster: Cluster) -> None:
    forget(cluster, "notes")
    probes = {"default/notes": "test -s state/app.json"}
    done = Drill(volumes=["notes"], probes=probes)
    assert done.changes == [
        "backup/default/notes/create", "drill/default/notes/act", "drill-backups/default/notes/delete",
    ]  # fmt: skip
    assert len(done.longhorn.backups) == 2
    assert done.longhorn.proof("default", "notes").probe == "exit status 0"


def test_the_newest_backup_is_proven_without_a_fresh_one(cluster: Cluster) -> None:
    forget(cluster, "photos")
    done = Drill(volumes=["default/photos"], fresh=False)
    assert done.changes == ["drill/default/photos/act"]
    assert len(done.longhorn.backups) == 2


def test_what_an_interrupted_drill_left_is_removed_by_the_next(cluster: Cluster) -> None:
    backup = next(one for one in map(parse_backup, cluster.items(own("backups"))) if one.claim == "notes")
    left = Scratch(scratch_name("default", "notes"), label_value("default", "notes"))
    scratches.restore(cluster, cluster.access, Step(), left, backup)
    scratches.make_namespace(cluster, left)
    scratches.bind(cluster, left, "device", size=backup.volume_size, block=True, fs_type="")
    volume_act(cluster, backup.volume, "snapshotCreate", {"name": "labkit-drill-0123456789ab"})
    tidied = Drill()
    assert sorted(tidied.changes) == [
        f"drill-leftover/Namespace/{left.name}/delete",
        f"drill-leftover/PersistentVolume/{left.name}-device/delete",
        "drill-leftover/Snapshot/labkit-drill-0123456789ab/delete",
        f"drill-leftover/Volume/{left.name}/delete",
    ]
    assert tidied.longhorn.leftovers == ()
    scratches.restore(cluster, cluster.access, Step(), left, backup)
    forget(cluster, "notes")
    again = Drill(volumes=["notes"])
    assert "drill/default/notes/act" in again.changes
    assert again.longhorn.leftovers == ()
    assert len(again.longhorn.volumes) == 2


def test_a_damaged_block_is_named_and_a_full_backup_mends_it(twin: TwinHandle, cluster: Cluster) -> None:
    forget(cluster, "notes")
    twin.fault("backup-corrupt:notes")
    error = failure(volumes=["notes"], fresh=False)
    assert isinstance(error, StepFailed)
    assert "default/notes: expected every block of backup-" in str(error)
    assert "block-checksum" in str(error) or "block-undecodable" in str(error) or "block-frame" in str(error)
    assert "run backup-drill with full" in str(error)
    mended = Drill(volumes=["notes"], full=True)
    assert mended.longhorn.proof("default", "notes").proven
    assert not any(name.startswith("drill/default/photos") for name in mended.changes)


def test_an_unproven_backup_stays_on_record_until_it_is_proven(twin: TwinHandle, cluster: Cluster) -> None:
    forget(cluster, "photos")
    twin.fault("backup-corrupt:photos")
    failure(volumes=["photos"], fresh=False)
    seen = Drill(volumes=["notes"]).longhorn.proof("default", "photos")
    assert not seen.proven
    assert "damaged" in seen.problem
    Drill(volumes=["photos"], full=True)


def test_an_export_that_is_empty_where_backups_should_be_stops_it(twin: TwinHandle, cluster: Cluster) -> None:
    twin.fault("nfs-empty:100000")
    try:
        error = failure()
        assert isinstance(error, CheckFailed)
        assert "expected backups of 2 volumes, got nfs://nas.lan:/tank/backups: expected a folder" in str(error)
        assert "got an empty folder" in str(error)
        assert "change nothing in Longhorn meanwhile" in str(error)
    finally:
        twin.clear("nfs-empty")
    until(lambda: sum(parse_backup(one).state == "Completed" for one in cluster.items(own("backups"))) == 2)
    assert Drill().changes == []


def test_a_nas_that_is_away_is_told_by_longhorns_own_words(twin: TwinHandle, cluster: Cluster) -> None:
    twin.fault("nas-unreachable")
    try:
        error = failure()
        assert isinstance(error, CheckFailed)
        assert "backup target default: expected available, got" in str(error)
        assert "Connection timed out" in str(error)
        assert "look at the NAS and its NFS service" in str(error)
    finally:
        twin.clear("nas-unreachable")
    path = own("backuptargets", "default")
    until(lambda: (cluster.get(path).get("status") or {}).get("available"))


def test_a_longhorn_that_is_too_slow_ends_with_what_was_seen_last(twin: TwinHandle, cluster: Cluster) -> None:
    forget(cluster, "notes")
    twin.fault("longhorn-slow:2000")
    try:
        error = failure(volumes=["notes"])
        assert isinstance(error, StepFailed)
        assert "expected within" in str(error)
        assert "last seen" in str(error)
    finally:
        twin.clear("longhorn-slow")
    assert Drill(volumes=["notes"]).longhorn.leftovers == ()
