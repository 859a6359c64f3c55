"""The one door to subprocesses: an argument list, a time limit, allowed exit statuses, the error to raise."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import LabError, StepFailed
from labkit.redaction import redact


@dataclass(frozen=True)
class Output:
    """What a finished program left: its exit status and its two streams, unredacted bytes."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")


def run_program(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    allowed: Collection[int] = (0,),
    error: type[LabError] = StepFailed,
) -> Output:
    """Run a program to its end and return what it wrote.

    Args:
        argv: the program and its arguments; never a shell line. Secrets go by `stdin` or `env`, never here.
        timeout: seconds after which the program is killed.
        cwd: the folder to run in.
        env: the whole environment; None inherits this process's.
        stdin: bytes for standard input; None closes it.
        allowed: exit statuses that are no error.
        error: what to raise when it cannot start, takes too long or ends otherwise. Its text is redacted.
    """
    words = [str(word) for word in argv]
    shown = redact(" ".join(words))
    try:
        done = subprocess.run(  # labkit's only call of subprocess.run
            words,
            cwd=cwd,
            env=None if env is None else dict(env),
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as exc:
        raise error(f"{words[0]}: expected a program that can be run, got none") from exc
    except subprocess.TimeoutExpired as exc:
        raise error(f"{shown}: expected an end within {timeout:g} s, got none") from exc
    if done.returncode not in allowed:
        said = redact(done.stderr.decode("utf-8", "replace").strip()[-2000:])
        raise error(f"{shown}: expected exit status {_either(allowed)}, got {done.returncode}: {said}")
    return Output(done.returncode, done.stdout, done.stderr)


def start_program(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that stays; what it writes goes to `log` (appended). The caller ends it.

    `stdin` and `stdout` may be file descriptors, or subprocess.PIPE to talk with the program.
    """
    with log.open("ab") as stream:
        return subprocess.Popen(  # labkit's only call of subprocess.Popen
            [str(word) for word in argv],
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=stdin,
            stdout=stream if stdout is None else stdout,
            stderr=stream,
            start_new_session=True,
        )


def _either(statuses: Collection[int]) -> str:
    return " or ".join(str(status) for status in sorted(statuses))
