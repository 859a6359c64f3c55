"""How pods behave on the twin's nodes: by image, by annotation, and by fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Any

from labkit.twin.kube.door import Object

from .objects import annotations_of, spec_of

PREFIX = "twin.labkit/"


@dataclass(frozen=True)
class Behaviour:
    """What a container image does; times in twin seconds.

    `start` from bound to running, `ready` from running to ready, `stop` from the order to end until it has ended
    (at most the grace period), `run` until it ends by itself (None: never, but pods that are not restarted end
    after `task`), with `exit_code`.
    """

    start: float = 2.0
    ready: float = 1.0
    stop: float = 1.0
    run: float | None = None
    task: float = 3.0
    exit_code: int = 0
    never_ready: bool = False

    def seconds_to_end(self, restart: str) -> float | None:
        """Return how long it runs in a pod of that restart policy, None when it does not end."""
        return self.run if self.run is not None else (None if restart == "Always" else self.task)


FLOATS = ("start", "ready", "stop", "run", "task")


@dataclass
class Behaviours:
    """The table: image patterns (as in a shell) to behaviours, and the images that cannot be pulled.

    `bad_images` maps patterns to the error that the runtime gives. A pod's annotations
    `twin.labkit/start`, `ready`, `stop`, `run`, `task`, `exit-code`, `never-ready` go before the table.
    """

    images: dict[str, Behaviour] = field(default_factory=dict)
    bad_images: dict[str, str] = field(default_factory=dict)
    default: Behaviour = Behaviour()

    def of(self, pod: Object) -> Behaviour:
        """Return the behaviour of a pod, told by its first container's image and its annotations."""
        containers = spec_of(pod).get("containers") or [{}]
        image = str(containers[0].get("image", ""))
        found = next((b for p, b in self.images.items() if fnmatch(image, p)), self.default)
        return replace(found, **_told(annotations_of(pod)))

    def pull_error(self, image: str) -> str | None:
        """Return why an image cannot be pulled, None when it can."""
        return next((text for p, text in self.bad_images.items() if fnmatch(image, p)), None)

    def break_image(self, pattern: str, error: str = "") -> None:
        """Fault `bad image`: from now on images like this cannot be pulled."""
        self.bad_images[pattern] = error or "not found"

    def mend_image(self, pattern: str) -> None:
        """End the fault: pods that wait for such an image come up at their next try."""
        self.bad_images.pop(pattern, None)


def _told(annotations: Mapping[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name in FLOATS:
        if PREFIX + name in annotations:
            told[name] = float(annotations[PREFIX + name])
    if PREFIX + "exit-code" in annotations:
        told["exit_code"] = int(annotations[PREFIX + "exit-code"])
    if PREFIX + "never-ready" in annotations:
        told["never_ready"] = annotations[PREFIX + "never-ready"] == "true"
    return told
