"""What the files of a Longhorn backup store mean: names, paths, and the models of its JSON.

Everything here is pure: bytes in, models out. The JSON follows Go's habits: numbers in strings, some strings that hold
a JSON string again, keys in any case, and whatever follows the object is ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from labkit.facts.longhorn import DEFAULT_GROUP, GROUP_LABEL, JOB_LABEL
from labkit.systems.backupstore.blockmap import BlockMap, MapFault, parse_map

MIB = 1 << 20
DEFAULT_BLOCK_SIZE = 2 * MIB
BLOCK_SIZES = (2 * MIB, 16 * MIB)

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_QUANTITY = re.compile(r"(\d+)(|k|M|G|T|Ki|Mi|Gi|Ti)")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


_Model = TypeVar("_Model", bound=BaseModel)


class ConfigError(ValueError):
    """Say why the bytes of a config file can't be used; caught where the file has a name."""


def is_name(text: str) -> bool:
    """Tell whether a text can be the name of a volume or a backup."""
    return _NAME.fullmatch(text) is not None


def volume_folder(volume: str) -> str:
    """Give the folder of a volume below `volumes/`."""
    digest = hashlib.sha512(volume.encode()).hexdigest()
    return f"{digest[0:2]}/{digest[2:4]}/{volume}"


def backup_file(backup: str) -> str:
    """Give the path of a backup's config below its volume's folder."""
    return f"backups/backup_{backup}.cfg"


def backup_named_by(file: str) -> str | None:
    """Give the backup that a file in `backups/` is the config of; None for foreign files."""
    if not (file.startswith("backup_") and file.endswith(".cfg")):
        return None
    name = file.removeprefix("backup_").removesuffix(".cfg")
    return name if is_name(name) else None


def block_file(checksum: str) -> str:
    """Give the path of a block below its volume's folder."""
    return f"blocks/{checksum[0:2]}/{checksum[2:4]}/{checksum}.blk"


def parse_quantity(text: str) -> int:
    """Read a size such as `2097152`, `2Mi` or `10Gi`; raises `ConfigError`."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"expected a size such as 2097152 or 2Mi, got {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def _twice(value: object) -> object:
    """Undo Go's double quoting: a string that begins with a quote holds a JSON string."""
    if isinstance(value, str) and value.startswith('"'):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return "" if value is None else value


def _no_time(value: object) -> object:
    return None if value == "" else value


def _texts(value: object) -> dict[str, str]:
    """Keep the texts of a label map: labels only describe, so a strange one must not cost a backup."""
    if not isinstance(value, dict):
        return {}
    return {str(key): text for key, text in value.items() if isinstance(text, str)}


def _object(value: object) -> dict[str, Any]:
    """Keep an object of a label's JSON; anything else counts as empty."""
    try:
        found = json.loads(value) if isinstance(value, str) else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


Quoted = Annotated[str, BeforeValidator(_twice)]
Time = Annotated[AwareDatetime | None, BeforeValidator(_no_time)]
Labels = Annotated[dict[str, str], BeforeValidator(_texts)]


class Pvc(NamedTuple):
    """The claim that a volume served when it was backed up."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Schedule(NamedTuple):
    """One recurring job that makes backups: its name and its cron text."""

    job: str
    cron: str


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)

    labels: Labels = {}

    @property
    def pvc(self) -> Pvc | None:
        """The former claim from the label KubernetesStatus; None when the volume never had one."""
        status = _object(self.labels.get("KubernetesStatus"))
        namespace, name = status.get("namespace"), status.get("pvcName")
        return Pvc(namespace, name) if isinstance(namespace, str) and isinstance(name, str) and name else None

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The recurring jobs of the volume that make backups, from the label VolumeRecurringJobInfo."""
        jobs = _object(self.labels.get("VolumeRecurringJobInfo"))
        specs = ((name, _as_dict(_as_dict(job).get("jobSpec"))) for name, job in sorted(jobs.items()))
        return tuple(
            Schedule(name, str(spec.get("cron", "")))
            for name, spec in specs
            if str(spec.get("task", "")).startswith("backup") and spec.get("cron")
        )

    @property
    def job_labels(self) -> dict[str, str]:
        """The labels that put the volume into its recurring jobs, from the same label; none for the group default."""
        jobs = {name: _as_dict(job) for name, job in _object(self.labels.get("VolumeRecurringJobInfo")).items()}
        groups = {str(group) for job in jobs.values() for group in job.get("fromGroup") or () if group}
        named = {f"{JOB_LABEL}{name}": "enabled" for name, job in jobs.items() if job.get("fromJob") is True}
        grouped = {f"{GROUP_LABEL}{group}": "enabled" for group in groups}
        return {} if groups <= {DEFAULT_GROUP} and not named else dict(sorted((named | grouped).items()))


