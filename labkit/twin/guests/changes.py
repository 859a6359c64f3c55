"""Tell which commands changed a guest: whoever runs one opens a note, and everything that changes writes on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Note:
    """Whether something was changed."""

    changed = False


_current: ContextVar[Note | None] = ContextVar("changes", default=None)


def note_change() -> None:
    """Write down that the guest was changed by whoever runs now; the guest's own work is nobody's."""
    note = _current.get()
    if note is not None:
        note.changed = True


@contextmanager
def watched() -> Iterator[Note]:
    """Collect the changes made within the block and the tasks that it starts."""
    note = Note()
    token = _current.set(note)
    try:
        yield note
    finally:
        _current.reset(token)


@contextmanager
def unwatched() -> Iterator[None]:
    """Let what the guest starts on its own count for nobody."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)
