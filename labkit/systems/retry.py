"""Try again, in lab time: stamina with the clock of the lab and without its log lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import stamina
from stamina.instrumentation import set_on_retry_hooks

from labkit.systems.access import Clock

T = TypeVar("T")

_OWN_PACE = 5.0  # real seconds: a busy machine of ours does not become quicker with the twin's time
set_on_retry_hooks([])  # a retry is told by the step that makes it, not by a log line in a notebook


def retry(
    once: Callable[[], T],
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    clock: Clock,
    deadline: float,
    pause: float = 1.0,
    attempts: int | None = None,
) -> T:
    """Call `once` until it no longer raises `on`, for at most `deadline` lab seconds; then raise its last error.

    Args:
        once: what to try; must be safe to repeat.
        on: what means "again".
        clock: the time of the lab.
        deadline: lab seconds after which no new attempt is made; with `attempts`, five real seconds at least.
        pause: lab seconds before the second attempt; they grow up to five times of it.
        attempts: at most so many attempts.
    """
    unit = clock.scale * pause
    for attempt in stamina.retry_context(
        on=on,
        attempts=attempts,
        timeout=deadline * clock.scale if attempts is None else max(deadline * clock.scale, _OWN_PACE),
        wait_initial=unit,
        wait_max=5 * unit,
        wait_jitter=unit / 4,
    ):
        with attempt:
            return once()
    raise AssertionError("stamina ends with a value or an error")
