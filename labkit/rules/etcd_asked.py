"""The parameters of restore-etcd, checked. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from labkit.errors import InputError, Mistake
from labkit.lab import Lab
from labkit.rules.restore_choice import parse_moment, show_moment


@dataclass(frozen=True)
class Asked:
    """The parameters of a run, checked.

    Attributes:
        snapshot: a name, a path, `newest`, `new`, or empty.
        as_of: the moment that the state is wanted of.
        server: the server to begin anew on; chosen when empty.
        replace: the servers whose data may give way.
    """

    snapshot: str = ""
    as_of: datetime | None = None
    server: str = ""
    replace: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether a restore was asked for at all."""
        return bool(self.snapshot) or self.as_of is not None

    def __str__(self) -> str:
        return self.snapshot or (f"the newest up to {show_moment(self.as_of)}" if self.as_of else "what is needed")


def check_asked(
    lab: Lab, *, snapshot: str = "", restore_as_of: str = "", server: str = "", replace: Iterable[str] = ()
) -> Asked:
    """Return the parameters, checked.

    Raises:
        InputError: with every mistake.
    """
    names = [machine.name for machine in lab.servers]
    known, given = f"one of {', '.join(names)}", tuple(replace)
    mistakes = [Mistake("parameters", 0, 0, "replace", known, repr(name)) for name in given if name not in names]
    if server and server not in names:
        mistakes.append(Mistake("parameters", 0, 0, "server", known, repr(server)))
    as_of = parse_moment(restore_as_of)
    if snapshot and as_of is not None:
        expected = "either a snapshot or restore_as_of"
        mistakes.append(Mistake("parameters", 0, 0, "restore_as_of", expected, f"both, {snapshot} and {restore_as_of}"))
    if mistakes:
        raise InputError(mistakes)
    return Asked(snapshot, as_of, server, given)
