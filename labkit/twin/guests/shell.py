"""The shell of a guest: lists, `&&`, `||`, pipes, redirections and assignments, for what labkit sends.

No substitutions, loops or functions: a line that needs one is refused as a syntax error, never half-understood.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labkit.twin.guests.commands import basic, machine, packages, paths, systemd  # noqa: F401  # they register
from labkit.twin.guests.commands.registry import COMMANDS, Run, Stdin
from labkit.twin.guests.result import Result, complain

if TYPE_CHECKING:
    from labkit.twin.guests.guest import Guest

_OPERATORS = frozenset({"&&", "||", ";", "|", "\n", ";\n"})
_REDIRECTIONS = frozenset({">", ">>", "<", ">&", "&>"})
_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+|\?))")
_MARKS = {"$": "\ue000", "`": "\ue001"}
_BUILT_IN = frozenset({"export", "set", "cd", "exit", "exec", ":"})


@dataclass
class _Simple:
    """One command of a line: assignments, words, and where its streams go."""

    assignments: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    redirections: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class Session:
    """What lasts from one command of a line to the next."""

    guest: Guest
    user: str
    env: dict[str, str]
    stdin: Stdin
    status: int = 0
    ended: bool = False
    strict: bool = False
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)


async def run_line(
    guest: Guest, line: str, *, user: str, stdin: bytes | Stdin = b"", env: Mapping[str, str] | None = None
) -> Result:
    """Run a line (or several) of shell."""
    session = Session(guest, user, _environment(user, env), _input(stdin))
    await run_in(session, line)
    return Result(session.status, bytes(session.out), bytes(session.err))


async def run_words(
    guest: Guest, words: list[str], *, user: str, stdin: bytes | Stdin = b"", env: Mapping[str, str] | None = None
) -> Result:
    """Run a program without a shell."""
    name = words[0].rpartition("/")[2]
    function = guest.commands.get(name) or COMMANDS.get(name)
    if function is None:
        return complain(f"bash: line 1: {words[0]}: command not found", 127)
    run = Run(guest, name, words[1:], user, _environment(user, env), _input(stdin))
    try:
        return await function(run)
    except OSError as exc:
        place = f" '{exc.filename}'" if exc.filename else ""
        return complain(f"{name}:{place} {exc.strerror}", 1)


async def run_in(session: Session, text: str) -> None:
    """Run lines of shell in a session."""
    try:
        chains = _chains(_split(text))
    except ValueError as exc:
        session.status = 2
        session.err += f"bash: -c: syntax error: {exc}\n".encode()
        return
    for operator, pipeline in chains:
        if session.ended:
            return
        if (operator == "&&" and session.status != 0) or (operator == "||" and session.status == 0):
            continue
        if operator not in {"&&", "||"} and session.strict and session.status != 0:
            return
        await _run_pipeline(session, pipeline)


def _environment(user: str, env: Mapping[str, str] | None) -> dict[str, str]:
    home = "/root" if user == "root" else f"/home/{user}"
    return {"HOME": home, "USER": user, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/bin:/bin", **(env or {})}


def _input(stdin: bytes | Stdin) -> Stdin:
    if not isinstance(stdin, bytes):
        return stdin

    async def read() -> bytes:
        return stdin

    return read


def _split(text: str) -> list[str]:
    text = _protect(text)
    if "$(" in text or "`" in text:
        raise ValueError("substitutions are not known to this shell")
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="&|;<>\n")
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t\r", "", True
    words: list[str] = []
    for word in lexer:
        words.extend(["\n"] if word.strip("\n;") == "" and "\n" in word else [word])
    return words


def _protect(text: str) -> str:
    """Put marks in place of what single quotes and backslashes take the meaning of."""
    out, quote, escaped = [], "", False
    for letter in text:
        literal = escaped or quote == "'"
        out.append(_MARKS.get(letter, letter) if literal else letter)
        escaped = letter == "\\" and not literal
        if letter == quote and not escaped and not (literal and quote != "'"):
            quote = ""
        elif letter in "'\"" and not quote and not literal:
            quote = letter
    return "".join(out)


def _chains(words: list[str]) -> list[tuple[str, list[_Simple]]]:
    """Sort words into (operator before it, commands joined by pipes)."""
    chains: list[tuple[str, list[_Simple]]] = []
    operator, pipeline = ";", [_Simple()]
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if word.startswith("#") and not pipeline[-1].words:
            while waiting and waiting[-1] != "\n":
                waiting.pop()
        elif word == "|":
            pipeline.append(_Simple())
        elif word not in _OPERATORS:
            _take(pipeline[-1], word, waiting)
        elif pipeline != [_Simple()]:
            chains.append((operator, pipeline))
            operator, pipeline = word, [_Simple()]
        elif word in {"&&", "||"}:
            raise ValueError(f"near unexpected token `{word}'")
    if pipeline != [_Simple()]:
        chains.append((operator, pipeline))
    return chains


def _take(simple: _Simple, word: str, waiting: list[str]) -> None:
    """Add one word to a command: a redirection, an assignment before it, or a word of it."""
    if word in _REDIRECTIONS:
        _redirect(simple, word, waiting)
    elif set(word) <= set("&|;<>"):
        raise ValueError(f"near unexpected token `{word}'")
    elif not simple.words and _ASSIGNMENT.match(word):
        name, _, value = word.partition("=")
        simple.assignments[name] = value
    else:
        simple.words.append(word)


def _redirect(simple: _Simple, operator: str, waiting: list[str]) -> None:
    if not waiting:
        raise ValueError("near unexpected token `newline'")
    stream = "0" if operator == "<" else "1"
    if simple.words and simple.words[-1] in {"1", "2"} and operator != "<":
        stream = simple.words.pop()
    simple.redirections.append((stream, operator, waiting.pop()))


async def _run_pipeline(session: Session, pipeline: list[_Simple]) -> None:
    stdin = session.stdin
    for number, simple in enumerate(pipeline):
        result = await _run_simple(session, simple, stdin)
        session.err += result.err
        session.status = result.status
        if number == len(pipeline) - 1:
            session.out += result.out
        else:
            stdin = _input(result.out)


async def _run_simple(session: Session, simple: _Simple, stdin: Stdin) -> Result:
    words = [_expand(session, word) for word in simple.words]
    assignments = {name: _expand(session, value) for name, value in simple.assignments.items()}
    try:
        for _, operator, path in simple.redirections:
            if operator == "<":
                stdin = _input(session.guest.files.read(_path(session, path), session.user))
        if not words:
            session.env.update(assignments)
            result = Result()
        elif words[0] in _BUILT_IN:
            result = _built_in(session, words)
        else:
            env = {**session.env, **assignments}
            result = await run_words(session.guest, words, user=session.user, stdin=stdin, env=env)
        return _store(session, simple, result)
    except OSError as exc:
        return complain(f"bash: {exc.filename}: {exc.strerror}", 1)


def _built_in(session: Session, words: list[str]) -> Result:
    name, args = words[0], words[1:]
    if name == "export":
        session.env.update({word.partition("=")[0]: word.partition("=")[2] for word in args if "=" in word})
    elif name == "set":
        session.strict = session.strict or any(word.startswith("-") and "e" in word for word in args)
    elif name == "cd":
        target = _path(session, args[0] if args else session.env["HOME"])
        if not session.guest.files.is_dir(target):
            return complain(f"bash: cd: {target}: No such file or directory", 1)
        session.env["PWD"] = target
    elif name == "exit":
        session.ended = True
        return Result(int(args[0]) if args else session.status)
    return Result()


def _store(session: Session, simple: _Simple, result: Result) -> Result:
    """Send the streams of a command where its redirections say."""
    out, err = result.out, result.err
    for stream, operator, path in simple.redirections:
        if operator == ">&" and (stream, path) == ("2", "1"):
            out, err = out + err, b""
        elif operator == ">&" and path == "2":
            out, err = b"", err + out
        elif operator == "&>":
            _write(session, path, out + err, append=False)
            out, err = b"", b""
        elif operator in {">", ">>"}:
            _write(session, path, err if stream == "2" else out, append=operator == ">>")
            out, err = (out, b"") if stream == "2" else (b"", err)
    return Result(result.status, out, err)


def _write(session: Session, path: str, data: bytes, *, append: bool) -> None:
    if path != "/dev/null":
        session.guest.files.write(_path(session, path), data, session.user, append=append)


def _path(session: Session, word: str) -> str:
    return Run(session.guest, "", [], session.user, session.env).path(word)


def _expand(session: Session, word: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return str(session.status) if name == "?" else session.env.get(name, "")

    word = _VARIABLE.sub(value, word)
    for letter, mark in _MARKS.items():
        word = word.replace(mark, letter)
    return word
