"""Rules on volumes: names pinned twice, Longhorn settings that are ignored, volumes that no job backs up. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from labkit.checks.repository.charts import is_at_least, releases
from labkit.checks.repository.finding import Hit, Question, at, rule
from labkit.facts.manifests import maps, texts
from labkit.facts.repository import Cluster, Resource
from labkit.plan import Severity

_DRIVER = "driver.longhorn.io"
_GROUP_LABEL, _JOB_LABEL = "recurring-job-group.longhorn.io/", "recurring-job.longhorn.io/"
_SOURCE_LABEL = "recurring-job.longhorn.io/source"
_BACKUP_TASKS = {"backup", "backup-force-create"}
_MOVED = {"backupTarget": "backupTarget", "backupTargetCredentialSecret": "backupTargetCredentialSecret",
          "backupstorePollInterval": "pollInterval"}  # fmt: skip
_MOVED_SETTINGS = {"backup-target", "backup-target-credential-secret", "backupstore-poll-interval"}
_OTHER_BACKUPS = {"Schedule", "ReplicationSource", "ScheduledBackup", "PreBackupPod", "BackupPolicy"}
_SPLIT = (1, 8)


@rule("volume-name-twice", Severity.ERROR, "no two claims are pinned to one volume").clusters
def find_pinned_twice(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield claims that name a volume which another claim names: only one of them is ever bound."""
    seen: dict[str, Resource] = {}
    for resource in cluster.resources:
        name = resource.get("spec", "volumeName") if resource.kind == "PersistentVolumeClaim" else None
        if (
            isinstance(name, str)
            and name
            and "$" not in name
            and (first := seen.setdefault(name, resource)) is not resource
        ):
            place = f"{first.file}:{first.line_at('spec', 'volumeName')}"
            why = f"{resource.label} is pinned to volume {name}, as {first.label} is ({place})"
            yield (
                *at(resource, "spec", "volumeName"),
                why,
                "give each claim its own volume: the second one stays Pending",
            )
    handles: dict[str, Resource] = {}
    for resource in cluster.resources:
        handle = resource.get("spec", "csi", "volumeHandle") if resource.kind == "PersistentVolume" else None
        if handle and resource.get("spec", "csi", "driver") == _DRIVER:
            other = handles.setdefault(str(handle), resource)
            if other is not resource:
                why = f"{resource.label} stands for the Longhorn volume {handle}, as {other.label} does"
                yield *at(resource, "spec", "csi", "volumeHandle"), why, "give each PersistentVolume its own volume"


