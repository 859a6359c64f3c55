"""What the status that kubectl shows of a pod says about it. Pure."""

from __future__ import annotations

import re
from enum import StrEnum

from labkit.facts.kubehealth import PodHealth

_CRASHES = frozenset({"CrashLoopBackOff", "Error", "OOMKilled", "RunContainerError", "StartError", "ContainerCannotRun",
                      "CreateContainerConfigError", "CreateContainerError", "PostStartHookError"})  # fmt: skip
_IMAGES = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
                     "RegistryUnavailable", "SignatureValidationFailed"})  # fmt: skip
_LEFT = frozenset({"Evicted", "NodeShutdown", "Terminated", "NodeAffinity", "Preempting", "OutOfcpu", "OutOfmemory",
                   "OutOfpods", "OutOfephemeral-storage", "UnexpectedAdmissionError", "Shutdown",
                   "ContainerStatusUnknown"})  # fmt: skip
_ENDED = re.compile(r"(ExitCode|Signal):-?\d+")
_INIT = re.compile(r"Init:\d+/\d+")


class PodState(StrEnum):
    """In which way a pod is not as it should be, or that it is."""

    FINE = "fine"
    CRASHES = "crashes"
    """A container ends with an error, or cannot be started."""
    IMAGE = "image"
    """An image cannot be pulled."""
    PENDING = "pending"
    """No node takes it."""
    STARTING = "starting"
    """A node has it, and its containers do not run yet."""
    ENDING = "ending"
    """It is to be gone."""
    UNREADY = "unready"
    """It runs, and says that it is not ready."""
    LEFT = "left"
    """A node has given it up, and it was made anew elsewhere."""
    LOST = "lost"
    """Nobody knows, for its node does not answer."""


_BY_WORD = {
    **dict.fromkeys(_CRASHES, PodState.CRASHES), **dict.fromkeys(_IMAGES, PodState.IMAGE),
    **dict.fromkeys(_LEFT, PodState.LEFT), **dict.fromkeys(("Pending", "SchedulingGated"), PodState.PENDING),
    **dict.fromkeys(("ContainerCreating", "PodInitializing"), PodState.STARTING),
    **dict.fromkeys(("Unknown", "NodeLost"), PodState.LOST),
}  # fmt: skip


def state_of(pod: PodHealth) -> PodState:
    """Return the state of a pod by what kubectl shows."""
    if pod.deleting is not None or pod.status == "Terminating":
        return PodState.ENDING
    if _INIT.fullmatch(pod.status):
        return PodState.STARTING
    word = pod.status.removeprefix("Init:")
    if _ENDED.fullmatch(word):
        return PodState.CRASHES
    unready = word in ("Running", "NotReady") and pod.ready < pod.total
    return _BY_WORD.get(word, PodState.UNREADY if unready else PodState.FINE)
