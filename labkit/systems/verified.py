"""The backup store with what a verification has found: this process remembers it, so that plans made again agree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from labkit.facts.backups import StoredBackup, StoredVolume, StoreFacts
from labkit.facts.restore import WantedVolume
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.backups import Wanted, read_store, verify_backups

Key = tuple[Path, str, str]
_verdicts: dict[Key, tuple[str, ...]] = {}
_guard = threading.Lock()


def read_verified(lab: Lab, access: Access) -> StoreFacts:
    """Return what the store holds; backups that were verified since this process began carry what was found."""
    facts = read_store(lab, access)
    return facts.model_copy(update={"volumes": tuple(_judged(one, access.state) for one in facts.volumes)})


def _judged(volume: StoredVolume, place: Path) -> StoredVolume:
    backups = tuple(_with_verdict(one, place) for one in volume.backups)
    return volume.model_copy(update={"backups": backups}) if backups != volume.backups else volume


def _with_verdict(backup: StoredBackup, place: Path) -> StoredBackup:
    found = _verdicts.get((place, backup.volume, backup.name))
    if found is None:
        return backup
    damage = tuple(dict.fromkeys((*backup.damage, *found)))
    return backup.model_copy(update={"verified": True, "damage": damage})


def forget_verdicts(access: Access) -> None:
    """Forget what earlier runs of this process have found: a store changes, and so does its NAS."""
    with _guard:
        for key in [key for key in _verdicts if key[0] == access.state]:
            del _verdicts[key]


def verify_wanted(
    lab: Lab, access: Access, wanted: Iterable[WantedVolume], *, on_block: Callable[[int], None] = lambda _: None
) -> None:
    """Read every block of the chosen backups, side by side, and remember what was found; `on_block` gets their sizes.

    Raises:
        InputError, SystemDown: the store cannot be opened, or went away.
    """
    chosen = [Wanted(one.source, one.backup.name) for one in wanted if one.backup is not None]
    volumes = verify_backups(lab, access, chosen, on_block=on_block)
    seen = {(one.volume, one.name): one.damage for volume in volumes for one in volume.backups}
    with _guard:
        for one in chosen:
            gone = ("it was in the list, and is not in the store any more",)
            _verdicts[(access.state, one.volume, one.backup)] = seen.get((one.volume, one.backup), gone)
