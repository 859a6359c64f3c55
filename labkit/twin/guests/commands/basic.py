"""Commands about text, and those that run other commands."""

from __future__ import annotations

import hashlib
import re

from labkit.twin.guests.commands.registry import SCRIPTS, Run, command
from labkit.twin.guests.result import Result, complain, say


@command("true")
async def _true(_run: Run) -> Result:
    return Result()


@command("false")
async def _false(_run: Run) -> Result:
    return Result(1)


@command("echo")
async def _echo(run: Run) -> Result:
    newline = run.args[:1] != ["-n"]
    text = " ".join(run.args if newline else run.args[1:])
    return Result(0, text.encode() + (b"\n" if newline else b""))


@command("printf")
async def _printf(run: Run) -> Result:
    form, *values = run.args or [""]
    text = form.replace("\\n", "\n").replace("\\t", "\t")
    parts = re.split(r"%[sdbq]", text)
    if len(parts) == 1:
        return Result(0, text.encode())
    rounds = [values[n : n + len(parts) - 1] for n in range(0, max(len(values), 1), len(parts) - 1)]
    done = (
        "".join(part + (row[n] if n < len(row) else "") for n, part in enumerate(parts[:-1])) + parts[-1]
        for row in rounds
    )
    return Result(0, "".join(done).encode())


@command("cat")
async def _cat(run: Run) -> Result:
    out, err = b"", b""
    for word in run.words or ["-"]:
        try:
            out += await run.stdin() if word == "-" else run.guest.files.read(run.path(word), run.user)
        except OSError as exc:
            err += f"cat: {word}: {exc.strerror}\n".encode()
    return Result(1 if err else 0, out, err)


@command("head", "tail")
async def _head_or_tail(run: Run) -> Result:
    first, taking = run.name == "head", ("-n", "--lines", "-c", "--bytes")
    most = run.value("-c", "--bytes")
    count = int(most or run.value("-n", "--lines", default="10").lstrip("+-") or 10)
    words = run.operands(*taking)
    out, err = [], b""
    for word in words or ["-"]:
        try:
            data = await run.stdin() if word == "-" else run.guest.files.read(run.path(word), run.user)
        except OSError as exc:
            err += f"{run.name}: cannot open '{word}' for reading: {exc.strerror}\n".encode()
            continue
        title = f"==> {word} <==\n".encode() if len(words) > 1 or run.has("-v") else b""
        lines = data.splitlines(keepends=True)
        part = b"".join(lines[:count] if first else lines[-count:])
        out.append(title + ((data[:count] if first else data[-count:]) if most else part))
    return Result(1 if err else 0, b"\n".join(out) if len(out) > 1 else b"".join(out), err)


@command("wc")
async def _wc(run: Run) -> Result:
    data = await _given(run)
    return say(str(data.count(b"\n") if run.has("-l") else len(data)))


@command("grep")
async def _grep(run: Run) -> Result:
    pattern, *files = run.words
    data = b"".join([run.guest.files.read(run.path(word), run.user) for word in files]) or await run.stdin()
    flags = re.IGNORECASE if run.has("-i") else 0
    wanted = re.compile((re.escape(pattern) if run.has("-F") else pattern).encode(), flags)
    found = [line for line in data.splitlines() if bool(wanted.search(line)) is not run.has("-v")]
    out = f"{len(found)}\n".encode() if run.has("-c") else b"".join(line + b"\n" for line in found)
    return Result(0 if found else 1, b"" if run.has("-q") else out)


@command("tee")
async def _tee(run: Run) -> Result:
    data = await run.stdin()
    for word in run.words:
        if word != "/dev/null":
            run.guest.files.write(run.path(word), data, run.user, append=run.has("-a"))
    return Result(0, data)


