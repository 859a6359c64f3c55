"""Longhorn's webhooks: what they fill in and what they refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from labkit.cron import parse_cron
from labkit.twin.controllers.objects import is_deleting, labels_of, name_of, spec_of, status_of
from labkit.twin.kube import status
from labkit.twin.kube.door import ApiError, Object
from labkit.twin.longhorn.hub import Hub
from labkit.twin.longhorn.names import (
    ACCESS_LABEL,
    BACKUP_VOLUME_LABEL,
    BACKUP_VOLUMES,
    BACKUPS,
    DEFAULT,
    FINALIZER,
    GROUP_PREFIX,
    JOBS,
    NAMESPACE,
    SETTINGS,
    SNAPSHOTS,
    TARGET_LABEL,
    TARGETS,
    VOLUME_LABEL,
    VOLUMES,
    selection_labels,
    version_tuple,
)
from labkit.twin.longhorn.settings import DEFAULTS, PER_ENGINE
from labkit.twin.longhorn.urls import read_backup_url

_BLOCK = 2 << 20
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_DURATION = re.compile(r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+$|0$")
_FRONTENDS = {"v1": ("blockdev", "iscsi"), "v2": ("blockdev", "nvmf", "ublk")}
_IGNORED = (
    "replicaAutoBalance", "restoreVolumeRecurringJob", "replicaSoftAntiAffinity", "replicaZoneSoftAntiAffinity",
    "replicaDiskSoftAntiAffinity", "snapshotDataIntegrity", "unmapMarkSnapChainRemoved",
    "freezeFilesystemForSnapshot",
)  # fmt: skip


def denied(message: str, *, code: int = 422, reason: str = "Invalid", by: str = "validator") -> ApiError:
    """Build the refusal of one of the two webhooks."""
    text = f'admission webhook "{by}.longhorn.io" denied the request: {message}'
    return status.failure(code, reason, text)


class Hook:
    """The webhook of one resource; most of Longhorn's objects get its finalizer."""

    def __init__(
        self,
        admit: Callable[[Object, Object | None], None],
        leave: Callable[[Object], None] = lambda _old: None,
        *,
        finalizer: bool = True,
    ) -> None:
        self._admit = admit
        self.leave = leave
        self._finalizer = finalizer

    def admit(self, new: Object, old: Object | None) -> None:
        """Complete or refuse an object; one that is going is left alone."""
        if is_deleting(new) or new["metadata"].get("namespace") != NAMESPACE:
            return
        finalizers = new["metadata"].setdefault("finalizers", [])
        if old is None and self._finalizer and FINALIZER not in finalizers:
            finalizers.append(FINALIZER)
        if not finalizers:
            new["metadata"].pop("finalizers")
        self._admit(new, old)


