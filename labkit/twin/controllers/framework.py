"""A small framework for controllers: one watch for all, one work queue each, keys coalesced, retries with back-off.

A controller names the resources that it watches, maps each event to keys, and reconciles a key. What reconcile
returns is the number of twin seconds after which the key is due again; None when only an event can change it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Hashable, Iterable, Sequence
from typing import Any

from labkit.twin.kube.door import Api, ApiError, Clock, Event, Object

from .ages import Ages, twin_seconds
from .events import Recorder
from .objects import condition, name_of, namespace_of, stamp, uid_of

Key = Hashable
Result = float | None

FIRST_RETRY = 1.0
LAST_RETRY = 60.0


class Controller:
    """One loop. Subclasses set `name` and `watches`, and write `reconcile`, and `keys` where needed."""

    name = ""
    watches: Sequence[str] = ()
    width = 4

    def __init__(self, api: Api, clock: Clock) -> None:
        self.api = api
        self.clock = clock
        self.queue = Queue(clock)
        self.events = Recorder(api, clock, self.name)
        self.ages = Ages(clock)
        self.log = logging.getLogger(f"{__package__}.{self.name}")

    def keys(self, event: Event) -> Iterable[Key]:
        """Return what to reconcile after an event; by default the object's own (namespace, name)."""
        return [(namespace_of(event.object), name_of(event.object))]

    def reconcile(self, key: Any) -> Result | Awaitable[Result]:
        """Bring one key to what it should be; may be a coroutine (then up to `width` keys run side by side)."""
        raise TypeError(f"controller {self.name!r} does not say how to reconcile {key!r}")

    def now(self) -> str:
        """Return the date as the API writes it."""
        return stamp(self.clock.now())

    def time(self) -> float:
        """Return twin seconds, for spans."""
        return twin_seconds(self.clock)

    def available_in(self, pod: Object, min_ready: float) -> float | None:
        """Return the twin seconds until a pod counts as available: 0 now, None while it is not ready."""
        ready = condition(pod, "Ready")
        if ready is None or ready.get("status") != "True":
            return None
        if not min_ready:
            return 0.0
        since = ready.get("lastTransitionTime")
        return max(0.0, min_ready - self.ages.of((uid_of(pod), "ready"), since, date=since))

    def take(self, event: Event) -> None:
        """Queue the keys of an event."""
        try:
            for key in self.keys(event):
                self.queue.add(key)
        except Exception:
            self.log.exception("cannot tell what %s of %s concerns", event.type, event.resource)

    async def run(self) -> None:
        """Work off the queue until cancelled."""
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                key = await self.queue.get()
                pending = self._try(key)
                if pending is None:
                    continue
                task = asyncio.create_task(self._finish(key, pending))
                running.add(task)
                task.add_done_callback(running.discard)
                while len(running) >= self.width:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in running:
                task.cancel()
            self.queue.close()

    def _try(self, key: Key) -> Awaitable[Result] | None:
        """Reconcile a key; return what is left to await."""
        try:
            result = self.reconcile(key)
        except Exception as error:  # noqa: BLE001 - logged and retried by _failed
            self._failed(key, error)
            return None
        if result is None or isinstance(result, int | float):
            self.queue.done(key, after=result)
            return None
        return result

    async def _finish(self, key: Key, pending: Awaitable[Result]) -> None:
        try:
            result = await pending
        except asyncio.CancelledError:
            self.queue.done(key)
            raise
        except Exception as error:  # noqa: BLE001 - logged and retried by _failed
            self._failed(key, error)
        else:
            self.queue.done(key, after=result)

    def _failed(self, key: Key, error: Exception) -> None:
        wait = self.queue.failed(key)
        if isinstance(error, ApiError) and error.code == 409:
            self.log.debug("%s: %r met a newer object, again in %g s", self.name, key, wait)
        elif isinstance(error, ApiError):
            self.log.warning("%s: %r: %s; again in %g s", self.name, key, error, wait)
        else:
            self.log.error("%s: %r failed; again in %g s", self.name, key, wait, exc_info=error)


class Queue:
    """Keys that wait for work: each at most once, never two of the same at work, later ones on the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: dict[Key, None] = {}
        self._busy: dict[Key, bool] = {}
        self._later: dict[Key, tuple[float, asyncio.Task[None]]] = {}
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()

    def add(self, key: Key) -> None:
        """Make a key due now; one that is at work comes again when it is done."""
        if key in self._busy:
            self._busy[key] = True
        else:
            self._ready[key] = None
            self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Make a key due after twin seconds; the earlier of two moments stands."""
        due = twin_seconds(self._clock) + seconds
        old = self._later.get(key)
        if old is not None and old[0] <= due:
            return
        if old is not None:
            old[1].cancel()
        self._later[key] = (due, asyncio.create_task(self._wait(key, seconds)))

    async def get(self) -> Key:
        """Wait for a key and mark it as being at work."""
        await asyncio.sleep(0)
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key = next(iter(self._ready))
        del self._ready[key]
        self._busy[key] = False
        return key

    def done(self, key: Key, *, after: float | None = None) -> None:
        """End the work on a key; `after` makes it due again."""
        self._failures.pop(key, None)
        self._release(key)
        if after is not None:
            self.add_after(key, after)

    def failed(self, key: Key) -> float:
        """End the work on a key that failed; return the twin seconds until the next try."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        wait = float(min(LAST_RETRY, FIRST_RETRY * 2 ** min(count - 1, 10)))
        self._busy[key] = False
        self._release(key)
        self.add_after(key, wait)
        return wait

    def close(self) -> None:
        """Cancel what waits for its moment."""
        for _, task in self._later.values():
            task.cancel()
        self._later.clear()

    def _release(self, key: Key) -> None:
        if self._busy.pop(key, False):
            self.add(key)

    async def _wait(self, key: Key, seconds: float) -> None:
        await self._clock.sleep(max(0.0, seconds))
        self._later.pop(key, None)
        self.add(key)


class Dispatcher:
    """One watch over the union of what the controllers watch, handed on to each of them."""

    def __init__(self, api: Api, controllers: Sequence[Controller]) -> None:
        self._api = api
        self._takers: dict[str, list[Controller]] = {}
        for controller in controllers:
            for resource in controller.watches:
                self._takers.setdefault(resource, []).append(controller)

    async def run(self) -> None:
        """Hand on events until cancelled."""
        async for event in self._api.watch(list(self._takers)):
            for controller in self._takers[event.resource]:
                controller.take(event)


def launch(api: Api, controllers: Sequence[Controller]) -> list[asyncio.Task[None]]:
    """Start controllers as tasks on the running loop: one for their common watch, one for each of them."""
    tasks = [spawn(Dispatcher(api, controllers).run(), "dispatcher")]
    return tasks + [spawn(c.run(), c.name) for c in controllers]


def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start a task whose failure is logged rather than lost."""
    task = asyncio.create_task(work, name=f"controller {name}")
    task.add_done_callback(_report)
    return task


def _report(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logging.getLogger(__package__).error("%s ended", task.get_name(), exc_info=error)
