"""The status that a kubelet writes of a pod, for each stage of its life. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from labkit.twin.kube.door import Object

from .objects import meta, spec_of, status_of, uid_of, with_condition

CREATING = {"waiting": {"reason": "ContainerCreating"}}
NOT_READY = "containers with unready status: [{}]"


def names(pod: Object) -> list[str]:
    """Return the names of the containers."""
    return [c["name"] for c in spec_of(pod).get("containers") or []]


def statuses(pod: Object) -> dict[str, dict[str, Any]]:
    """Return the container statuses by name."""
    return {s["name"]: s for s in status_of(pod).get("containerStatuses") or []}


def restarts(pod: Object) -> int:
    """Return the restart count of the first container."""
    found = status_of(pod).get("containerStatuses") or [{}]
    return int(found[0].get("restartCount", 0))


def container_id(pod: Object, name: str, restart: int) -> str:
    """Make up the id of a container, always the same for the same run of it."""
    text = f"{uid_of(pod)}/{name}/{restart}"
    return "containerd://" + hashlib.sha256(text.encode()).hexdigest()


def image_id(image: str) -> str:
    """Make up the digest of an image, always the same for the same name."""
    base = image.partition("@")[0]
    return f"{base}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def full_image(image: str) -> str:
    """Write an image name in full, as the runtime reports it."""
    first = image.split("/", maxsplit=1)[0]
    hosted = "/" in image and ("." in first or ":" in first or first == "localhost")
    named = image if hosted else f"docker.io/{image}" if "/" in image else f"docker.io/library/{image}"
    return named if ":" in named.rsplit("/", 1)[-1] or "@" in named else f"{named}:latest"


def base_status(pod: Object, host: str, now: str) -> dict[str, Any]:
    """Return the status of a pod whose containers are being made."""
    status = {**status_of(pod), "phase": "Pending"}
    status.setdefault("startTime", now)
    if host:
        status["hostIP"], status["hostIPs"] = host, [{"ip": host}]
    done = "True" if not _init(pod) else "False"
    conditions = _set(status.get("conditions"), pod, "PodReadyToStartContainers", "False", now)
    if done == "True":
        conditions = _set(conditions, pod, "Initialized", "True", now)
    else:
        text = f"containers with incomplete status: [{' '.join(c['name'] for c in _init(pod))}]"
        conditions = _set(conditions, pod, "Initialized", "False", now, "ContainersNotInitialized", text)
    conditions = _unready(conditions, pod, now)
    status["conditions"] = _set(conditions, pod, "PodScheduled", "True", now)
    status["containerStatuses"] = [_waiting(pod, c, CREATING) for c in spec_of(pod).get("containers") or []]
    if _init(pod):
        status["initContainerStatuses"] = [
            {**_waiting(pod, c, {"waiting": {"reason": "PodInitializing"}}), "started": False} for c in _init(pod)
        ]
    return status


def waiting_status(pod: Object, now: str, waiting: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return the status with the named containers waiting for a reason: {name: {reason, message}}."""
    status = dict(status_of(pod))
    found = []
    for container in spec_of(pod).get("containers") or []:
        name = container["name"]
        old = statuses(pod).get(name) or _waiting(pod, container, CREATING)
        state = {"waiting": waiting[name]} if name in waiting else old["state"]
        found.append({**old, "ready": False, "started": False, "state": state})
    status["containerStatuses"] = found
    status["conditions"] = _unready(status.get("conditions"), pod, now)
    return status


def running_status(pod: Object, address: str, now: str, *, ready: bool, count: int) -> dict[str, Any]:
    """Return the status of a pod that runs, in its `count`-th restart."""
    status = {**status_of(pod), "phase": "Running"}
    if address:
        status["podIP"], status["podIPs"] = address, [{"ip": address}]
    before = statuses(pod)
    containers = spec_of(pod).get("containers") or []
    status["containerStatuses"] = [
        _running(pod, c, before.get(c["name"]), now, ready=ready, count=count) for c in containers
    ]
    if _init(pod):
        status["initContainerStatuses"] = [_completed(pod, c, now) for c in _init(pod)]
    conditions = _set(status.get("conditions"), pod, "PodReadyToStartContainers", "True", now)
    conditions = _set(conditions, pod, "Initialized", "True", now)
    if ready:
        conditions = _set(conditions, pod, "Ready", "True", now)
        conditions = _set(conditions, pod, "ContainersReady", "True", now)
    else:
        conditions = _unready(conditions, pod, now)
    status["conditions"] = _set(conditions, pod, "PodScheduled", "True", now)
    return status


