"""Tell people what got worse or better: what they know is remembered by place, so that nothing is told twice.

A report calls `notify` in one line. What falls into the quiet hours is kept; `deliver` tells it afterwards, unless
it has passed by then.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from labkit.lab import Lab
from labkit.lab.models import Messages
from labkit.plan import Finding
from labkit.redaction import redact
from labkit.rules.messages import Decision, Message, counts, decide
from labkit.systems.access import Access
from labkit.systems.messages import LIMIT, Delivery, send_to, undelivered

_FOLDER = "messages"


@dataclass(frozen=True)
class Sent:
    """What became of a message.

    Attributes:
        message: what was told or is held back; None when there is nothing to tell.
        deliveries: one for every place that something was sent to.
        held: the places that get it after the quiet hours.
        configured: whether the lab file names any place.
    """

    message: Message | None = None
    deliveries: tuple[Delivery, ...] = ()
    held: tuple[str, ...] = ()
    configured: bool = True

    @property
    def findings(self) -> tuple[Finding, ...]:
        """A finding for every place that did not take the message."""
        return undelivered(self.deliveries)

    def __str__(self) -> str:
        if not self.configured:
            return "nobody is told: the lab file names no messages"
        lines = [str(delivery) for delivery in self.deliveries]
        lines += [f"{reference}: held back until the quiet hours are over" for reference in self.held]
        return "\n".join(lines) or "nothing got worse or better: nobody is told"

    def _repr_html_(self) -> str:
        from labkit.report.html import Note  # noqa: PLC0415  # display only

        return Note(str(self))._repr_html_()


@dataclass(frozen=True)
class Memory:
    """What is remembered of one topic.

    Attributes:
        told: by place, the findings that it knows of.
        latest: the last findings that there were, with their title and page.
    """

    told: Mapping[str, tuple[Finding, ...]]
    latest: tuple[Finding, ...] = ()
    title: str = ""
    page: str = ""


def notify(
    lab: Lab,
    access: Access,
    previous: Sequence[Finding],
    current: Sequence[Finding],
    *,
    title: str = "",
    html: Path | None = None,
    topic: str = "report",
    now: datetime | None = None,
    limit: float = LIMIT,
) -> Sent:
    """Tell the places of the lab file what got worse or better; never raises for what goes wrong at one of them.

    Args:
        lab: names the places, and when they are told.
        access: for the secrets, and the folder in which it is remembered what each place knows.
        previous: the findings of the report before; only for a place that has never been told anything.
        current: the findings now.
        title: what the message is about, for example the lab's name.
        html: a page, attached where the service takes attachments.
        topic: findings are compared with those of the same topic only.
        now: the moment; the present one when None.
        limit: seconds that each place has.
    """
    if lab.messages is None:
        return Sent(configured=False)
    with _memory(access, topic) as path:
        memory = _load(path)
        page = str(html) if html is not None else ""
        fresh = Memory(memory.told, tuple(current), title or lab.name, page)
        return _tell(lab.messages, access, fresh, previous, path, now=now, limit=limit)


def deliver(lab: Lab, access: Access, *, now: datetime | None = None, limit: float = LIMIT) -> Sent:
    """Tell what was held back, and what a place did not take, as far as it still holds."""
    if lab.messages is None:
        return Sent(configured=False)
    found = []
    for file in sorted((access.state / _FOLDER).glob("*.json")):
        with _memory(access, file.stem) as path:
            found.append(_tell(lab.messages, access, _load(path), (), path, now=now, limit=limit))
    messages = [one.message for one in found if one.message is not None]
    return Sent(
        messages[0] if messages else None,
        tuple(delivery for one in found for delivery in one.deliveries),
        tuple(reference for one in found for reference in one.held),
    )


def _tell(
    settings: Messages,
    access: Access,
    memory: Memory,
    previous: Sequence[Finding],
    path: Path,
    *,
    now: datetime | None,
    limit: float,
) -> Sent:
    moment = now or datetime.now().astimezone()
    decisions = {
        one: decide(memory.told.get(_key(one), tuple(previous)), memory.latest, moment, settings, title=memory.title)
        for one in settings.to
    }
    page = Path(memory.page) if memory.page else None
    deliveries: list[Delivery] = []
    for message, places in _by_message(decisions):
        deliveries += send_to(access, places, message.title, message.body, page=page, limit=limit)
    failed = {one.reference for one in deliveries if not one.ok}
    held = tuple(one for one, decision in decisions.items() if decision.action == "hold")
    known = tuple(one for one in memory.latest if counts(one, settings))
    told = {
        _key(one): memory.told.get(_key(one), tuple(previous)) if one in failed or one in held else known
        for one in settings.to
    }
    _store(path, Memory(told, memory.latest, memory.title, memory.page))
    first = next((decision.message for decision in decisions.values() if decision.message), None)
    return Sent(first, tuple(deliveries), held)


def _by_message(decisions: Mapping[str, Decision]) -> list[tuple[Message, list[str]]]:
    """The places that get the same text, so that they are told side by side."""
    found: dict[Message, list[str]] = {}
    for reference, decision in decisions.items():
        if decision.action == "send" and decision.message is not None:
            found.setdefault(decision.message, []).append(reference)
    return list(found.items())


def _key(reference: str) -> str:
    return hashlib.sha256(reference.encode()).hexdigest()[:16]


@contextmanager
def _memory(access: Access, topic: str) -> Iterator[Path]:
    """Hold the memory of a topic: two reports at once would tell the same thing twice."""
    folder = access.state / _FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / f"{topic}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / f"{topic}.json"


def _load(path: Path) -> Memory:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        told = {key: _findings(rows) for key, rows in data["told"].items()}
        return Memory(told, _findings(data["latest"]), str(data["title"]), str(data["page"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Memory({})  # a file that was cut off is as good as none: everything is told once more


def _findings(rows: Sequence[Mapping[str, object]]) -> tuple[Finding, ...]:
    return tuple(Finding.model_validate(row) for row in rows)


def _store(path: Path, memory: Memory) -> None:
    data = {
        "told": {key: [one.model_dump(mode="json") for one in some] for key, some in memory.told.items()},
        "latest": [one.model_dump(mode="json") for one in memory.latest],
        "title": memory.title,
        "page": memory.page,
    }
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".memory-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(redact(json.dumps(data)))
    Path(name).replace(path)
