"""What a command is, and the tables of all commands and known scripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labkit.twin.guests.result import Result

if TYPE_CHECKING:
    from labkit.twin.guests.guest import Guest

Stdin = Callable[[], Awaitable[bytes]]
Command = Callable[["Run"], Awaitable[Result]]


async def no_input() -> bytes:
    """Return nothing: the standard input of a command that gets none."""
    return b""


@dataclass
class Run:
    """One run of a command: where, with which words, as whom. `stdin` is read only by those who want it.

    `script` is the text of the script for a known script; its own arguments are then the `args`.
    """

    guest: Guest
    name: str
    args: list[str]
    user: str
    env: dict[str, str] = field(default_factory=dict)
    stdin: Stdin = no_input
    script: bytes = b""

    @property
    def options(self) -> list[str]:
        """The words that begin with a dash."""
        return [word for word in self.args if word.startswith("-") and word != "-"]

    @property
    def words(self) -> list[str]:
        """The other words."""
        return [word for word in self.args if not word.startswith("-") or word == "-"]

    def has(self, *options: str) -> bool:
        """Tell whether one of these options is given; single letters may stand together (`-rf`)."""
        for word in self.options:
            if word.split("=")[0] in options:
                return True
            letters = word[1:] if not word.startswith("--") else ""
            if any(option[1:] in letters for option in options if len(option) == 2):
                return True
        return False

    def value(self, *options: str, default: str = "") -> str:
        """Return the value of an option: `-n 5`, `-n5`, `--lines=5`, `--lines 5`."""
        for number, word in enumerate(self.args):
            for option in options:
                if word == option and number + 1 < len(self.args):
                    return self.args[number + 1]
                if word.startswith(option + "="):
                    return word.partition("=")[2]
                if len(option) == 2 and word.startswith(option) and len(word) > 2:
                    return word[2:]
        return default

    def operands(self, *with_value: str) -> list[str]:
        """Return the words that are neither options nor values of these options."""
        found, skip = [], False
        for word in self.args:
            if skip:
                skip = False
            elif word in with_value:
                skip = True
            elif not word.startswith("-") or word == "-":
                found.append(word)
        return found

    def path(self, word: str) -> str:
        """Return a whole path: relative ones start in the user's home, `~` is the home."""
        home = self.env.get("HOME") or ("/root" if self.user == "root" else f"/home/{self.user}")
        if word == "~" or word.startswith("~/"):
            return home + word[1:]
        return word if word.startswith("/") else f"{self.env.get('PWD', home)}/{word}"


COMMANDS: dict[str, Command] = {}
SCRIPTS: list[tuple[bytes, Command]] = []


def command(*names: str) -> Callable[[Command], Command]:
    """Make a function the command of these names."""

    def register(function: Command) -> Command:
        COMMANDS.update(dict.fromkeys(names, function))
        return function

    return register


def script(marker: bytes) -> Callable[[Command], Command]:
    """Make a function what happens when a shell is given a script that contains `marker`."""

    def register(function: Command) -> Command:
        SCRIPTS.append((marker, function))
        return function

    return register