@command("sha256sum", "md5sum", "sha512sum")
async def _checksum(run: Run) -> Result:
    algorithm = run.name.removesuffix("sum")
    if run.has("-c", "--check"):
        return await _verify(run, algorithm)
    lines = [f"{_digest(run, algorithm, word)}  {word}\n" for word in run.words]
    return Result(0, "".join(lines).encode())


@command("sudo")
async def _sudo(run: Run) -> Result:
    """Run the rest as root: cloud-init gave the user that right, without a password."""
    user, words, env = "root", list(run.args), dict(run.env)
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in {"-u", "-g"} and words:
            user = words.pop(0) if option == "-u" else user
        if option == "--":
            break
    while words and re.match(r"^\w+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    if not words:
        return complain("usage: sudo command", 1)
    env.update(HOME="/root" if user == "root" else f"/home/{user}", USER=user)
    from labkit.twin.guests.shell import run_words  # noqa: PLC0415  # the shell knows the commands

    return await run_words(run.guest, words, user=user, stdin=run.stdin, env=env)


@command("env")
async def _env(run: Run) -> Result:
    words, env = list(run.args), dict(run.env)
    while words and "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    if not words:
        return say("\n".join(f"{name}={value}" for name, value in env.items()))
    from labkit.twin.guests.shell import run_words  # noqa: PLC0415  # the shell knows the commands

    return await run_words(run.guest, words, user=run.user, stdin=run.stdin, env=env)


@command("timeout", "nice", "nohup", "setsid")
async def _wrapper(run: Run) -> Result:
    from labkit.twin.guests.shell import run_words  # noqa: PLC0415  # the shell knows the commands

    words = list(run.args)
    while words and (words[0].startswith("-") or (run.name == "timeout" and re.match(r"^[\d.]+[smh]?$", words[0]))):
        words.pop(0)
    return await run_words(run.guest, words, user=run.user, stdin=run.stdin, env=run.env)


@command("sh", "bash")
async def _shell(run: Run) -> Result:
    """Run `-c TEXT`, a file, or what comes on standard input; known scripts are acted out."""
    from labkit.twin.guests.shell import run_line  # noqa: PLC0415  # the shell knows the commands

    args = list(run.args)
    text, from_input = "", False
    while args and args[0].startswith("-"):
        option = args.pop(0)
        if option == "--":
            break
        if option.endswith("c") and args:
            text = args.pop(0)
            break
        from_input = from_input or "s" in option.strip("-")
    if not text and args and not from_input:
        text = run.guest.files.read(run.path(args.pop(0)), run.user).decode("utf-8", "replace")
    elif not text:
        text = (await run.stdin()).decode("utf-8", "replace")
    args = args[1:] if args[:1] == ["-"] else args
    for marker, act in SCRIPTS:
        if marker in text.encode():
            return await act(Run(run.guest, run.name, args, run.user, dict(run.env), run.stdin, text.encode()))
    return await run_line(run.guest, text, user=run.user, stdin=run.stdin, env=run.env)


@command("sleep")
async def _sleep(run: Run) -> Result:
    await run.guest.world.clock.sleep(float(run.words[0]) if run.words else 0)
    return Result()


async def _given(run: Run, *with_value: str) -> bytes:
    words = run.operands(*with_value)
    if not words:
        return await run.stdin()
    return b"".join(run.guest.files.read(run.path(word), run.user) for word in words)


def _digest(run: Run, algorithm: str, word: str) -> str:
    return hashlib.new(algorithm, run.guest.files.read(run.path(word), run.user), usedforsecurity=False).hexdigest()


async def _verify(run: Run, algorithm: str) -> Result:
    text = (await _given(run)).decode()
    out, bad = [], 0
    for line in text.splitlines():
        digest, _, name = line.partition("  ")
        if run.has("--ignore-missing") and not run.guest.files.exists(run.path(name)):
            continue
        good = _digest(run, algorithm, name) == digest
        bad += not good
        out.append(f"{name}: {'OK' if good else 'FAILED'}")
    return Result(1 if bad or not out else 0, ("\n".join(out) + "\n").encode())
