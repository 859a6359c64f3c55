"""The table of pods."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Object
from labkit.twin.kube.store import dump
from labkit.twin.kube.tables.cells import NONE, Cells, created, name_of, since

COLUMNS = {"pods": "Name Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*"}


def row_conditions(obj: Object) -> bytes:
    """Return the conditions of a row, which kubectl uses to hide pods that have ended."""
    phase = obj.get("status", {}).get("phase")
    if phase == "Succeeded":
        said = ("Succeeded", "The pod has completed successfully.")
    elif phase == "Failed":
        said = ("Failed", "The pod failed.")
    else:
        return b""
    condition = {"type": "Completed", "status": "True", "reason": said[0], "message": said[1]}
    return b',"conditions":' + dump([condition])


def pod_cells(obj: Object, now: float) -> list[Any]:
    """Return the cells of one pod."""
    spec, state = obj.get("spec", {}), obj.get("status", {})
    statuses = state.get("containerStatuses", ())
    ready = sum(bool(c.get("ready")) for c in statuses)
    sidecars = [c for c in spec.get("initContainers", ()) if c.get("restartPolicy") == "Always"]
    total = len(spec.get("containers", ())) + len(sidecars)
    if sidecars:
        names = {c["name"] for c in sidecars}
        ready += sum(bool(c.get("ready")) for c in state.get("initContainerStatuses", ()) if c.get("name") in names)
    return [
        name_of(obj),
        f"{ready}/{total}",
        pod_status(obj),
        _restarts(state, now),
        created(obj, now),
        next((ip.get("ip") for ip in state.get("podIPs", ())), None) or state.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        state.get("nominatedNodeName") or NONE,
        _gates(spec, state),
    ]


def pod_status(obj: Object) -> str:
    """Return the word that the status column shows."""
    state, meta = obj.get("status", {}), obj["metadata"]
    word = state.get("reason") or state.get("phase") or ""
    scheduled = [c for c in state.get("conditions", ()) if c.get("type") == "PodScheduled"]
    if any(c.get("reason") == "SchedulingGated" for c in scheduled):
        word = "SchedulingGated"
    word = _starting(obj) or _running(state, word)
    if meta.get("deletionTimestamp"):
        if state.get("reason") == "NodeLost":
            return "Unknown"
        return word if state.get("phase") in ("Succeeded", "Failed") else "Terminating"
    return str(word)


def _starting(obj: Object) -> str:
    """Return what an init container that has not finished says, empty when all have."""
    spec, state = obj.get("spec", {}), obj.get("status", {})
    inits = spec.get("initContainers", ())
    sidecars = {c["name"] for c in inits if c.get("restartPolicy") == "Always"}
    for index, container in enumerate(state.get("initContainerStatuses", ())):
        now = container.get("state", {})
        if container.get("name") in sidecars and container.get("started"):
            continue
        ended, waiting = now.get("terminated"), now.get("waiting", {})
        if ended and ended.get("exitCode", 0) == 0:
            continue
        if ended:
            return f"Init:{_ended(ended)}"
        if waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(inits)}"
    return ""


def _ended(state: Object) -> str:
    if state.get("reason"):
        return str(state["reason"])
    return f"Signal:{state['signal']}" if state.get("signal") else f"ExitCode:{state.get('exitCode', 0)}"


def _running(state: Object, word: str) -> str:
    running = False
    for container in reversed(state.get("containerStatuses", ())):
        now = container.get("state", {})
        if now.get("waiting", {}).get("reason"):
            word = now["waiting"]["reason"]
        elif now.get("terminated"):
            word = _ended(now["terminated"])
        elif container.get("ready") and "running" in now:
            running = True
    if word == "Completed" and running:
        is_ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in state.get("conditions", ()))
        return "Running" if is_ready else "NotReady"
    return word


def _restarts(state: Object, now: float) -> str:
    count, last = 0, ""
    for container in (*state.get("initContainerStatuses", ()), *state.get("containerStatuses", ())):
        count += container.get("restartCount", 0)
        last = max(last, container.get("lastState", {}).get("terminated", {}).get("finishedAt") or "")
    return f"{count} ({since(last, now)} ago)" if count and last else str(count)


def _gates(spec: Object, state: Object) -> str:
    gates = spec.get("readinessGates", ())
    if not gates:
        return NONE
    true = {c.get("type") for c in state.get("conditions", ()) if c.get("status") == "True"}
    return f"{sum(gate.get('conditionType') in true for gate in gates)}/{len(gates)}"


CELLS: dict[str, Cells] = {"pods": pod_cells}