def ended_status(pod: Object, now: str, code: int, *, final: bool = True, signal: bool = False) -> dict[str, Any]:
    """Return the status of a pod whose containers ended; `final` when none of them will be started again."""
    status = dict(status_of(pod))
    reason = "Completed" if code == 0 else "Error"
    found = []
    for name, old in statuses(pod).items():
        begun = ((old.get("state") or {}).get("running") or {}).get("startedAt", now)
        ended = {
            "exitCode": code, "reason": reason, "startedAt": begun, "finishedAt": now,
            "containerID": old.get("containerID", container_id(pod, name, 0)),
        }  # fmt: skip
        found.append({**old, "ready": False, "started": False, "state": {"terminated": ended}})
    status["containerStatuses"] = found
    why = "PodCompleted" if final and code == 0 else "PodFailed" if final and not signal else "ContainersNotReady"
    if final:
        status["phase"] = "Succeeded" if code == 0 else "Failed"
        conditions = _set(status.get("conditions"), pod, "PodReadyToStartContainers", "False", now)
    else:
        conditions = status.get("conditions") or []
    status["conditions"] = _unready(conditions, pod, now, why)
    return status


def _unready(
    conditions: list[dict[str, Any]] | None, pod: Object, now: str, reason: str = "ContainersNotReady"
) -> list[dict[str, Any]]:
    text = NOT_READY.format(" ".join(names(pod))) if reason == "ContainersNotReady" else ""
    conditions = _set(conditions, pod, "Ready", "False", now, reason, text)
    return _set(conditions, pod, "ContainersReady", "False", now, reason, text)


def _set(
    conditions: list[dict[str, Any]] | None, pod: Object, kind: str, status: str, now: str, *told: str
) -> list[dict[str, Any]]:
    fields = {k: v for k, v in zip(("reason", "message"), told, strict=False) if v}
    generation = meta(pod).get("generation")
    if generation:
        fields["observedGeneration"] = generation
    return with_condition(conditions, kind, status, now, lastProbeTime=None, **fields)


def _init(pod: Object) -> list[dict[str, Any]]:
    return spec_of(pod).get("initContainers") or []


def _waiting(pod: Object, container: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    old = statuses(pod).get(container["name"]) or {}
    return {
        "name": container["name"], "image": container["image"], "imageID": "", "ready": False, "started": False,
        "restartCount": old.get("restartCount", 0), "state": state, "lastState": old.get("lastState", {}),
    }  # fmt: skip


def _running(
    pod: Object, container: dict[str, Any], old: dict[str, Any] | None, now: str, *, ready: bool, count: int
) -> dict[str, Any]:
    state = (old or {}).get("state") or {}
    same = "running" in state and (old or {}).get("restartCount", 0) == count
    last = {"terminated": state["terminated"]} if "terminated" in state else (old or {}).get("lastState", {})
    if "running" in state and not same:
        last = {"terminated": {"exitCode": 255, "reason": "Unknown", **state["running"], "finishedAt": now}}
    begun = state["running"] if same else {"startedAt": now}
    return {
        "name": container["name"], "image": full_image(container["image"]), "imageID": image_id(container["image"]),
        "containerID": container_id(pod, container["name"], count), "ready": ready, "started": True,
        "restartCount": count, "state": {"running": begun}, "lastState": last,
    }  # fmt: skip


def _completed(pod: Object, container: dict[str, Any], now: str) -> dict[str, Any]:
    old: dict[str, Any] = next(
        (s for s in status_of(pod).get("initContainerStatuses") or [] if s["name"] == container["name"]), {}
    )
    if "terminated" in (old.get("state") or {}) or "running" in (old.get("state") or {}):
        return dict(old)
    name = container["name"]
    common = {
        "name": name, "image": full_image(container["image"]), "imageID": image_id(container["image"]),
        "containerID": container_id(pod, name, 0), "ready": True, "restartCount": 0, "lastState": {},
    }  # fmt: skip
    if container.get("restartPolicy") == "Always":
        return {**common, "started": True, "state": {"running": {"startedAt": now}}}
    ended = {
        "exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now,
        "containerID": common["containerID"],
    }  # fmt: skip
    return {**common, "started": False, "state": {"terminated": ended}}
