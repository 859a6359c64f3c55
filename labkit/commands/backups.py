"""`labkit backups`: read a Longhorn backup store without a cluster.

The store is a folder (mounted or copied) or `sftp://user@host[:port]/path`; it is only ever read. Exit statuses:
0 fine, 1 damage found, 2 bad input, 4 the store can't be reached, 5 a step failed.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from labkit.errors import LabError

if TYPE_CHECKING:
    from labkit.systems.backupstore.access import Store
    from labkit.systems.backupstore.catalog import Catalog, VolumeEntry
    from labkit.systems.backupstore.verify import VolumeReport
    from labkit.systems.backupstore.verifystate import Progress

app = typer.Typer(
    name="backups",
    help="Read a Longhorn backup store without a cluster: list, verify, extract, compare.",
    no_args_is_help=True,
)

_P = ParamSpec("_P")


def mount(parent: typer.Typer) -> None:
    """Add the commands to the main command."""
    parent.add_typer(app, name="backups")


StoreArg = Annotated[
    str, typer.Argument(metavar="DIR", help="The backup target: a folder, or sftp://user@host[:port]/path.")
]
VolumeOption = Annotated[str | None, typer.Option("--volume", help="The volume's name.")]
PvcOption = Annotated[str | None, typer.Option("--pvc", help="The former claim: namespace/name.")]
BackupOption = Annotated[str | None, typer.Option("--backup", help="The backup's name.")]
AtOption = Annotated[str | None, typer.Option("--at", help="A time in UTC: the newest backup at or before it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KnownHostsOption = Annotated[
    Path | None, typer.Option("--known-hosts", help="Host keys for SFTP; default ~/.ssh/known_hosts.")
]
KeyOption = Annotated[
    Path | None, typer.Option("--key", help="Private key for SFTP; default the agent's and those in ~/.ssh.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, max=256, help="How many blocks at a time; default one per core.")
]


def _ends(command: Callable[_P, None]) -> Callable[_P, None]:
    """Turn labkit's errors into a text on standard error and their exit status."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        from labkit.secrets import redact

        try:
            command(*args, **kwargs)
        except LabError as exc:
            typer.echo(redact(str(exc)), err=True)
            raise typer.Exit(exc.exit_status) from exc

    return run


@app.command("list")
@_ends
def list_command(
    store: StoreArg,
    volume: VolumeOption = None,
    pvc: PvcOption = None,
    as_json: JsonOption = False,
    known_hosts: KnownHostsOption = None,
    key: KeyOption = None,
) -> None:
    """List the volumes with their former claims, backups, gaps, locks, and the damage that configs show."""
    from labkit.systems.backupstore.choose import choose_volumes
    from labkit.systems.backupstore.listing import store_table, volume_as_json

    with _opened(store, known_hosts, key) as opened:
        catalog = _catalog(opened, volume)
    now = datetime.now(UTC)
    volumes = choose_volumes(catalog, volume=volume, pvc=pvc)
    if as_json:
        _print_json({"store": catalog.where, "volumes": [volume_as_json(entry, now) for entry in volumes]})
    else:
        _print_rich(store_table(volumes, now, with_backups=volume is not None or pvc is not None))
        _print_damages([str(damage) for entry in volumes for damage in entry.damages])
    if any(entry.damages for entry in volumes):
        raise typer.Exit(1)


@app.command()
@_ends
def verify(
    store: StoreArg,
    volume: VolumeOption = None,
    pvc: PvcOption = None,
    backup: BackupOption = None,
    at: AtOption = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="A file that remembers good blocks, so that a check can go on.")
    ] = None,
    as_json: JsonOption = False,
    workers: WorkersOption = None,
    known_hosts: KnownHostsOption = None,
    key: KeyOption = None,
) -> None:
    """Check that every block of the backups is there and has its checksum; exit status 1 when one has not."""
    from labkit.systems.backupstore.choose import choose_backup, choose_volumes, parse_utc
    from labkit.systems.backupstore.listing import bytes_to_check
    from labkit.systems.backupstore.verify import verify_volume

    with _opened(store, known_hosts, key) as opened:
        catalog = _catalog(opened, volume)
        wanted: list[tuple[VolumeEntry, list[str] | None]]
        if backup is not None:
            entry, config = choose_backup(catalog, volume=volume, pvc=pvc, backup=backup)
            wanted = [(entry, [config.name])]
        else:
            volumes = choose_volumes(catalog, volume=volume, pvc=pvc)
            wanted = _at_time(volumes, parse_utc(at)) if at else [(entry, None) for entry in volumes]
        total = sum(bytes_to_check(entry, names) for entry, names in wanted)
        reports: list[VolumeReport] = []
        with _state(state, opened) as progress, _shown("verify", total) as on_bytes:
            for entry, names in wanted:
                how: dict[str, Any] = {"progress": progress, "on_block": on_bytes, "workers": workers}
                reports.append(verify_volume(opened, entry, backups=names, **how))
    _print_reports(reports, as_json=as_json)
    if any(report.damages for report in reports):
        raise typer.Exit(1)


