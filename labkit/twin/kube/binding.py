"""Binding a pod to a node, which only the scheduler may do and only once."""

from __future__ import annotations

from labkit.twin.kube import status
from labkit.twin.kube.clone import clone
from labkit.twin.kube.core import Core
from labkit.twin.kube.door import ApiError, Object
from labkit.twin.kube.store import Record


def bind(core: Core, namespace: str, name: str, body: Object) -> Record:
    """Give a pod the node that a Binding names.

    Raises:
        ApiError: there is no such pod (404), it has a node, is being deleted, or is another one by now (409).
    """
    pod = core.get(core.resource("pods"), namespace, name)
    node = str(body.get("target", {}).get("name", ""))
    wanted, has = body.get("metadata", {}).get("uid"), pod.object["spec"].get("nodeName")
    if wanted and wanted != pod.meta["uid"]:
        raise _conflict(
            name, f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {pod.meta['uid']}"
        )
    if pod.meta.get("deletionTimestamp"):
        raise _conflict(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if has:
        raise _conflict(name, f'pod {name} is already assigned to node "{has}"')
    new = clone(pod.object)
    new["spec"]["nodeName"] = node
    state = new.setdefault("status", {})
    others = [c for c in state.get("conditions") or [] if c["type"] != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": core.now()}
    state["conditions"] = [*others, scheduled]
    return core.store.put("pods", new)


def _conflict(name: str, why: str) -> ApiError:
    return status.conflict("pods/binding", "", name, why)
