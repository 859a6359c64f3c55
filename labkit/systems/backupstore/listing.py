"""Show what a store holds and what a check found, as tables, lines and JSON. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from labkit.systems.backupstore.catalog import BackupEntry, VolumeEntry
from labkit.systems.backupstore.layout import BackupConfig
from labkit.systems.backupstore.schedule import Gap, find_gaps
from labkit.systems.backupstore.verify import VolumeReport


def gaps_of(entry: VolumeEntry, now: datetime) -> tuple[Gap, ...]:
    """Find the gaps in a volume's complete backups."""
    taken = [(config.taken_at, config.job) for config in entry.complete if config.taken_at]
    return find_gaps(taken, entry.schedules, now)


def bytes_to_check(entry: VolumeEntry, names: Collection[str] | None) -> int:
    """Guess how many bytes a check decodes: a volume's distinct blocks, or those of the backups named."""
    chosen = [config for config in entry.complete if names is None or config.name in names]
    listed = sum(config.size for config in chosen)
    if names is None and entry.config is not None and entry.config.block_count and chosen:
        return min(listed, entry.config.block_count * chosen[-1].block_size)
    return listed


def volume_as_json(entry: VolumeEntry, now: datetime) -> dict[str, Any]:
    """Give all that the list knows of a volume."""
    newest, config = entry.newest, entry.config
    return {
        "volume": entry.name,
        "pvc": str(entry.pvc) if entry.pvc else None,
        "size": config.size if config else None,
        "compression": newest.compression if newest else (config.compression if config else None),
        "block_size": newest.block_size if newest else None,
        "storage_class": config.storage_class if config else None,
        "backing_image": (config.backing_image or None) if config else None,
        "encrypted": bool(newest and newest.labels.get("volume-encrypted") == "enabled"),
        "schedules": [{"job": one.job, "cron": one.cron} for one in entry.schedules],
        "complete": len(entry.complete),
        "newest": newest.name if newest else None,
        "newest_at": _iso(newest.taken_at) if newest else None,
        "backups": [_backup_as_json(item.name, item.state, item.config) for item in _by_age(entry)],
        "gaps": [gap.as_json() for gap in gaps_of(entry, now)],
        "locks": [
            {
                "file": lock.file,
                "kind": lock.kind,
                "acquired": lock.acquired,
                "renewed": _iso(lock.renewed),
                "live": lock.is_live(now),
            }
            for lock in entry.locks
        ],
        "damages": [damage.as_json() for damage in entry.damages],
    }


def _by_age(entry: VolumeEntry) -> list[BackupEntry]:
    ages = {config.name: at for at, config in enumerate(entry.complete)}
    return sorted(entry.backups, key=lambda item: (ages.get(item.name, len(ages)), item.name))


def _backup_as_json(name: str, state: str, config: BackupConfig | None) -> dict[str, Any]:
    if config is None:
        return {"backup": name, "state": state}
    return {
        "backup": name,
        "state": state,
        "taken_at": _iso(config.taken_at),
        "completed_at": _iso(config.created_at),
        "snapshot": config.snapshot,
        "mode": config.mode or None,
        "job": config.job or None,
        "blocks": config.count,
        "bytes": config.size,
        "new_bytes": config.new_bytes,
        "block_size": config.block_size,
        "compression": config.compression,
        "labels": config.labels,
    }


def store_table(volumes: Sequence[VolumeEntry], now: datetime, *, with_backups: bool) -> RenderableType:
    """Give the table of volumes, and their backups one by one when wanted."""
    table = Table("volume", "former claim", "size", "blocks of", "backups", "newest", "gaps", "notes", box=None)
    for entry in volumes:
        table.add_row(*_volume_row(entry, now))
    tables = [_backups_table(entry) for entry in volumes] if with_backups else []
    return Group(table, *tables) if volumes else "the store holds no volumes"


def _volume_row(entry: VolumeEntry, now: datetime) -> list[str]:
    newest = entry.newest
    gaps = gaps_of(entry, now)
    missed = sum(gap.missed for gap in gaps)
    return [
        entry.name,
        str(entry.pvc or "-"),
        _size(entry.config.size) if entry.config else "unknown",
        f"{_size(newest.block_size)} {newest.compression}" if newest else "-",
        str(len(entry.complete)),
        _time(newest.taken_at) if newest else "none",
        f"{missed} missed in {len(gaps)}" if gaps else "none",
        ", ".join(_notes(entry, now)),
    ]


def _notes(entry: VolumeEntry, now: datetime) -> Iterable[str]:
    running = sum(item.state == "in progress" for item in entry.backups)
    if running:
        yield f"{running} in progress or broken off"
    for lock in entry.locks:
        yield f"{'locked' if lock.is_live(now) else 'old lock'}: {lock.kind}"
    if entry.newest and entry.newest.labels.get("volume-encrypted") == "enabled":
        yield "encrypted"
    if entry.config and entry.config.backing_image:
        yield f"on backing image {entry.config.backing_image}"
    if entry.damages:
        yield f"damaged: {len(entry.damages)}"


def _backups_table(entry: VolumeEntry) -> Table:
    table = Table("backup", "taken", "state", "holds", "added", "job", box=None, title=entry.name, title_justify="left")
    for item in _by_age(entry):
        config = item.config
        if config is None:
            table.add_row(item.name, "-", item.state, "-", "-", "-")
            continue
        held = (_size(config.size), _size(config.new_bytes))
        table.add_row(item.name, _time(config.taken_at), item.state, *held, config.job or "-")
    return table


def report_as_json(report: VolumeReport) -> dict[str, Any]:
    """Give what a check found."""
    return {
        "volume": report.volume,
        "restorable": list(report.restorable),
        "lost": list(report.lost),
        "blocks": report.blocks,
        "bytes": report.bytes,
        "taken_as_checked": report.skipped,
        "orphans": report.orphans,
        "deleted_meanwhile": list(report.vanished),
        "damages": [damage.as_json() for damage in report.damages],
    }


def report_lines(report: VolumeReport) -> list[str]:
    """Give what a check found, for a person."""
    total = len(report.checked)
    fine = f"{len(report.restorable)} of {total} backups restorable"
    lines = [f"{report.volume}: {fine}, {report.blocks} blocks read ({_size(report.bytes)})"]
    if report.skipped:
        lines.append(f"  {report.skipped} blocks were found good before the interruption")
    if report.lost:
        lines.append(f"  damaged: {', '.join(report.lost)}")
        lines.append(f"  still restorable: {', '.join(report.restorable) or 'none'}")
    if report.vanished:
        lines.append(f"  deleted while it was read: {', '.join(report.vanished)}")
    if report.orphans:
        lines.append(f"  {report.orphans} blocks belong to no backup (left over from a deletion; harmless)")
    return lines


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def _time(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ") if time else "-"


def _iso(time: datetime | None) -> str | None:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if time else None