@rule("longhorn-setting-ignored", Severity.ERROR, "the pinned Longhorn chart reads the backup target").clusters
def find_ignored_settings(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield backup settings at a place that the chart's version does not read: no backup would be made."""
    new: set[bool | None] = set()
    for release in releases(cluster, "longhorn"):
        modern = is_at_least(release.version, _SPLIT)
        new.add(modern)
        resource, steps = release.resource, ("spec", "values")
        for old, now in _MOVED.items():
            if modern is True and resource.get(*steps, "defaultSettings", old):
                why = f"Longhorn {release.version} ignores defaultSettings.{old}: since 1.8 that is defaultBackupStore"
                yield *at(resource, *steps, "defaultSettings", old), why, f"move the value to defaultBackupStore.{now}"
            if modern is False and resource.get(*steps, "defaultBackupStore", now):
                why = f"Longhorn {release.version} ignores defaultBackupStore.{now}: before 1.8 that is defaultSettings"
                yield *at(resource, *steps, "defaultBackupStore", now), why, f"move the value to defaultSettings.{old}"
    for resource in cluster.resources if new == {True} else ():
        if resource.group == "longhorn.io" and resource.kind == "Setting" and resource.name in _MOVED_SETTINGS:
            why = f"{resource.label}: since 1.8 Longhorn has no such setting; a BackupTarget holds it"
            yield *at(resource, "metadata", "name"), why, "write a BackupTarget named default in its place"


@dataclass(frozen=True)
class Member:
    """A Longhorn volume, as far as its claim tells, and the jobs and groups it is in."""

    resource: Resource
    groups: frozenset[str]
    jobs: frozenset[str]
    unread: frozenset[str] = frozenset()
    """Groups on labels that Longhorn does not read, since the claim is not marked as their source."""


@lru_cache(maxsize=8)
def members(cluster: Cluster) -> tuple[Member, ...]:
    """Return the Longhorn volumes that claims of the cluster ask for."""
    classes = {r.name: r for r in cluster.resources if r.kind == "StorageClass"}
    default = default_class(cluster, classes)
    pinned = {
        r.name for r in cluster.resources if r.kind == "PersistentVolume" and r.get("spec", "csi", "driver") == _DRIVER
    }
    found = []
    for resource in cluster.resources:
        if resource.kind == "PersistentVolumeClaim":
            name = resource.get("spec", "storageClassName")
            used = default if name is None else str(name)
            if is_longhorn(used, classes) or str(resource.get("spec", "volumeName")) in pinned:
                found.append(_member(resource, classes.get(used)))
    return tuple(found)


def default_class(cluster: Cluster, classes: Mapping[str, Resource]) -> str:
    """Return the storage class of claims that name none: the one marked so, or that of Longhorn's chart."""
    mark = "storageclass.kubernetes.io/is-default-class"
    named = next((name for name, r in classes.items() if r.annotations.get(mark, "").lower() == "true"), "")
    for release in releases(cluster, "longhorn") if not named else ():
        if release.resource.get("spec", "values", "persistence", "defaultClass") is not False:
            return "longhorn"
    return named


def is_longhorn(name: str, classes: Mapping[str, Resource]) -> bool:
    """Tell whether a storage class is Longhorn's, by its manifest or by its usual name."""
    if name in classes:
        return classes[name].tree.get("provisioner") == _DRIVER
    return name in {"longhorn", "longhorn-static"}


def _member(resource: Resource, storage_class: Resource | None) -> Member:
    groups, jobs = _labelled(resource.labels)
    if resource.labels.get(_SOURCE_LABEL) not in {"enabled", "enable", "true"}:
        unread, groups, jobs = groups, frozenset[str](), frozenset[str]()
    else:
        unread = frozenset()
    if not groups and not jobs and storage_class is not None:
        groups, jobs = _selected(storage_class)
    return Member(resource, groups or (frozenset() if jobs else frozenset({"default"})), jobs, unread)


def _labelled(labels: Mapping[str, str]) -> tuple[frozenset[str], frozenset[str]]:
    groups = frozenset(key.removeprefix(_GROUP_LABEL) for key in labels if key.startswith(_GROUP_LABEL))
    jobs = frozenset(
        key.removeprefix(_JOB_LABEL) for key in labels if key.startswith(_JOB_LABEL) and key != _SOURCE_LABEL
    )
    return groups, jobs


def _selected(storage_class: Resource) -> tuple[frozenset[str], frozenset[str]]:
    try:
        chosen = maps(json.loads(str(storage_class.get("parameters", "recurringJobSelector") or "[]")))
    except ValueError:
        chosen = []
    groups = frozenset(str(one.get("name")) for one in chosen if one.get("isGroup") is True)
    return groups, frozenset(str(one.get("name")) for one in chosen if one.get("isGroup") is not True)


def _jobs(cluster: Cluster) -> list[Resource]:
    return [r for r in cluster.resources if r.kind == "RecurringJob" and r.group == "longhorn.io"]


@rule("longhorn-group-empty", Severity.WARNING, "every group of a recurring job has a volume in it").clusters
def find_empty_groups(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield groups of jobs that no volume is in: the job runs and does nothing."""
    if not cluster.is_complete or not (jobs := _jobs(cluster)):
        return
    used = {group for member in members(cluster) for group in member.groups} | _mentioned(cluster)
    unread = {group for member in members(cluster) for group in member.unread}
    told: set[str] = set()
    for job in jobs:
        for index, group in enumerate(texts(job.get("spec", "groups"))):
            if group in used or group in told or (group == "default" and _has_unknown_volumes(cluster)):
                continue
            told.add(group)
            why = f"{job.label}: no volume is in the group {group}"
            if group in unread:
                why += f"; claims carry its label, but Longhorn reads it only beside {_SOURCE_LABEL}: enabled"
            remedy = f"label claims with {_GROUP_LABEL}{group}: enabled and {_SOURCE_LABEL}: enabled"
            yield *at(job, "spec", "groups", index), why, remedy


def _mentioned(cluster: Cluster) -> set[str]:
    """Return the groups that volumes, templates of claims and charts' values name."""
    found: set[str] = set()
    for resource in cluster.resources:
        if resource.kind == "StorageClass":
            found |= _selected(resource)[0]
        elif resource.kind in {"HelmRelease", "StatefulSet", "Volume", "PersistentVolume", "Cluster"}:
            found |= {key.removeprefix(_GROUP_LABEL) for key in _keys(resource.tree) if key.startswith(_GROUP_LABEL)}
    return found


def _keys(tree: Any) -> Iterator[str]:
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield from value
            stack += value.values()
        elif isinstance(value, list):
            stack += value


def _has_unknown_volumes(cluster: Cluster) -> bool:
    return any(r.kind in {"HelmRelease", "StatefulSet"} and _claims(r) for r in cluster.resources)


def _claims(resource: Resource) -> bool:
    return bool(
        {"storageClass", "storageClassName", "volumeClaimTemplates", "persistence"} & set(_keys(resource.get("spec")))
    )


@rule("longhorn-no-backup", Severity.WARNING, "every Longhorn volume is in a backup job").clusters
def find_no_backup(cluster: Cluster, _question: Question) -> Iterator[Hit]:
    """Yield Longhorn volumes that no recurring job backs up, and a Longhorn without any such job."""
    if not cluster.is_complete or any(r.kind in _OTHER_BACKUPS for r in cluster.resources) or not members(cluster):
        return
    backups = [job for job in _jobs(cluster) if str(job.get("spec", "task")) in _BACKUP_TASKS]
    if not backups:
        for release in releases(cluster, "longhorn"):
            count = len(members(cluster))
            why = f"no recurring job makes backups: {count} Longhorn volumes of this repository are never backed up"
            yield *at(release.resource), why, "add a RecurringJob with task: backup and groups: [default]"
        return
    groups = {group for job in backups for group in texts(job.get("spec", "groups"))}
    names = {job.name for job in backups}
    for member in members(cluster):
        if not member.groups & groups and not member.jobs & names:
            where = ", ".join(
                [*(f"group {g}" for g in sorted(member.groups)), *(f"job {j}" for j in sorted(member.jobs))]
            )
            why = f"{member.resource.label} is in no backup job (it is in {where})"
            known = ", ".join(sorted(groups)) or "none"
            remedy = f"put it in a group that is backed up ({known}), or add that group to a job with task: backup"
            yield *at(member.resource, "metadata", "labels"), why, remedy
