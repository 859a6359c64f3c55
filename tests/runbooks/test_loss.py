"""What came back after everything was lost: rows from the twin's record and from what is there."""

from __future__ import annotations

from typing import Any

from labkit.facts.longhorn import backup_of
from labkit.runbooks.loss import Loss, VolumeRow, compare
from labkit.runbooks.page import rehearsal_page

URL = "nfs://nas.lan:/tank/backups?backup={}&volume=pvc-1"


def held(taken: str, writes: int, claim: str = "notes") -> dict[str, Any]:
    return {"taken": taken, "checksum": f"sum-{writes}", "writes": writes, "namespace": "default", "claim": claim}


def seen(writes: int, backup: str = "", claim: str = "notes", **more: Any) -> dict[str, Any]:
    url = URL.format(backup) if backup else ""
    return {"namespace": "default", "claim": claim, "checksum": f"sum-{writes}", "writes": writes, "from_backup": url,
            **more}  # fmt: skip


PAST = {
    "backups": {"pvc-1": {"backup-a": held("2026-08-01T03:00:00Z", 1), "backup-b": held("2026-08-02T03:00:00Z", 2)}},
    "end": {"pvc-1": seen(3)},
}


def one(now: dict[str, Any], past: dict[str, Any] = PAST) -> VolumeRow:
    (row,) = compare(past, now)
    return row


def test_what_was_backed_up_is_there_and_what_came_later_is_counted_as_lost() -> None:
    row = one({"pvc-1": seen(2, "backup-b")})
    assert (row.ok, row.taken, row.before, row.after, row.lost, row.passed_over) == (
        True, "2026-08-02T03:00:00Z", "sum-2", "sum-2", 1, 0,
    )  # fmt: skip
    assert row.remark == ""


def test_a_volume_under_another_name_is_found_by_its_claim() -> None:
    assert one({"restored-1": seen(2, "backup-b")}).ok


def test_an_older_backup_counts_when_its_content_is_there_and_the_newer_one_is_said() -> None:
    row = one({"pvc-1": seen(1, "backup-a")})
    assert (row.ok, row.passed_over, row.lost) == (True, 1, 2)
    assert row.remark == "1 newer backup passed over"


def test_what_is_not_well_says_why() -> None:
    changed, empty, strange = seen(9, "backup-b"), seen(0), seen(2, "backup-x")
    assert one({"pvc-1": changed}).problem == "its content is not that of the backup"
    assert one({"pvc-1": empty}).problem == "new and empty: not restored"
    assert "no record" in one({"pvc-1": strange}).problem
    assert one({}).problem == "not restored; 2 backups of it on the NAS"
    assert one({}, {"backups": {}, "end": {"pvc-1": seen(3)}}).problem == "never backed up"


def test_the_page_shows_every_volume_and_escapes_what_stands_in_it() -> None:
    rows = (one({"pvc-1": seen(2, "backup-b")}), VolumeRow("default/<b>", problem="never backed up", lost=4))
    loss = Loss(rows, ("fault backup-corrupt",))
    assert loss.words == "1 of 2 volumes came back as they were backed up; 5 writes newer than the backups lost"
    summary = {"lab": "small", "ok": False, "seconds": 1, "runbooks": [], "loss": loss.to_dict()}
    page = rehearsal_page(summary)
    assert "default/&lt;b&gt;" in page
    assert "fault backup-corrupt" in page
    assert "<h2>Everything was lost</h2>" not in rehearsal_page({**summary, "loss": None})


def test_the_backup_in_a_url() -> None:
    assert backup_of(URL.format("backup-0123456789abcdef")) == "backup-0123456789abcdef"
    assert backup_of("") == ""
