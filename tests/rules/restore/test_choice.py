"""Which backup is taken: the newest good one at or before a moment, never a later one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InputError
from labkit.facts.restore import GitClaim
from labkit.rules.restore import parse_moment, wanted_volumes

from .conftest import NOW, PIN, backup, claim, day, living, name_of, store, stored, volume

THREE = stored(PIN, backup(PIN, 3), backup(PIN, 5), backup(PIN, 7))
PINNED = claim(pinned=PIN)


def choose(one: GitClaim, *volumes, as_of: datetime | None = None, **more):  # type: ignore[no-untyped-def]
    return wanted_volumes([one], store(*volumes), as_of=as_of, **more)[0]


@pytest.mark.parametrize(
    ("as_of", "taken"),
    [(None, 7), (day(7), 7), (day(7, 2), 5), (day(6), 5), (day(3), 3), (day(30), 7)],
    ids=["newest", "at the moment", "a moment before", "between", "the oldest", "in the future"],
)
def test_the_newest_at_or_before(as_of: datetime | None, taken: int) -> None:
    found = choose(PINNED, THREE, as_of=as_of)
    assert found.taken == day(taken)
    assert (found.size, found.source, found.newest, found.problem) == (64 << 20, PIN, day(7), "")


def test_one_before_all_backups_gets_nothing_rather_than_a_later_one() -> None:
    found = choose(PINNED, THREE, as_of=day(2))
    assert found.backup is None
    assert found.problem == "the oldest backup is from 2026-08-03T03:00:00Z, later than 2026-08-02T03:00:00Z"


def test_a_damaged_newest_falls_back_and_says_so() -> None:
    bad = stored(PIN, backup(PIN, 3), backup(PIN, 5), backup(PIN, 7, damage=("block 0 has another checksum",)))
    found = choose(PINNED, bad)
    assert found.taken == day(5)
    assert [(one.name, one.why) for one in found.passed_over] == [(name_of(PIN, 7), "block 0 has another checksum")]


def test_damage_of_older_backups_is_no_matter() -> None:
    found = choose(PINNED, stored(PIN, backup(PIN, 3, damage=("gone",)), backup(PIN, 5)))
    assert found.passed_over == ()


@pytest.mark.parametrize(
    ("backups", "said"),
    [
        ((), "no backup of it is in the store"),
        ((backup(PIN, 3, damage=("block gone",)),), "none of its 1 backups can be restored: block gone"),
        ((backup(PIN, 3, created=None),), "none of its 1 backups can be restored: never finished"),
    ],
    ids=["none", "damaged", "never finished"],
)
def test_a_claim_without_any_good_backup_has_a_problem(backups, said: str) -> None:  # type: ignore[no-untyped-def]
    assert choose(PINNED, stored(PIN, *backups)).problem == said


def test_a_volume_whose_size_nobody_knows_is_passed_over() -> None:
    lost, good = stored("v2", backup("v2", 9), size=0), stored("v1", backup("v1", 5))
    found = choose(claim(), lost, good)
    assert (found.source, [one.name for one in found.passed_over]) == ("v1", [name_of("v2", 9)])


@pytest.mark.parametrize(
    ("one", "volumes", "source"),
    [
        (claim(), [stored("v1", backup("v1", 3)), stored("v2", backup("v2", 5))], "v2"),
        (PINNED, [stored(PIN, backup(PIN, 3, claim="other"), claim="other")], PIN),
        (claim(), [stored("v1", backup("v1", 3, claim="other"), claim="other")], ""),
        (claim(), [stored("v1", backup("v1", 3), backup("v1", 9, claim="other"), claim="other")], "v1"),
        (claim(handle="kept", pinned="notes-pv"), [stored("kept", backup("kept", 3, claim=""), claim="")], "kept"),
    ],
    ids=["newest of several", "pinned goes before labels", "another claim's", "used by two in turn", "PV in Git"],
)
def test_which_volumes_count(one: GitClaim, volumes, source: str) -> None:  # type: ignore[no-untyped-def]
    assert choose(one, *volumes).source == source


def test_a_volume_that_git_gave_to_another_claim_is_not_ours() -> None:
    mine, other = claim(), claim("other-data", pinned=PIN)
    found = wanted_volumes([mine, other], store(stored(PIN, backup(PIN, 3))))
    assert [one.source for one in found] == ["", PIN]


def test_a_volume_can_be_named() -> None:
    both = stored("v1", backup("v1", 3)), stored("v2", backup("v2", 5))
    found = choose(claim(), *both, sources={"default/notes-data": "v1"})
    assert (found.source, found.taken) == ("v1", day(3))
    assert choose(claim(), *both).others == ("v1",)


def test_without_a_moment_what_a_restored_volume_wrote_since_does_not_count() -> None:
    now = living(volume("restored-1", of=f"{PIN}@5", made=10), bound={"notes-data": (PIN, "restored-1")})
    both = THREE, stored("restored-1", backup("restored-1", 12))
    assert choose(PINNED, *both, longhorn=now).source == PIN
    assert choose(PINNED, *both, longhorn=now, as_of=day(13)).source == "restored-1"
    assert choose(PINNED, *both).source == "restored-1", "when the cluster is gone, the newest is the newest"


@given(st.lists(st.tuples(st.integers(1, 28), st.booleans()), unique_by=lambda pair: pair[0]), st.integers(1, 28))
def test_never_a_later_one_and_always_the_newest_good_one(rows: list[tuple[int, bool]], moment: int) -> None:
    backups = [backup(PIN, number, damage=() if good else ("bad",)) for number, good in rows]
    found = choose(PINNED, stored(PIN, *backups), as_of=day(moment))
    good = [number for number, fine in rows if fine and number <= moment]
    assert found.taken == (day(max(good)) if good else None)
    assert bool(found.problem) == (not good)
    passed = sorted(number for number, fine in rows if not fine and max(good, default=0) < number <= moment)
    assert sorted(one.taken.day for one in found.passed_over if one.taken) == passed


@pytest.mark.parametrize("text", ["2026-08-10T20:00:00Z", "2026-08-10 20:00", "2026-08-10T22:00:00+02:00"])
def test_moments(text: str) -> None:
    assert parse_moment(text) == datetime(2026, 8, 10, 20, tzinfo=UTC)
    assert parse_moment(" ") is None


@given(st.datetimes(NOW.replace(tzinfo=None), timezones=st.just(UTC)))
def test_every_moment_reads_back(moment: datetime) -> None:
    assert parse_moment(moment.isoformat()) == moment
    assert parse_moment((moment + timedelta(0)).strftime("%Y-%m-%dT%H:%M:%SZ")) == moment.replace(microsecond=0)


def test_what_is_no_moment_is_refused() -> None:
    with pytest.raises(InputError, match="restore_as_of: expected a moment in UTC"):
        parse_moment("yesterday")
