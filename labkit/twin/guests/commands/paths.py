"""Commands about files and folders."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from labkit.twin.guests.commands.registry import Run, command
from labkit.twin.guests.files import Files
from labkit.twin.guests.result import Result, complain, say


@command("mkdir")
async def _mkdir(run: Run) -> Result:
    mode = int(run.value("-m", "--mode", default="755"), 8)
    for word in run.operands("-m", "--mode"):
        if run.guest.files.exists(run.path(word)) and not run.has("-p", "--parents"):
            return complain(f"mkdir: cannot create directory ‘{word}’: File exists")
        run.guest.files.mkdir(run.path(word), run.user, parents=run.has("-p", "--parents"), mode=mode)
    return Result()


@command("rm", "rmdir", "unlink")
async def _rm(run: Run) -> Result:
    for word in run.words:
        try:
            run.guest.files.remove(run.path(word), run.user, recursive=run.has("-r", "-R") or run.name == "rmdir")
        except FileNotFoundError:
            if not run.has("-f"):
                return complain(f"rm: cannot remove '{word}': No such file or directory")
    return Result()


@command("touch")
async def _touch(run: Run) -> Result:
    for word in run.words:
        run.guest.files.write(run.path(word), b"", run.user, append=True)
    return Result()


@command("chmod")
async def _chmod(run: Run) -> Result:
    mode, *names = [word for word in run.args if word not in {"-R", "-f", "-v"}]
    for word in names:
        place = run.guest.files.locate(run.path(word))
        run.guest.files.chmod(run.path(word), _mode(mode, run.guest.files.mode(place)), run.user)
    return Result()


@command("chown")
async def _chown(run: Run) -> Result:
    owner, *names = run.words
    if run.user != "root":
        return complain(f"chown: changing ownership of '{names[0]}': Operation not permitted")
    for word in names:
        run.guest.files.chown(run.path(word), owner.partition(":")[0])
    return Result()


@command("install")
async def _install(run: Run) -> Result:
    taking = ("-m", "--mode", "-o", "--owner", "-g", "--group")
    names = run.operands(*taking)
    mode = int(run.value("-m", "--mode", default="755"), 8)
    files = run.guest.files
    if run.has("-d", "--directory"):
        for word in names:
            files.mkdir(run.path(word), run.user, parents=True, mode=mode)
        return Result()
    *sources, target = names
    for word in sources:
        data = await run.stdin() if word == "/dev/stdin" else files.read(run.path(word), run.user)
        goal = run.path(target)
        if files.is_dir(goal):
            goal = posixpath.join(goal, posixpath.basename(word))
        if run.has("-D"):
            files.mkdir(posixpath.dirname(goal), run.user, parents=True)
        files.write(goal, data, run.user, mode=mode)
        if owner := run.value("-o", "--owner"):
            files.chown(goal, owner)
    return Result()


@command("cp")
async def _cp(run: Run) -> Result:
    *sources, target = run.words
    files, whole = run.guest.files, run.has("-a", "-r", "-R", "--archive", "--recursive")
    for word in sources:
        goal = run.path(target)
        if files.is_dir(goal) and not run.has("-T"):
            goal = posixpath.join(goal, posixpath.basename(word))
        if files.is_dir(run.path(word)):
            if not whole:
                return complain(f"cp: -r not specified; omitting directory '{word}'")
            _copy_folder(run, run.path(word), goal)
            continue
        mode = files.mode(files.locate(run.path(word)))
        files.write(goal, files.read(run.path(word), run.user), run.user, mode=mode)
    return Result()


def _copy_folder(run: Run, source: str, target: str) -> None:
    """Copy a folder with all in it, owned by who copies."""
    files = run.guest.files
    files.mkdir(target, run.user, parents=True, mode=files.mode(files.locate(source)))
    for entry in sorted(files.locate(source).iterdir()):
        old, new = f"{source}/{entry.name}", f"{target}/{entry.name}"
        if entry.is_dir() and not entry.is_symlink():
            _copy_folder(run, old, new)
        else:
            files.write(new, files.read(old, run.user), run.user, mode=files.mode(entry))


@command("du")
async def _du(run: Run) -> Result:
    """Tell the bytes below folders, as `du -sb` does."""
    lines, missing = [], b""
    for word in run.words:
        place = run.guest.files.locate(run.path(word))
        if not place.exists():
            missing += f"du: cannot access '{word}': No such file or directory\n".encode()
            continue
        inside = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]
        lines.append(f"{sum(one.stat().st_size for one in inside)}\t{word}")
    return Result(1 if missing else 0, say("\n".join(lines)).out if lines else b"", missing)


@command("mv")
async def _mv(run: Run) -> Result:
    *sources, target = run.words
    for word in sources:
        run.guest.files.move(run.path(word), run.path(target), run.user)
    return Result()


@command("ln")
async def _ln(run: Run) -> Result:
    target, name = run.words
    if run.has("-f") and run.guest.files.exists(run.path(name)):
        run.guest.files.remove(run.path(name), run.user)
    run.guest.files.link(target, run.path(name), run.user)
    return Result()


@command("readlink", "realpath")
async def _realpath(run: Run) -> Result:
    files = run.guest.files
    return say("\n".join(files.name(files.locate(run.path(word))) for word in run.words))


@command("ls")
async def _ls(run: Run) -> Result:
    lines: list[str] = []
    missing: list[str] = []
    for word in run.words or ["."]:
        place = run.guest.files.locate(run.path(word))
        if not (place.exists() or place.is_symlink()):
            missing.append(f"ls: cannot access '{word}': No such file or directory\n")
            continue
        inside = place.is_dir() and not run.has("-d")
        names = sorted(entry.name for entry in place.iterdir()) if inside else [word]
        lines += [name for name in names if run.has("-a", "-A") or not name.startswith(".")]
    return Result(2 if missing else 0, say("\n".join(lines)).out, "".join(missing).encode())


@command("stat")
async def _stat(run: Run) -> Result:
    form = run.value("-c", "--format", default="%n")
    lines = []
    for word in run.operands("-c", "--format"):
        place = run.guest.files.locate(run.path(word))
        if not place.exists():
            return complain(f"stat: cannot statx '{word}': No such file or directory")
        values = {"%a": f"{run.guest.files.mode(place):o}", "%s": str(place.stat().st_size), "%n": word,
                  "%U": run.guest.files.owner(place), "%Y": str(int(place.stat().st_mtime)),
                  "%y": datetime.fromtimestamp(place.stat().st_mtime, UTC).isoformat(" "),
                  "%F": "directory" if place.is_dir() else "regular file"}  # fmt: skip
        text = form
        for key, value in values.items():
            text = text.replace(key, value)
        lines.append(text)
    return say("\n".join(lines))


@command("test", "[")
async def _test(run: Run) -> Result:
    words = run.args[:-1] if run.name == "[" else list(run.args)
    inverse = words[:1] == ["!"]
    answer = _holds(run, words[1:] if inverse else words)
    return Result(0 if answer is not inverse else 1)


def _holds(run: Run, words: list[str]) -> bool:
    match words:
        case [option, path] if option in _ABOUT_FILES:
            return run.guest.files.exists(run.path(path)) and _ABOUT_FILES[option](run.guest.files, run.path(path))
        case ["-z", text]:
            return not text
        case ["-n", text] | [text]:
            return bool(text)
        case [left, "=" | "==" | "!=" as operator, right]:
            return (left == right) is (operator != "!=")
    return False


_ABOUT_FILES: Mapping[str, Callable[[Files, str], bool]] = {
    "-e": lambda _files, _path: True,
    "-f": lambda files, path: not files.is_dir(path),
    "-d": lambda files, path: files.is_dir(path),
    "-s": lambda files, path: bool(files.read(path)),
    "-x": lambda files, path: bool(files.mode(files.locate(path)) & 0o111),
    "-r": lambda _files, _path: True,
    "-L": lambda files, path: files.locate(path, follow=False).is_symlink(),
    "-h": lambda files, path: files.locate(path, follow=False).is_symlink(),
}


def _mode(text: str, now: int) -> int:
    if text.isdecimal():
        return int(text, 8)
    for part in text.split(","):
        rest = part.lstrip("ugoa")
        who, sign = part[: len(part) - len(rest)] or "a", rest[:1]
        mask = sum({"r": 4, "w": 2, "x": 1}.get(bit, 0) for bit in rest[1:])
        for shift, letter in ((6, "u"), (3, "g"), (0, "o")):
            if letter in who or "a" in who:
                now = now | mask << shift if sign == "+" else now & ~(mask << shift)
    return now
