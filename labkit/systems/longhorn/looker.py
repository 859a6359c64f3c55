"""Pods that look at a scratch volume: its bytes against the store's, its file system, its files, an app's own probe.

They run Longhorn's own manager image, which every node has: it brings dd, sha256sum and the tools of file systems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.errors import StepFailed
from labkit.facts.longhorn import NAMESPACE
from labkit.systems.access import Access
from labkit.systems.kubernetes import Cluster
from labkit.systems.longhorn.read import manager_image
from labkit.systems.longhorn.scratch import Scratch

DEVICE, FOLDER = "/dev/drill", "/drill"
_LEAST_SECONDS = 600.0
_BYTES_PER_SECOND = 20 << 20
_READ_RANGES = (
    f'for range in "$@"; do dd if={DEVICE} bs=1M iflag=skip_bytes,count_bytes skip="${{range%:*}}" '
    'count="${range#*:}" status=none || exit 1; done | sha256sum'
)
_READ_FILES = (
    f"cd {FOLDER} && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum > /tmp/sums || exit 1; "
    "wc -l < /tmp/sums; sha256sum < /tmp/sums"
)
_CHECKERS: Mapping[str, tuple[str, ...]] = {
    kind: (f"fsck.{kind}", "-f", "-p", DEVICE) for kind in ("ext2", "ext3", "ext4")
}
"""How a file system that was not unmounted is checked: its journal first. Others are checked when they are mounted."""
_CORRECTED = (0, 1)
"""The exit statuses of fsck that leave a whole file system: clean, and corrected."""


@dataclass(frozen=True)
class Ended:
    """A container that has ended: its exit status and what it wrote."""

    status: int
    log: str


def device_pod(image: str, claim: str, ranges: Sequence[tuple[int, int]], fs_type: str) -> dict[str, Any]:
    """Return the pod that reads ranges of the bare device, then checks the file system on it."""
    given = [f"{offset}:{length}" for offset, length in ranges]
    compare = _container("compare", image, ["sh", "-c", _READ_RANGES, "compare", *given])
    words = list(_CHECKERS.get(fs_type or "ext4", ("true",)))
    check = _container("check", image, words)
    for container in (compare, check):
        container["volumeDevices"] = [{"name": "drill", "devicePath": DEVICE}]
    return {"initContainers": [compare], "containers": [check], **_around(claim)}


def files_pod(image: str, claim: str, probe: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the pod that reads every file, and then runs an app's probe in the folder of the files."""
    files = _container("files", image, ["sh", "-c", _READ_FILES])
    own = _container("probe", str((probe or {}).get("image") or image),
                     ["sh", "-c", f"cd {FOLDER} && {(probe or {}).get('command')}"])  # fmt: skip
    for container in (files, own):
        container["volumeMounts"] = [{"name": "drill", "mountPath": FOLDER}]
    if not probe:
        return {"containers": [files], **_around(claim)}
    return {"initContainers": [files], "containers": [own], **_around(claim)}


def find_image(cluster: Cluster) -> str:
    """Return the image that the pods run."""
    return manager_image(cluster.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/longhorn-manager"))


def fits(fs_status: int) -> bool:
    """Whether an exit status of the check of a file system is a good one."""
    return fs_status in _CORRECTED


def run_pod(
    cluster: Cluster, access: Access, scratch: Scratch, name: str, spec: Mapping[str, Any], *, size: int
) -> dict[str, Ended]:
    """Run a pod to its end, return what each container said, and remove it.

    Args:
        cluster: where it runs.
        access: for its time.
        scratch: whose namespace it runs in.
        name: of the pod.
        spec: of the pod.
        size: how many bytes it may have to read; more get more time.

    Raises:
        StepFailed: it did not come to an end in time; says what it waits for.
    """
    pods = f"/api/v1/namespaces/{scratch.name}/pods"
    path = f"{pods}/{name}"
    cluster.post(pods, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": scratch.labels},
                        "spec": dict(spec)})  # fmt: skip
    seen: list[dict[str, Any]] = [{}]

    def probe() -> dict[str, Any] | None:
        seen[0] = cluster.get(path)
        return seen[0] if (seen[0].get("status") or {}).get("phase") in ("Succeeded", "Failed") else None

    deadline = max(_LEAST_SECONDS, size / _BYTES_PER_SECOND)
    pod = access.wait(probe, what=f"pod {name} of {scratch.label}", deadline=deadline, every=1.0,
                      last=lambda: _waits_for(cluster, scratch, seen[0]),
                      causes="a volume that does not mount has a broken file system, or its node lacks Longhorn's "
                             "driver")  # fmt: skip
    ended = {one["name"]: _ended(cluster, path, one) for one in _statuses(pod)}
    cluster.delete(path)
    _wait_until_gone(cluster, access, path)
    return ended


def _wait_until_gone(cluster: Cluster, access: Access, path: str) -> None:
    access.wait(lambda: True if cluster.find(path) is None else None, what=path, deadline=120.0, every=1.0,
                last=lambda: "it is still there", causes="look at the kubelet of its node")  # fmt: skip


def _statuses(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _ended(cluster: Cluster, path: str, status: Mapping[str, Any]) -> Ended:
    ended = (status.get("state") or {}).get("terminated")
    if ended is None:  # one before it failed, so that it never ran
        return Ended(-1, "")
    log = cluster.request("GET", f"{path}/log", query={"container": status["name"]}, accept="*/*")
    return Ended(int(ended.get("exitCode") or 0), log.decode("utf-8", "replace"))


def _waits_for(cluster: Cluster, scratch: Scratch, pod: Mapping[str, Any]) -> str:
    """Return what a pod waits for: a container's word, or the newest warning about it."""
    for one in _statuses(pod):
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("message"):
            return f"{waiting.get('reason')}: {waiting['message']}"
    name = (pod.get("metadata") or {}).get("name")
    events = cluster.items(f"/api/v1/namespaces/{scratch.name}/events", fieldSelector=f"involvedObject.name={name}")
    warnings = [one for one in events if one.get("type") == "Warning"]
    newest = max(warnings, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""), default=None)
    phase = (pod.get("status") or {}).get("phase") or "none"
    return str(newest.get("message")) if newest else f"phase {phase}"


def _container(name: str, image: str, command: list[str]) -> dict[str, Any]:
    return {
        "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": command,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": False},
    }  # fmt: skip


def _around(claim: str) -> dict[str, Any]:
    return {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "drill", "persistentVolumeClaim": {"claimName": claim}}],
    }  # fmt: skip


def unreadable(what: str, ended: Ended) -> StepFailed:
    """Return the error for a container that did not end well."""
    said = " ".join(ended.log.split())[-400:]
    return StepFailed(f"{what}: expected exit status 0, got {ended.status}{f': {said}' if said else ''}")
