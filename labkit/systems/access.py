"""How the systems of a lab are reached: addresses, secrets, trust and time.

On the lab, everything is what the lab file says. On the twin, the same names lead to loopback (`connect_to`),
the same references to the twin's own secrets, and time runs faster. Systems take an `Access` and cannot tell.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from labkit.errors import LabError, StepFailed, SystemDown
from labkit.lab.models import Tls
from labkit.secrets import Secrets

T = TypeVar("T")
On = Literal["twin", "lab"]
_LEAST_WAIT = 8.0
"""Real seconds."""


@dataclass(frozen=True)
class Clock:
    """The time of a lab: one of its seconds takes `scale` real seconds (1 on a real lab)."""

    scale: float = 1.0

    def sleep(self, seconds: float) -> None:
        """Sleep that many lab seconds."""
        time.sleep(seconds * self.scale)

    def monotonic(self) -> float:
        """Lab seconds since some fixed moment."""
        return time.monotonic() / self.scale

    def real(self, seconds: float, *, least: float = 10.0) -> float:
        """Turn lab seconds into real ones for a time limit, never below `least` real seconds."""
        return max(seconds * self.scale, min(least, seconds))


class Tally:
    """How often each `host:port` was asked; safe to use from many threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._guard = threading.Lock()

    def add(self, host: str, port: int) -> None:
        """Count one request."""
        with self._guard:
            self._counts[f"{host}:{port}"] += 1

    def view(self) -> Counter[str]:
        """Return the counts so far."""
        with self._guard:
            return Counter(self._counts)


@dataclass(frozen=True)
class Access:
    """Everything that a system needs beside the lab file to talk to the outside.

    Attributes:
        on: `twin` or `lab`; for messages and files only, systems must not branch on it.
        secrets: resolves references.
        connect: entries `{"host:port": "host:port"}`, as curl's --connect-to has them.
        connect_file: a JSON file of the same form that may change while a run goes on, or None.
        closed: refuse every address without an entry: on the twin nothing may leave the machine.
        trust: how to verify the certificate of `host:port`, in place of what the lab file says.
        clock: lab time.
        state: a folder for what must outlast a run: known hosts, evidence.
        tally: counts the requests: of an HTTP API each one, of others each connection and SSH command.
        mounts: the folder where a backup target is mounted, by its URL without options; the lab file names one else.
    """

    on: On
    secrets: Secrets
    state: Path
    clock: Clock = Clock()
    connect: Mapping[str, str] = field(default_factory=dict)
    connect_file: Path | None = None
    closed: bool = False
    trust: Mapping[str, Tls] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally, compare=False)
    mounts: Mapping[str, Path] = field(default_factory=dict)

    def route(self, host: str, port: int) -> tuple[str, int]:
        """Return the address to connect to for `host:port`; raise SystemDown when it is closed."""
        name = f"{host}:{port}"
        self.tally.add(host, port)
        target = self.connect.get(name)
        if target is None and self.connect_file is not None:
            target = _entries(self.connect_file).get(name)
        if target is None:
            if self.closed:
                raise SystemDown(f"{name}: expected a counterpart on the twin, got none")
            return host, port
        there, _, number = target.rpartition(":")
        return there, int(number)

    def path(self, text: str) -> Path:
        """Return where a file of the user is; a closed lab has its own in `state`, away from the user's."""
        if not self.closed:
            return Path(text).expanduser()
        parts = [part for part in Path(text).parts if part not in ("~", "/", "..")]
        return self.state.joinpath("files", *parts)

    def tls(self, host: str, port: int, wanted: Tls) -> Tls:
        """Return how the certificate of `host:port` is verified."""
        return self.trust.get(f"{host}:{port}", wanted)

    def wait(
        self,
        probe: Callable[[], T | None],
        *,
        what: str,
        deadline: float,
        every: float = 2.0,
        last: Callable[[], str] = lambda: "no answer yet",
        causes: str = "",
        error: type[LabError] = StepFailed,
    ) -> T:
        """Ask `probe` until it returns something other than None.

        Args:
            probe: returns the awaited value, or None to be asked again.
            what: what is awaited, for the message.
            deadline: lab seconds after which `error` is raised; on a fast twin never so few that real programs, which
                know nothing of its time, could not do their work in them.
            every: lab seconds between two questions.
            last: says what was seen last.
            causes: likely causes and the next step, for the message.
            error: what to raise.
        """
        end = self.clock.monotonic() + self.clock.real(deadline, least=_LEAST_WAIT) / self.clock.scale
        while (value := probe()) is None:
            if self.clock.monotonic() >= end:
                raise error(f"{what}: expected within {deadline:g} s, last seen: {last()}", next_step=causes)
            self.clock.sleep(every)
        return value


def _entries(file: Path) -> Mapping[str, str]:
    """Return the entries of a file that may change at any time, or not be there yet; it is parsed once per change."""
    try:
        seen = file.stat()
    except FileNotFoundError:
        return {}
    return _parsed(file, (seen.st_mtime_ns, seen.st_ino, seen.st_size))


@lru_cache(maxsize=4)
def _parsed(file: Path, _state: tuple[int, ...]) -> Mapping[str, str]:
    entries: dict[str, str] = json.loads(file.read_text())
    return entries


class Step:
    """What an applied change may do beside its work: tell, record, and free its lane early.

    The run gives one to every change that it starts. All methods may be called from the change's own thread.
    """

    def __init__(
        self,
        *,
        say: Callable[[str, Mapping[str, object]], None] = lambda _text, _data: None,
        leave_lane: Callable[[], None] = lambda: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._say = say
        self._leave_lane = leave_lane
        self._stopping = stopping

    def say(self, text: str, **data: object) -> None:
        """Show progress and write it to the journal; `data` goes to the journal only."""
        self._say(text, data)

    def leave_lane(self) -> None:
        """Let the next change of the same lane start: the scarce part of this one is over."""
        self._leave_lane()

    @property
    def stopping(self) -> bool:
        """Whether the run wants to end (another change failed, or a person interrupted)."""
        return self._stopping()

    @contextmanager
    def during(self, text: str, **data: object) -> Iterator[None]:
        """Record the start and the end of a part of the work."""
        self.say(f"{text} ...", **data)
        yield
        self.say(f"{text}: done", **data)
