"""systemctl, journalctl and systemd-run."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from labkit.twin.guests.changes import note_change
from labkit.twin.guests.commands.registry import Run, command
from labkit.twin.guests.result import Result, complain, say
from labkit.twin.guests.units import Unit, UnitError

_CHANGES = frozenset({"start", "stop", "restart", "reload", "try-restart", "reload-or-restart", "enable", "disable",
                      "daemon-reload", "reset-failed", "mask", "unmask", "reboot", "poweroff"})  # fmt: skip
_WITH_VALUE = ("-p", "--property", "-n", "--lines", "-u", "--unit", "-o", "--output", "--since", "-t", "--state")


@command("systemctl")
async def _systemctl(run: Run) -> Result:
    action, *names = run.operands(*_WITH_VALUE) or ["list-units"]
    if action in _CHANGES and run.user != "root":
        return complain(f"Failed to {action} {' '.join(names)}: Interactive authentication required.")
    if (whole := _WHOLE.get(action)) is not None:
        return whole(run)
    units = [(name, run.guest.units.get(name)) for name in names]
    if action in _QUESTIONS:
        return _ask(run, action, units)
    return await _change(run, action, units)


def _list(run: Run) -> Result:
    wanted = "failed" if run.has("--failed") else run.value("--state")
    units = [one for one in run.guest.units.all() if wanted in {"", one.state, one.sub_state}]
    return say("\n".join(f"{one.name} loaded {one.state} {one.sub_state} {one.description}" for one in units))


def _reset_failed(run: Run) -> Result:
    """Forget how units failed; one that was made for a single run goes."""
    for name in run.operands(*_WITH_VALUE)[1:]:
        unit = run.guest.units.get(name)
        if unit is not None and unit.state == "failed" and unit.start is None:
            run.guest.units.remove(unit.name)
    return Result()


def _reboot(run: Run) -> Result:
    note_change()
    run.guest.on_reboot(run.guest)
    return Result()


def _power_off(run: Run) -> Result:
    note_change()
    run.guest.on_power_off(run.guest)
    return Result()


_WHOLE: Mapping[str, Callable[[Run], Result]] = {
    "daemon-reload": lambda _run: Result(),
    "reset-failed": _reset_failed,
    "is-system-running": lambda _run: say("running"),
    "list-units": _list,
    "list-unit-files": _list,
    "reboot": _reboot,
    "poweroff": _power_off,
}
_QUESTIONS = frozenset({"is-active", "is-failed", "is-enabled", "show", "status", "cat"})


@command("journalctl")
async def _journalctl(run: Run) -> Result:
    since = _moment(run.value("--since", "-S"))
    lines = [line for line in run.guest.units.journal(run.value("-u", "--unit")) if line[0] >= since]
    count = run.value("-n", "--lines", default="all")
    shown = lines if count == "all" else lines[-int(count) :] if int(count) else []
    if not shown:
        return say("-- No entries --")
    kind = run.value("-o", "--output", default="short")
    unit = run.value("-u", "--unit").removesuffix(".service")
    return say("\n".join(_line(run, unit, moment, text, kind) for moment, text in shown))


def _moment(text: str) -> float:
    """Read `@seconds` or a date; 0 for none."""
    if text.startswith("@"):
        return float(text[1:])
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() if text else 0.0


def _line(run: Run, unit: str, moment: float, text: str, kind: str) -> str:
    if kind == "cat":
        return text
    if kind == "json":
        return json.dumps(
            {"__REALTIME_TIMESTAMP": str(int(moment * 1e6)), "MESSAGE": text, "_SYSTEMD_UNIT": f"{unit}.service"}
        )
    stamp = datetime.fromtimestamp(moment, UTC)
    when = stamp.isoformat() if kind.startswith("short-iso") else stamp.strftime("%b %d %H:%M:%S")
    return f"{when} {run.guest.hostname} {unit}[1]: {text}"


def _ask(run: Run, action: str, units: list[tuple[str, Unit | None]]) -> Result:
    if action == "show":
        return _show(run, units)
    states = [unit.state if unit else "inactive" for _, unit in units]
    if action == "is-active":
        return say("\n".join(states), 0 if "active" in states else 3)
    if action == "is-failed":
        return say("\n".join(states), 0 if "failed" in states else 1)
    if action == "is-enabled":
        known = ["not-found" if unit is None else "enabled" if unit.enabled else "disabled" for _, unit in units]
        return say("\n".join(known), 0 if "enabled" in known else 4 if "not-found" in known else 1)
    missing = [name for name, unit in units if unit is None]
    if missing:
        return complain(f"Unit {missing[0]} could not be found.", 4)
    text = "\n".join(f"● {unit.name} - {unit.description}\n     Active: {unit.state} ({unit.sub_state})"
                     for _, unit in units if unit)  # fmt: skip
    return say(text, 0 if set(states) == {"active"} else 3)


def _show(run: Run, units: list[tuple[str, Unit | None]]) -> Result:
    wanted = [name for given in (run.value("-p", "--property"),) for name in given.split(",") if name]
    blocks = []
    for name, unit in units:
        values = _properties(name, unit)
        keys = wanted or list(values)
        blocks.append(
            "\n".join(values.get(key, "") if run.has("--value") else f"{key}={values.get(key, '')}" for key in keys)
        )
    return say("\n\n".join(blocks))


def _properties(name: str, unit: Unit | None) -> dict[str, str]:
    full = name if "." in name else f"{name}.service"
    if unit is None:
        return {"Id": full, "LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead",
                "UnitFileState": "", "Result": "success", "MainPID": "0", "NRestarts": "0"}  # fmt: skip
    since = datetime.fromtimestamp(unit.since, UTC).strftime("%a %Y-%m-%d %H:%M:%S UTC") if unit.since else ""
    return {
        "Id": unit.name, "Description": unit.description, "LoadState": "loaded", "ActiveState": unit.state,
        "SubState": unit.sub_state, "UnitFileState": "enabled" if unit.enabled else "disabled",
        "Result": unit.result, "MainPID": str(unit.main_pid), "NRestarts": str(unit.restarts),
        "ActiveEnterTimestamp": since, "StateChangeTimestamp": since,
    }  # fmt: skip


async def _change(run: Run, action: str, units: list[tuple[str, Unit | None]]) -> Result:
    for name, unit in units:
        if unit is None:
            full = name if "." in name else f"{name}.service"
            return complain(f"Failed to {action} {full}: Unit {full} not found.", 5)
        if run.has("--no-block"):
            run.guest.spawn(_act_alone(run, action, unit))
            continue
        try:
            await _act(run, action, unit)
        except UnitError:
            text = (f"Job for {unit.name} failed because the control process exited with error code.\n"
                    f'See "systemctl status {unit.name}" and "journalctl -xeu {unit.name}" for details.')  # fmt: skip
            return complain(text, 1)
    return Result()


async def _act_alone(run: Run, action: str, unit: Unit) -> None:
    """Do it with nobody waiting for the end."""
    with contextlib.suppress(UnitError):
        await _act(run, action, unit)


async def _act(run: Run, action: str, unit: Unit) -> None:
    note_change()
    if action in {"enable", "disable"}:
        unit.enabled = action == "enable"
    if action in {"stop", "restart"} or (action == "disable" and run.has("--now")):
        await run.guest.units.stop(unit)
    if action in {"start", "restart", "reload-or-restart"} or (action == "enable" and run.has("--now")):
        await run.guest.units.start(unit)


@command("systemd-run")
async def _systemd_run(run: Run) -> Result:
    """Run a program as a unit of its own: it goes on when the login breaks, and its words are in the journal."""
    words = list(run.args)
    while words and words[0].startswith("-"):
        words[:2] = [] if words[0] in {"-p", "-u"} else words[1:2]
    if run.user != "root":
        return complain("Failed to start transient service unit: Interactive authentication required.")
    name = run.value("--unit", "-u", default="run-r1").removesuffix(".service")
    if not words:
        return complain("Command line to execute required.")
    known = run.guest.units.get(name)
    if known is not None and known.state != "inactive":
        return complain(f"Failed to start transient service unit: Unit {known.name} was already loaded.")
    note_change()
    unit = run.guest.units.add(Unit(f"{name}.service", " ".join(words), enabled=False))
    job = run.guest.spawn(_run_unit(run, unit, words))
    status = await asyncio.shield(job) if run.has("--wait") else 0
    return Result(status, b"", f"Running as unit: {unit.name}\n".encode())


async def _run_unit(run: Run, unit: Unit, words: list[str]) -> int:
    from labkit.twin.guests.shell import run_words  # noqa: PLC0415  # the shell knows the commands

    unit.state, unit.since = "active", run.guest.now()
    result = await run_words(run.guest, words, user=run.user, env=run.env)
    run.guest.units.log(unit.name, (result.out + result.err).decode("utf-8", "replace"))
    if result.status:
        run.guest.units.fail(unit, f"{unit.name}: Main process exited, code=exited, status={result.status}/FAILURE")
    else:
        run.guest.units.remove(unit.name)
    return result.status