class Admission:
    """All webhooks of one Longhorn; `open` puts them before the API, `close` takes them away."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._hooks = {
            VOLUMES: Hook(self._volume), BACKUPS: Hook(self._backup, self._backup_leaves), TARGETS: Hook(self._target),
            JOBS: Hook(self._job, finalizer=False), SNAPSHOTS: Hook(self._snapshot),
            BACKUP_VOLUMES: Hook(self._backup_volume), SETTINGS: Hook(self._setting, finalizer=False),
        }  # fmt: skip

    def open(self) -> None:
        """Have a say from now on."""
        self.hub.api.core.webhooks.update(self._hooks)

    def close(self) -> None:
        """Have no say any more."""
        for key in self._hooks:
            self.hub.api.core.webhooks.pop(key, None)

    def _volume(self, new: Object, old: Object | None) -> None:
        spec = new["spec"]
        if old is None:
            self._new_volume(new, spec)
        labels = new["metadata"].setdefault("labels", {})
        if not selection_labels(labels):
            labels[GROUP_PREFIX + DEFAULT] = "enabled"
        self._check_volume(new, old)

    def _new_volume(self, new: Object, spec: dict[str, Any]) -> None:
        if not isinstance(spec.get("size", ""), str):
            return  # the schema refuses it
        if spec.get("size") and not spec["size"].isdecimal():
            text = f'cannot decode volume {name_of(new)}: invalid syntax in field spec.size: "{spec["size"]}"'
            raise denied(text, code=400, reason="BadRequest", by="mutator")
        settings = self.hub.settings
        labels = new["metadata"].setdefault("labels", {})
        if spec.get("fromBackup"):
            self._from_backup(spec, labels)
        spec["size"] = str(-(-int(spec.get("size") or 0) // _BLOCK) * _BLOCK)
        spec.setdefault("dataEngine", "v1")
        spec["numberOfReplicas"] = spec.get("numberOfReplicas") or settings.number("default-replica-count")
        spec["dataLocality"] = spec.get("dataLocality") or settings.text("default-data-locality")
        spec["accessMode"] = spec.get("accessMode") or "rwo"
        spec["image"] = spec.get("image") or self.hub.engine_image
        spec["backupTargetName"] = spec.get("backupTargetName") or DEFAULT
        spec["backupCompressionMethod"] = spec.get("backupCompressionMethod") or settings.text(
            "backup-compression-method"
        )
        spec["snapshotMaxCount"] = spec.get("snapshotMaxCount") or settings.number("snapshot-max-count")
        for key in _IGNORED:
            spec[key] = spec.get(key) or "ignored"
        if version_tuple(self.hub.version) >= (1, 10):
            spec.setdefault("backupBlockSize", str(_BLOCK))
        spec.setdefault("nodeID", "")
        labels[VOLUME_LABEL] = name_of(new)
        labels.setdefault(TARGET_LABEL, spec["backupTargetName"])
        labels.setdefault("setting.longhorn.io/replica-auto-balance", spec["replicaAutoBalance"])
        labels.setdefault("setting.longhorn.io/snapshot-data-integrity", spec["snapshotDataIntegrity"])

    def _from_backup(self, spec: dict[str, Any], labels: dict[str, str]) -> None:
        _, backup, volume = read_backup_url(spec["fromBackup"])
        found = self.hub.get(BACKUPS, backup) if backup else None
        if found is None:
            raise denied(
                f'cannot get backup {backup}: backup.longhorn.io "{backup}" not found', by="mutator",
            )  # fmt: skip
        state = status_of(found)
        if str(spec_of(found).get("backupBlockSize")) == "-1":
            raise denied(f"invalid backup block size of backup {backup}", by="mutator")
        if state.get("state") != "Completed":
            raise denied(f"cannot restore from backup {backup}: its state is {state.get('state') or 'unknown'}",
                         by="mutator")  # fmt: skip
        spec["size"] = str(state.get("volumeSize") or spec.get("size") or 0)
        access = (state.get("labels") or {}).get(ACCESS_LABEL, "")
        spec["accessMode"] = spec.get("accessMode") or (access if access in ("rwo", "rwx") else "rwo")
        spec["backupTargetName"] = spec.get("backupTargetName") or state.get("backupTargetName") or DEFAULT
        labels[BACKUP_VOLUME_LABEL] = volume
        labels[TARGET_LABEL] = spec["backupTargetName"]

    def _check_volume(self, new: Object, old: Object | None) -> None:
        spec, name = new["spec"], name_of(new)
        if not isinstance(spec.get("size"), str):
            return  # the schema refuses it
        if old is None and (not _NAME.match(name) or len(name) > 63):
            raise denied(f"invalid name {name}")
        if not 1 <= int(spec.get("numberOfReplicas") or 0) <= 20:
            raise denied(f"number of replicas {spec.get('numberOfReplicas')} is invalid, must be between 1 to 20")
        engine, frontend = spec.get("dataEngine", "v1"), spec.get("frontend", "")
        if not spec.get("Standby") and frontend not in _FRONTENDS[engine]:
            raise denied(f"invalid volume frontend specified: {frontend or 'empty'}")
        if spec.get("Standby") and frontend:
            raise denied("standby volume must have an empty frontend")
        if engine == "v2" and not self.hub.settings.on("v2-data-engine"):
            raise denied("data engine v2 is not enabled")
        if int(spec.get("size") or 0) <= 0:
            raise denied(f"invalid volume size {spec.get('size')}")
        if old is not None:
            self._check_change(new, old)

    def _check_change(self, new: Object, old: Object) -> None:
        for key in ("fromBackup", "dataEngine", "encrypted", "backingImage"):
            if old["spec"].get(key, "") != new["spec"].get(key, ""):
                raise denied(f"changing {key} of volume {name_of(new)} is not supported")
        if int(new["spec"]["size"]) < int(old["spec"].get("size") or 0):
            raise denied(f"shrinking volume {name_of(new)} size is not supported")

    def _backup(self, new: Object, old: Object | None) -> None:
        if old is not None:
            return
        labels, spec = labels_of(new), new.setdefault("spec", {})
        if labels.get(BACKUP_VOLUME_LABEL, "") == "":
            raise denied(f"missing label {BACKUP_VOLUME_LABEL} of backup {name_of(new)}")
        target = self.hub.get(TARGETS, labels.get(TARGET_LABEL, ""))
        if target is None:
            raise denied(f"cannot find the backup target of backup {name_of(new)} by its label {TARGET_LABEL}")
        if spec.get("snapshotName"):
            if not status_of(target).get("available"):
                raise denied(f"backup target {name_of(target)} is not available")
            self._label_access(spec, labels[BACKUP_VOLUME_LABEL])
        spec.setdefault("backupMode", "incremental")
        if version_tuple(self.hub.version) >= (1, 10):
            spec.setdefault("backupBlockSize", str(_BLOCK))

    def _label_access(self, spec: dict[str, Any], name: str) -> None:
        volume = self.hub.get(VOLUMES, name)
        if volume is None:
            raise denied(f"cannot find volume {name} of the backup")
        mode = spec_of(volume).get("accessMode", "rwo")
        spec["labels"] = {**(spec.get("labels") or {}), ACCESS_LABEL: mode}

    def _backup_leaves(self, old: Object) -> None:
        for volume in self.hub.list(VOLUMES):
            asked = read_backup_url(spec_of(volume).get("fromBackup") or "")[1]
            if name_of(old) == asked and status_of(volume).get("restoreRequired"):
                raise denied(
                    f"cannot delete backup {name_of(old)}: volume {name_of(volume)} is being restored from it",
                    code=403, reason="Forbidden",
                )  # fmt: skip

    def _target(self, new: Object, _old: Object | None) -> None:
        spec = new.setdefault("spec", {})
        url, poll = str(spec.get("backupTargetURL") or ""), str(spec.get("pollInterval") or "")
        if url and not re.match(r"(nfs|cifs|s3|azblob|vfs)://", url):
            raise denied(f"invalid backup target URL {url}: the supported schemes are nfs, cifs, s3, azblob")
        if poll and not _DURATION.match(poll):
            raise denied(f'cannot decode backup target {name_of(new)}: time: invalid duration "{poll}"',
                         code=400, reason="BadRequest", by="mutator")  # fmt: skip

    def _job(self, new: Object, old: Object | None) -> None:
        spec = new.setdefault("spec", {})
        name = spec["name"] = spec.get("name") or name_of(new)
        if len(name) > 40:
            raise denied(f"job name {name} must be 40 characters or less")
        if name != name_of(new):
            raise denied(f"job name {name} must be the name of the object, {name_of(new)}")
        try:
            parse_cron(str(spec.get("cron", "")))
        except ValueError as exc:
            raise denied(f"invalid cron format({spec.get('cron')}): {exc}") from exc
        if int(spec.get("retain") or 0) > self.hub.settings.number("recurring-job-max-retention"):
            raise denied(f"retain value of job {name} is more than the setting recurring-job-max-retention")
        spec.setdefault("concurrency", 1)
        if int(spec["concurrency"]) < 1:
            raise denied(f"concurrency of job {name} must be at least 1")
        if old is not None and old["spec"].get("task") != spec.get("task"):
            raise denied(f"task of job {name} cannot be changed")

    def _snapshot(self, new: Object, old: Object | None) -> None:
        volume = str(new["spec"].get("volume", ""))
        if old is None and self.hub.get(VOLUMES, volume) is None:
            raise denied(f"spec.volume is required and must be a volume that is there, got {volume or 'none'}")
        new["metadata"].setdefault("labels", {})[VOLUME_LABEL] = volume

    def _backup_volume(self, new: Object, _old: Object | None) -> None:
        spec = new.setdefault("spec", {})
        labels = new["metadata"].setdefault("labels", {})
        labels[BACKUP_VOLUME_LABEL] = spec.get("volumeName", "")
        labels[TARGET_LABEL] = spec.get("backupTargetName") or DEFAULT

    def _setting(self, new: Object, _old: Object | None) -> None:
        name, value = name_of(new), str(new.get("value", ""))
        if name not in DEFAULTS:
            raise denied(f"setting {name} is not supported")
        if value.startswith("{"):
            try:
                value = str(json.loads(value).get("v1", ""))
            except ValueError as exc:
                raise denied(f"value {value} of setting {name} is no JSON: {exc}") from exc
        if DEFAULTS[name] in ("true", "false") and value not in ("true", "false"):
            raise denied(f"value {value} of setting {name} should be true or false")
        if DEFAULTS[name].isdecimal() and not value.isdecimal() and name not in PER_ENGINE:
            raise denied(f"value {value} of setting {name} is not a number")
