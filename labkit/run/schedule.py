"""Carry out the changes of a plan side by side: prerequisites first, one per lane, deletes last.

At the first failure nothing new is started, what runs is let to its end, and the outcome says what was and was
not done. An interrupt does the same; a second one gives up waiting. The failure of a change that stands apart stops
only what needs it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from labkit.plan import Action, Change
from labkit.systems.access import Step

Apply = Callable[[Change, Step], str]
Listen = Callable[["State", Change, str, Mapping[str, object]], None]


class State(StrEnum):
    """Where a change stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass
class Outcome:
    """What became of the changes: results by id, errors by id, and the ids that were never started."""

    done: dict[str, str] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)
    not_started: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether every change was carried out."""
        return not self.failed and not self.not_started and not self.interrupted


class Scheduler:
    """Run changes in threads, each as soon as its prerequisites and its lane allow."""

    def __init__(
        self, changes: Iterable[Change], apply: Apply, listen: Listen, widths: Mapping[str, int] | None = None
    ) -> None:
        self._changes = {change.id: change for change in changes}
        self._apply = apply
        self._listen = listen
        self._widths = widths or {}
        self._states = dict.fromkeys(self._changes, State.WAITING)
        self._lanes: dict[str, set[str]] = {}
        self._outcome = Outcome()
        self._turn = threading.Condition()
        self._stopping = False

    def run(self) -> Outcome:
        """Carry out all changes and return what became of them."""
        threads: list[threading.Thread] = []
        try:
            with self._turn:
                while self._start_ready(threads):
                    self._turn.wait()
        except KeyboardInterrupt:
            self._outcome.interrupted = True
            with self._turn:
                self._stopping = True
                self._turn.notify_all()
        for thread in threads:
            thread.join()
        self._outcome.not_started = tuple(i for i, s in self._states.items() if s is State.WAITING)
        return self._outcome

    def _start_ready(self, threads: list[threading.Thread]) -> bool:
        """Start what can start; return whether anything is still to be awaited."""
        if not self._stopping:
            for change in self._ready():
                self._states[change.id] = State.RUNNING
                if change.lane:
                    self._lanes.setdefault(change.lane, set()).add(change.id)
                thread = threading.Thread(target=self._work, args=(change,), name=change.id, daemon=True)
                threads.append(thread)
                thread.start()
        return any(state is State.RUNNING for state in self._states.values())

    def _ready(self) -> Iterable[Change]:
        """Yield the changes that may start now, looking at the lanes again after each."""
        others_done = all(
            self._states[change.id] is State.DONE
            for change in self._changes.values()
            if change.action is not Action.DELETE
        )
        for change in self._changes.values():
            if self._states[change.id] is not State.WAITING:
                continue
            if change.action is Action.DELETE and not others_done:
                continue
            if any(self._states[need] is not State.DONE for need in change.needs):
                continue
            if not all(self._has_ended(name) for name in change.follows):
                continue
            if change.lane and len(self._lanes.get(change.lane, ())) >= self._width(change):
                continue
            yield change

    def _width(self, change: Change) -> int:
        return self._widths.get(change.lane, change.width)

    def _has_ended(self, name: str) -> bool:
        """Whether a change was done, has failed, or will never start because something that it needs failed."""
        state = self._states[name]
        return state in (State.DONE, State.FAILED) or (state is State.WAITING and self._is_lost(name))

    def _is_lost(self, name: str) -> bool:
        change = self._changes[name]
        return any(
            self._states[need] is State.FAILED or (self._states[need] is State.WAITING and self._is_lost(need))
            for need in change.needs
        )

    def _work(self, change: Change) -> None:
        step = Step(
            say=lambda text, data: self._listen(State.RUNNING, change, text, data),
            leave_lane=lambda: self._leave(change),
            stopping=lambda: self._stopping,
        )
        self._listen(State.RUNNING, change, "", {})
        try:
            result = self._apply(change, step)
        except Exception as exc:  # noqa: BLE001  # kept in the outcome: the other changes run to their end
            self._listen(State.FAILED, change, str(exc), {"error": type(exc).__name__})
            self._end(change, State.FAILED, error=exc)
        else:
            self._listen(State.DONE, change, result, {})
            self._end(change, State.DONE, result=result)

    def _leave(self, change: Change) -> None:
        with self._turn:
            self._lanes.get(change.lane, set()).discard(change.id)
            self._turn.notify_all()

    def _end(self, change: Change, state: State, *, result: str = "", error: Exception | None = None) -> None:
        with self._turn:
            self._states[change.id] = state
            self._lanes.get(change.lane, set()).discard(change.id)
            if error is None:
                self._outcome.done[change.id] = result
            else:
                self._outcome.failed[change.id] = error
                self._stopping = self._stopping or not change.apart
            self._turn.notify_all()
