"""The kubelets of all living nodes: pods bound to them start, get ready, end, and go when they are deleted."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from labkit.twin.kube.door import Api, Clock, Event, Object

from . import pod_status as stages
from .behaviour import Behaviour, Behaviours
from .framework import Controller
from .kubelet_needs import Needs
from .objects import (
    is_deleting,
    is_finished,
    meta,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    uid_of,
)

PULL_BACKOFF, CRASH_BACKOFF, LONGEST_BACKOFF = 10.0, 10.0, 300.0
Gate = Callable[[Object, str], str | None]
"""Asked before a pod starts on a node: None to let it, else why it has to wait (a FailedMount event)."""


@dataclass
class Host:
    """What the kubelet knows of its node."""

    name: str
    address: str
    pod_cidr: str
    rebooted: bool = True


@dataclass
class Run:
    """Where a pod is: twin times at which its stages are due, kept while its node lives."""

    uid: str
    start: float
    running: float | None = None
    ready: float | None = None
    end: float | None = None
    stop: float | None = None
    pulls: int = 0
    crashes: int = 0
    again: bool = False


class Kubelets(Controller):
    """Act for every pod that is bound to a living node; pods on other nodes are left alone.

    Args:
        behaviours: how images behave, and which cannot be pulled.
        gates: asked before a pod starts, for what its volumes need; call `look` when the answer may have changed.
    """

    name = "kubelet"
    watches = ("pods", "secrets", "configmaps", "persistentvolumeclaims")

    def __init__(
        self, api: Api, clock: Clock, behaviours: Behaviours | None = None, gates: Iterable[Gate] = ()
    ) -> None:
        super().__init__(api, clock)
        self.behaviours = behaviours or Behaviours()
        self.gates = list(gates)
        self._hosts: dict[str, Host] = {}
        self._runs: dict[tuple[str, str], Run] = {}
        self._taken: dict[str, dict[str, str]] = {}
        self._needs = Needs(api)

    def join(self, host: Host) -> None:
        """Begin to act for the pods of a node, the ones that it had before included."""
        self._hosts[host.name] = host
        self.look_at_node(host.name)

    def leave(self, name: str) -> None:
        """Stop acting for a node: its pods stay as they are."""
        self._hosts.pop(name, None)
        for pod in self._pods_on(name):
            self._runs.pop((namespace_of(pod), name_of(pod)), None)

    def look(self, namespace: str, name: str) -> None:
        """Look at a pod again, because something outside the API changed."""
        self.queue.add((namespace, name))

    def look_at_node(self, node: str) -> None:
        """Look at all pods of a node again."""
        for pod in self._pods_on(node):
            self.look(namespace_of(pod), name_of(pod))

    def keys(self, event: Event) -> Iterable[tuple[str, str]]:
        """Map a pod to itself when its node lives, and a Secret, ConfigMap or claim to the pods that wait for it."""
        obj = event.object
        if event.resource != "pods":
            return self._needs.waiting_for(event.resource, namespace_of(obj), name_of(obj))
        if event.type == "DELETED":
            self._forget(obj)
            return []
        return [(namespace_of(obj), name_of(obj))] if spec_of(obj).get("nodeName") in self._hosts else []

    def reconcile(self, key: tuple[str, str]) -> float | None:
        """Bring one pod to the stage that it should be in now."""
        namespace, name = key
        pod = self.api.get("pods", name, namespace)
        host = self._hosts.get(spec_of(pod or {}).get("nodeName", ""))
        if pod is None or host is None:
            return None
        behaviour, run = self.behaviours.of(pod), self._run(key, pod, host)
        if is_deleting(pod):
            return self._stop(pod, run, behaviour)
        if is_finished(pod):
            return None
        if status_of(pod).get("phase") != "Running" or run.running is None:
            return self._start(pod, run, behaviour, host)
        return self._go_on(pod, run, behaviour)

    def _run(self, key: tuple[str, str], pod: Object, host: Host) -> Run:
        """Return what is known of a pod; one that ran before a reboot starts anew, else it has run on."""
        run = self._runs.get(key)
        if run is None or run.uid != uid_of(pod):
            run = Run(uid_of(pod), self.time() + self.behaviours.of(pod).start)
            ran = status_of(pod).get("phase") == "Running"
            run.again = ran and host.rebooted
            if ran and not host.rebooted:
                self._set_out(pod, run)
            self._runs[key] = run
            self._keep_address(pod, host)
        return run

    def _start(self, pod: Object, run: Run, behaviour: Behaviour, host: Host) -> float | None:
        """Show that containers are being made, and run them when it is time and nothing is missing."""
        if not status_of(pod).get("startTime"):
            pod = self._write(pod, stages.base_status(pod, host.address, self.now()))
        left = run.start - self.time()
        if left > 0:
            return left
        problem = self._pull(pod, run)
        if problem is not None:
            return problem
        if self._is_held(pod, host):
            return None
        count = stages.restarts(pod) + (1 if run.again else 0)
        ready = not _has_probe(pod) and not behaviour.never_ready
        address = self._address(pod, host)
        self._set_out(pod, run, ready_in=0.0 if ready else behaviour.ready)
        pod = self._write(pod, stages.running_status(pod, address, self.now(), ready=ready, count=count))
        for container in spec_of(pod).get("containers") or []:
            image = container["image"]
            self._say(pod, "Pulled", f'Container image "{image}" already present on machine')
            self._say(pod, "Created", f"Created container: {container['name']}")
            self._say(pod, "Started", f"Started container {container['name']}")
        return self._next(run, behaviour)

    def _set_out(self, pod: Object, run: Run, ready_in: float = 0.0) -> None:
        """Note that a pod runs from now on, and when it will be ready and end."""
        run.again, run.running = False, self.time()
        run.ready = run.running + ready_in
        span = self.behaviours.of(pod).seconds_to_end(spec_of(pod).get("restartPolicy", "Always"))
        run.end = None if span is None else run.running + span

    def _go_on(self, pod: Object, run: Run, behaviour: Behaviour) -> float | None:
        """Make a running pod ready, or end it, when it is time."""
        now = self.time()
        if run.end is not None and now >= run.end:
            return self._end(pod, run, behaviour)
        if run.ready is not None and now >= run.ready and not behaviour.never_ready:
            status = status_of(pod)
            wanted = stages.running_status(
                pod, status.get("podIP", ""), self.now(), ready=True, count=stages.restarts(pod)
            )
            if wanted != status:
                self._write(pod, wanted)
        return self._next(run, behaviour)

    def _next(self, run: Run, behaviour: Behaviour) -> float | None:
        """Return the seconds to the next stage that is due."""
        now = self.time()
        ready = None if behaviour.never_ready or run.ready is None or run.ready <= now else run.ready
        due = [moment - now for moment in (ready, run.end) if moment is not None]
        return max(0.0, min(due)) if due else None

    def _end(self, pod: Object, run: Run, behaviour: Behaviour) -> float | None:
        """End a pod's containers, for good or until they are started again after a growing pause."""
        policy, code = spec_of(pod).get("restartPolicy", "Always"), behaviour.exit_code
        final = policy == "Never" or (policy == "OnFailure" and code == 0)
        pod = self._write(pod, stages.ended_status(pod, self.now(), code, final=final))
        run.running = run.end = None
        if final:
            return None
        pause = min(LONGEST_BACKOFF, CRASH_BACKOFF * 2.0 ** min(run.crashes, 10))
        run.crashes += 1
        run.start, run.again = self.time() + pause, True
        name = f"{name_of(pod)}_{namespace_of(pod)}({uid_of(pod)})"
        text = "back-off {} restarting failed container={} pod={}"
        messages = {n: text.format(f"{pause:g}s", n, name) for n in stages.names(pod)}
        waiting = {n: {"reason": "CrashLoopBackOff", "message": m} for n, m in messages.items()}
        last = {n: s["state"] for n, s in stages.statuses(pod).items()}
        status = stages.waiting_status(pod, self.now(), waiting)
        status["containerStatuses"] = [{**s, "lastState": last[s["name"]]} for s in status["containerStatuses"]]
        self._write(pod, status)
        first = stages.names(pod)[0]
        self.events.warning(pod, "BackOff", f"Back-off restarting failed container {first} in pod {name}")
        return pause

    def _pull(self, pod: Object, run: Run) -> float | None:
        """Let containers wait whose image cannot be pulled; return the seconds to the next try."""
        waiting, errors = {}, []
        for container in spec_of(pod).get("containers") or []:
            image = container["image"]
            error = self.behaviours.pull_error(image)
            if error is None:
                continue
            full = stages.full_image(image)
            errors.append(
                f'failed to pull and unpack image "{full}": failed to resolve reference "{full}": {full}: {error}'
            )
            waiting[container["name"]] = (
                {"reason": "ErrImagePull", "message": errors[-1]}
                if not run.pulls
                else {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}": {errors[-1]}'}
            )
        if not waiting:
            return None
        self._write(pod, stages.waiting_status(pod, self.now(), waiting))
        reason = "Failed" if not run.pulls else "BackOff"
        self.events.warning(pod, reason, next(iter(waiting.values()))["message"], host=self._node(pod))
        pause = min(LONGEST_BACKOFF, PULL_BACKOFF * 2.0 ** min(run.pulls, 10))
        run.pulls += 1
        run.start = self.time() + pause
        return pause

    def _is_held(self, pod: Object, host: Host) -> bool:
        """Tell whether a pod lacks a Secret, a ConfigMap, a bound claim, or what a gate asks for."""
        mounts, variables = self._needs.missing(pod)
        held = [text for gate in self.gates if (text := gate(pod, host.name))]
        for text in mounts + held:
            self.events.warning(pod, "FailedMount", text, host=host.name)
        if not mounts and not held and variables:
            problem = {"reason": "CreateContainerConfigError", "message": variables[0]}
            self._write(pod, stages.waiting_status(pod, self.now(), dict.fromkeys(stages.names(pod), problem)))
            self.events.warning(pod, "Failed", f"Error: {variables[0]}", host=host.name)
        return bool(mounts or held or variables)

    def _stop(self, pod: Object, run: Run, behaviour: Behaviour) -> float | None:
        """End a deleted pod within its grace period, then remove it."""
        grace = float(meta(pod).get("deletionGracePeriodSeconds") or 0)
        if run.stop is None:
            run.stop = self.time() + min(grace, behaviour.stop)
            if status_of(pod).get("phase") == "Running":
                self._say(pod, "Killing", f"Stopping container {stages.names(pod)[0]}")
        left = run.stop - self.time()
        if left > 0:
            return left
        if status_of(pod).get("phase") == "Running":
            restart = spec_of(pod).get("restartPolicy", "Always")
            pod = self._write(pod, stages.ended_status(pod, self.now(), 0, final=restart != "Always"))
        self.api.delete("pods", name_of(pod), namespace_of(pod), grace=0)
        return None

    def _write(self, pod: Object, status: dict[str, Any]) -> Object:
        return self.api.update_status("pods", {**pod, "status": status})

    def _say(self, pod: Object, reason: str, text: str) -> None:
        self.events.normal(pod, reason, text, host=self._node(pod))

    def _node(self, pod: Object) -> str:
        return str(spec_of(pod).get("nodeName", ""))

    def _pods_on(self, node: str) -> list[Object]:
        return [p for p in self.api.list("pods") if spec_of(p).get("nodeName") == node]

    def _forget(self, pod: Object) -> None:
        self._runs.pop((namespace_of(pod), name_of(pod)), None)
        self._needs.forget(namespace_of(pod), name_of(pod))
        self._taken.get(self._node(pod), {}).pop(uid_of(pod), None)

    def _keep_address(self, pod: Object, host: Host) -> None:
        address = status_of(pod).get("podIP")
        if address and not spec_of(pod).get("hostNetwork"):
            self._taken.setdefault(host.name, {})[uid_of(pod)] = address

    def _address(self, pod: Object, host: Host) -> str:
        """Return the address of a pod: its node's, or the lowest free one of the node's range."""
        if spec_of(pod).get("hostNetwork"):
            return host.address
        taken = self._taken.setdefault(host.name, {})
        if uid_of(pod) not in taken:
            used, network = set(taken.values()), ipaddress.ip_network(host.pod_cidr)
            first = network.network_address + 2  # the address before it is the bridge's
            free = (a for i in range(network.num_addresses - 3) if (a := str(first + i)) not in used)
            taken[uid_of(pod)] = next(free, "")
        return taken[uid_of(pod)]


def _has_probe(pod: Object) -> bool:
    return any(c.get("readinessProbe") for c in spec_of(pod).get("containers") or [])