class VolumeConfig(_Config):
    """A `volume.cfg`: the volume as its newest backup saw it; `size` in bytes."""

    name: str
    size: int
    created_at: Time = None
    last_backup: str = ""
    last_backup_at: Time = None
    block_count: int = 0
    backing_image: Quoted = ""
    compression: Quoted = "gzip"
    storage_class: Quoted = ""
    data_engine: Quoted = "v1"


class BackupConfig(_Config):
    """A `backup_<name>.cfg`: one backup with the map of all its blocks.

    `size` is entries times block size in bytes; `created_at` is None while the backup is in progress or broken off;
    `faults` are entries that can't be right.
    """

    name: str
    volume: str
    snapshot: str = ""
    snapshot_at: Time = None
    created_at: Time = None
    size: int = 0
    block_size: int = DEFAULT_BLOCK_SIZE
    mode: str = ""
    compression: str = "gzip"
    incremental: bool = False
    new_bytes: int = 0
    single_file: str = ""
    blocks: BlockMap = BlockMap()
    faults: tuple[MapFault, ...] = ()
    count: int = 0

    @model_validator(mode="after")
    def _sizes_fit(self) -> BackupConfig:
        if self.block_size not in BLOCK_SIZES:
            raise ValueError(f"expected a block size of 2 MiB or 16 MiB, got {self.block_size} bytes")
        if self.size < 0:
            raise ValueError(f"expected a size of at least 0 bytes, got {self.size}")
        return self

    @property
    def is_complete(self) -> bool:
        """Tell whether the backup came to its end."""
        return self.created_at is not None

    @property
    def taken_at(self) -> datetime | None:
        """The time the data is from: when the backup began."""
        return self.snapshot_at or self.created_at

    @property
    def job(self) -> str:
        """The recurring job that made it; empty for others."""
        return self.labels.get("RecurringJob", "")

    def without_map(self) -> BackupConfig:
        """Give the same without the map, for lists."""
        return self.model_copy(update={"blocks": BlockMap()})


def parse_volume_config(data: bytes) -> VolumeConfig:
    """Read a `volume.cfg`; raises `ConfigError`."""
    raw = _lowered(data)
    names = {
        "labels": "labels",
        "name": "name",
        "size": "size",
        "created_at": "createdtime",
        "last_backup": "lastbackupname",
        "last_backup_at": "lastbackupat",
        "block_count": "blockcount",
        "backing_image": "backingimagename",
        "compression": "compressionmethod",
        "storage_class": "storageclassname",
        "data_engine": "dataengine",
    }
    config = _validated(VolumeConfig, _picked(raw, names))
    if config.size < 0:
        raise ConfigError(f"Size: expected at least 0 bytes, got {config.size}")
    return config


def parse_backup_config(data: bytes) -> BackupConfig:
    """Read a `backup_<name>.cfg`; raises `ConfigError`. Entries of the map that can't be right become faults."""
    raw = _lowered(data)
    names = {
        "labels": "labels",
        "name": "name",
        "volume": "volumename",
        "snapshot": "snapshotname",
        "snapshot_at": "snapshotcreatedat",
        "created_at": "createdtime",
        "size": "size",
        "compression": "compressionmethod",
        "incremental": "isincremental",
        "new_bytes": "newlyuploadeddatasize",
    }
    parameters = _texts(raw.get("parameters"))
    block_size = parse_quantity(parameters.get("backup-block-size") or "0") or DEFAULT_BLOCK_SIZE
    blocks, faults, count = parse_map(raw.get("blocks"), block_size)
    fields = _picked(raw, names) | {
        "mode": parameters.get("backup-mode", ""),
        "block_size": block_size,
        "single_file": str(_lower_keys(_as_dict(raw.get("singlefile"))).get("filepath") or ""),
        "blocks": blocks,
        "faults": faults,
        "count": count,
    }
    fields["compression"] = fields.get("compression") or "gzip"
    return _validated(BackupConfig, fields)


def _lowered(data: bytes) -> dict[str, Any]:
    try:
        found, _ = json.JSONDecoder().raw_decode(data.decode("utf-8").lstrip())
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"expected a JSON object, got {len(data)} bytes that are none: {exc}") from exc
    if not isinstance(found, dict):
        raise ConfigError(f"expected a JSON object, got {type(found).__name__}")
    return _lower_keys(found)


def _lower_keys(found: dict[str, Any]) -> dict[str, Any]:
    return {str(key).lower(): value for key, value in found.items()}


def _picked(raw: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {field: raw[key] for field, key in names.items() if raw.get(key) is not None}


def _validated(model: type[_Model], fields: dict[str, Any]) -> _Model:
    try:
        return model.model_validate(fields)
    except ValidationError as exc:
        words = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors()]
        raise ConfigError("; ".join(words)) from exc


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
