"""A schedule as a marked block of a user's crontab, which can be put there again and taken out. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from labkit.errors import InputError, Mistake
from labkit.rules.scheduling import Job

_LONGEST = 990
"""The most characters of a command that every cron takes."""


def crontab_block(job: Job) -> str:
    """Return the lines of a schedule between two marks.

    Raises:
        InputError: a value has a line break, or the command is longer than cron takes.
    """
    run, check = _command(job, job.run_words("cron")), _command(job, job.check_words)
    lines = [_line(job.when.cron, f"{_prepared(job)}{run} >/dev/null || {check}")]
    if job.deliver_at is not None:
        hour, minute = job.deliver_at
        lines.append(_line(f"{minute} {hour} * * *", f"{_prepared(job)}{_command(job, job.deliver_words)} >/dev/null"))
    first, last = _marks(job.lab, job.name)
    return "\n".join([first, *lines, last, ""])


def put_block(crontab: str, job: Job) -> str:
    """Return a crontab with the block of a schedule in place of the one that it had, or at its end."""
    lines = _lines(crontab)
    found = _place(lines, job.lab, job.name)
    block = _lines(crontab_block(job))
    if found is None:
        return "\n".join([*lines, *block, ""])
    return "\n".join([*lines[: found[0]], *block, *lines[found[1] :], ""])


def remove_block(crontab: str, lab: str, name: str) -> str:
    """Return a crontab without the block of a schedule; the same text when there is none."""
    lines = _lines(crontab)
    found = _place(lines, lab, name)
    if found is None:
        return crontab
    return "".join(f"{line}\n" for line in [*lines[: found[0]], *lines[found[1] :]])


def _lines(text: str) -> list[str]:
    """The lines of a text; what Python takes for line ends beside the newline is none to cron."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _place(lines: Sequence[str], lab: str, name: str) -> tuple[int, int] | None:
    """Where the block of a schedule begins and ends.

    Raises:
        InputError: it has no end: a person was at it, and nobody knows what is theirs.
    """
    first, last = _marks(lab, name)
    if first not in lines:
        return None
    start = lines.index(first)
    if last not in lines[start:]:
        mistake = Mistake("crontab", start + 1, 1, "", f"the line `{last}` below `{first}`", "none")
        raise InputError([mistake], next_step="mend it: crontab -e")
    return start, lines.index(last, start) + 1


def _marks(lab: str, name: str) -> tuple[str, str]:
    return f"# BEGIN labkit {lab}/{name}", f"# END labkit {lab}/{name}"


def _prepared(job: Job) -> str:
    """Go to the folder; read the variables as the shell does, when there are any."""
    words = f"cd {shlex.quote(job.folder)} && "
    if not job.env_file:
        return words
    file = shlex.quote(job.env_file)
    return f"{words}set -a && {{ [ ! -r {file} ] || . {file}; }} && set +a && "


def _command(job: Job, words: Sequence[str]) -> str:
    return shlex.join((*job.program, *words))


def _line(times: str, command: str) -> str:
    if "\n" in command or "\r" in command:
        mistake = Mistake("schedule", 0, 0, "", "values without line breaks for cron", "one with a line break")
        raise InputError([mistake], next_step="use --as systemd")
    # cron takes a percent sign for the end of the command, wherever the shell's quotes are.
    escaped = command.replace("%", "\\%")
    if len(escaped) > _LONGEST:
        mistake = Mistake(
            "schedule", 0, 0, "", f"a command of at most {_LONGEST} characters for cron", str(len(escaped))
        )
        raise InputError([mistake], next_step="use --as systemd")
    return f"{times} {escaped}"