@app.command()
@_ends
def extract(
    store: StoreArg,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The raw image to make.")],
    volume: VolumeOption = None,
    pvc: PvcOption = None,
    backup: BackupOption = None,
    at: AtOption = None,
    size: Annotated[
        str | None, typer.Option("--size", help="The image's size when volume.cfg is lost, such as 10Gi.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave holes where blocks are damaged; ends with exit status 1.")
    ] = False,
    without_backing_image: Annotated[
        bool, typer.Option("--without-backing-image", help="Leave holes where the backing image shows.")
    ] = False,
    checksum: Annotated[bool, typer.Option(help="Compute the SHA-256 of the whole image.")] = True,
    as_json: JsonOption = False,
    workers: WorkersOption = None,
    known_hosts: KnownHostsOption = None,
    key: KeyOption = None,
) -> None:
    """Write one backup to a sparse raw image, every block checked."""
    from labkit.systems.backupstore.access import bad_option
    from labkit.systems.backupstore.choose import choose_backup, parse_utc
    from labkit.systems.backupstore.extract import extract_backup
    from labkit.systems.backupstore.layout import ConfigError, parse_quantity

    try:
        wanted = parse_quantity(size) if size else None
    except ConfigError as exc:
        raise bad_option("--size", "a size such as 10Gi", str(size)) from exc
    with _opened(store, known_hosts, key) as opened:
        catalog = _catalog(opened, volume)
        time = parse_utc(at) if at else None
        entry, config = choose_backup(catalog, volume=volume, pvc=pvc, backup=backup, at=time)
        total = entry.config.size if entry.config else wanted
        with _shown("extract", total) as on_bytes:
            done = extract_backup(
                opened,
                entry,
                config.name,
                image,
                size=wanted,
                force=force,
                keep_going=keep_going,
                without_backing_image=without_backing_image,
                checksum=checksum,
                on_bytes=on_bytes,
                workers=workers,
            )
    if as_json:
        _print_json(
            {
                "image": str(done.image),
                "volume": done.volume,
                "backup": done.backup,
                "taken_at": config.taken_at.isoformat() if config.taken_at else None,
                "size": done.size,
                "written": done.written,
                "sha256": done.sha256,
                "whole": done.is_whole,
                "damages": [damage.as_json() for damage in done.damages],
            }
        )
    else:
        typer.echo(f"{done.image}: backup {done.backup} of {done.volume}, taken {config.taken_at:%Y-%m-%dT%H:%M:%SZ}")
        typer.echo(f"{done.size} bytes, {done.written} of them written, the rest holes")
        typer.echo(f"sha256 {done.sha256}" if done.sha256 else "sha256 not computed")
        if entry.config is None and wanted is None:
            typer.echo("volume.cfg is lost: the size is what the backup reaches; --size sets the true one", err=True)
    _print_damages([str(damage) for damage in done.damages])
    if not done.is_whole:
        typer.echo("the image has holes where blocks are damaged", err=True)
        raise typer.Exit(1)


@app.command()
@_ends
def diff(
    store: StoreArg,
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help="The backup to start from.")],
    other: Annotated[
        str | None, typer.Argument(metavar="[OTHER]", help="Another backup of the same volume; default the newest.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="Compare with this raw image instead; exit status 1 when it differs.")
    ] = None,
    volume: VolumeOption = None,
    as_json: JsonOption = False,
    known_hosts: KnownHostsOption = None,
    key: KeyOption = None,
) -> None:
    """Show what changed between two backups of a volume, or between a backup and an image."""
    from labkit.systems.backupstore.access import bad_option
    from labkit.systems.backupstore.choose import choose_backup
    from labkit.systems.backupstore.diff import Difference, diff_image, diff_maps
    from labkit.systems.backupstore.extract import image_size
    from labkit.systems.backupstore.verify import read_whole

    if image is not None and other is not None:
        raise bad_option("--image", "one thing to compare with", "a backup and an image")
    with _opened(store, known_hosts, key) as opened:
        catalog = _catalog(opened, volume)
        entry, first = choose_backup(catalog, volume=volume, backup=backup)
        old = read_whole(opened, entry, first.name)
        size = image_size(entry, old)
        if image is None:
            _, second = choose_backup(catalog, volume=entry.name, backup=other)
            found = Difference(diff_maps(old, read_whole(opened, entry, second.name)), (size, size))
        else:
            with _shown("compare", None) as on_bytes:
                found = diff_image(old, size, image, on_bytes=on_bytes)
    _print_difference(found, entry.name, (first.name, str(image) if image else second.name), as_json=as_json)
    if image is not None and not found.is_same:
        raise typer.Exit(1)


