"""The error tree: catch `LabError` to catch everything that labkit raises on purpose.

LabError
├── InputError    a file or a parameter is wrong; lists every mistake      exit status 2
├── Refused       a guard said no; nothing was written                     exit status 3
│   └── NotApproved   the plan waits for a person's approval               exit status 3
├── SystemDown    a system cannot be reached or does not answer            exit status 4
├── StepFailed    a change was tried and did not succeed                   exit status 5
└── CheckFailed   a check found something at or above its threshold        exit status 1
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 change`, `2 changes`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


class LabError(Exception):
    """Say what is wrong, what was expected, what was got, and what to do next.

    Args:
        message: names the thing, the expected and the got.
        next_step: a command or a runbook that leads on; may be empty.
    """

    exit_status: ClassVar[int] = 5

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake in an input, with its place.

    `line` and `column` count from 1; both are 0 when the input is no file (a parameter).
    """

    file: str
    line: int
    column: int
    where: str
    expected: str
    got: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        subject = f" {self.where}:" if self.where else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}:{subject} expected {self.expected}, got {self.got}{hint}"


class InputError(LabError):
    """Report every mistake of an input at once."""

    exit_status = 2

    def __init__(self, mistakes: Iterable[Mistake], *, next_step: str = "") -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        head = f"{counted(len(self.mistakes), 'mistake')} in the input; nothing was started"
        super().__init__("\n".join([head, *(f"  {m}" for m in self.mistakes)]), next_step=next_step)


class Refused(LabError):
    """Report that a guard said no before anything was written."""

    exit_status = 3


class NotApproved(Refused):
    """Report that a plan waits for approval; nothing was written.

    Attributes:
        digest: the value that `approve` must have to apply exactly this plan.
    """

    def __init__(self, message: str, *, digest: str, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.digest = digest


class SystemDown(LabError):
    """Report a system that cannot be reached, refuses the credentials, or stopped answering."""

    exit_status = 4


class StepFailed(LabError):
    """Report a change that was tried and did not succeed."""

    exit_status = 5


class CheckFailed(LabError):
    """Report findings at or above the threshold that was set."""

    exit_status = 1
