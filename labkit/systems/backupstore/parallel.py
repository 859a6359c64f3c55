"""Side by side with bounded memory: results in order, only a few ahead.

Threads do: reading, decoding and the checksums all release Python's lock, and were measured as fast as processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def usual_workers(*, remote: bool = False) -> int:
    """Give how many threads to use: one per core, more when most of the time is waiting for answers."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(8, cores) if remote else cores


def side_by_side(work: Callable[[_In], _Out], items: Iterable[_In], workers: int) -> Iterator[_Out]:
    """Give the results in the order of the items, with at most twice `workers` of them waiting or in work."""
    source = iter(items)
    waiting: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in source:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