@app.command()
@_ends
def files(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An extracted image with an ext4 file system.")],
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="A folder to list, or with --out a file to read.")
    ] = "/",
    out: Annotated[Path | None, typer.Option("--out", help="Copy the file PATH to this new file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the files in an extracted ext4 image, or copy one out; uses debugfs from e2fsprogs."""
    from dataclasses import asdict

    from labkit.systems.backupstore.files import list_files, read_file

    if out is not None:
        size = read_file(image, path, out)
        typer.echo(f"{out}: {size} bytes from {path}")
        return
    entries = list_files(image, path)
    if as_json:
        _print_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        typer.echo(f"{entry.kind:<7} {entry.mode:04o} {entry.uid:>5} {entry.gid:>5} {entry.size:>12} {entry.name}")


@contextmanager
def _opened(place: str, known_hosts: Path | None, key: Path | None) -> Iterator[Store]:
    from labkit.systems.backupstore.access import open_folder

    if not place.startswith("sftp:"):
        yield open_folder(Path(place))
        return
    from labkit.systems.backupstore.sftp import SftpStore, parse_sftp_url

    remote = SftpStore(parse_sftp_url(place), known_hosts=known_hosts, key=key)
    try:
        yield remote
    finally:
        remote.close()


def _catalog(store: Store, volume: str | None) -> Catalog:
    """Read all configs; of one volume only when it is named and there."""
    from labkit.systems.backupstore.catalog import read_catalog

    found = read_catalog(store, only=volume) if volume else None
    return found if found and found.volumes else read_catalog(store)


@contextmanager
def _state(path: Path | None, store: Store) -> Iterator[Progress]:
    from labkit.systems.backupstore.verifystate import Progress, ProgressFile

    if path is None:
        yield Progress()
        return
    progress = ProgressFile(path, store)
    if progress.resumed:
        typer.echo(f"going on with the check that {path} remembers", err=True)
    try:
        yield progress
        progress.finish()
    finally:
        progress.close()


def _at_time(volumes: Sequence[VolumeEntry], time: datetime) -> list[tuple[VolumeEntry, list[str] | None]]:
    """Give each volume with its newest backup at or before a time; one that is younger is only mentioned."""
    from labkit.systems.backupstore.choose import newest_at

    wanted: list[tuple[VolumeEntry, list[str] | None]] = []
    for entry in volumes:
        try:
            wanted.append((entry, [newest_at(entry, time).name]))
        except LabError as exc:
            if len(volumes) == 1:
                raise
            typer.echo(f"{entry.name}: left out: {exc.message.splitlines()[-1].strip()}", err=True)
    return wanted


@contextmanager
def _shown(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error when a person watches."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with Bar(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _print_reports(reports: list[VolumeReport], *, as_json: bool) -> None:
    from labkit.systems.backupstore.listing import report_as_json, report_lines

    if as_json:
        _print_json([report_as_json(report) for report in reports])
        return
    for report in reports:
        for line in report_lines(report):
            typer.echo(line)
    _print_damages([str(damage) for report in reports for damage in report.damages])


def _print_difference(found: Any, volume: str, sides: tuple[str, str], *, as_json: bool) -> None:
    if as_json:
        ranges = [{"offset": one.offset, "length": one.length} for one in found.ranges]
        sizes = list(found.sizes)
        _print_json({"volume": volume, "sides": sides, "sizes": sizes, "bytes": found.bytes, "ranges": ranges})
        return
    for one in found.ranges:
        typer.echo(f"{one.offset:>16} {one.length:>14}")
    typer.echo(f"{sides[0]} and {sides[1]}: {found.bytes} bytes in {len(found.ranges)} changed ranges")
    if found.sizes[0] != found.sizes[1]:
        typer.echo(f"sizes differ: {found.sizes[0]} and {found.sizes[1]} bytes")


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _print_rich(renderable: object) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(renderable)


def _print_damages(lines: list[str]) -> None:
    for line in lines:
        typer.echo(f"damage: {line}", err=True)
