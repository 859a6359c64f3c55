"""One event loop in the background, for libraries that know no other face."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_guard = threading.Lock()
_running: list[asyncio.AbstractEventLoop] = []


def call(coroutine: Coroutine[Any, Any, T], *, timeout: float | None = None) -> T:
    """Run a coroutine on the shared loop and wait for its result; may be called from any thread but the loop's.

    Args:
        coroutine: what to run.
        timeout: real seconds after which it is cancelled.

    Raises:
        TimeoutError: it took longer.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, _loop())
    try:
        return future.result(timeout)
    except BaseException:
        future.cancel()
        raise


def _loop() -> asyncio.AbstractEventLoop:
    with _guard:
        if not _running:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="labkit-loop", daemon=True).start()
            _running.append(loop)
        return _running[0]
