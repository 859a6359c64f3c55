"""Notice the end of another process at once, however it ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


def watch_parent(pid: int, ended: Callable[[], None]) -> None:
    """Call `ended` when a process is gone; at once when it is gone already."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        ended()
        return
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(handle)
        os.close(handle)
        ended()

    loop.add_reader(handle, gone)
