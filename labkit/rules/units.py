"""A schedule as systemd units: a timer, its service, and a service that notices when a run fails. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from labkit.rules.scheduling import Job

_PLAIN = re.compile(r"[A-Za-z0-9_/.,:=@+-]+")
_LIMIT = "12h"
_HARDENED = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "UMask=0077",
)
"""What a user's own manager can enforce; nothing that Python, a kernel on sockets, git or ssh need."""
_HARDENED_SYSTEM = (
    "CapabilityBoundingSet=",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectSystem=full",
)


def render_units(job: Job, *, user: str = "") -> dict[str, str]:
    """Return the units by file name: of the user's manager, or of the system's, where they run as `user`."""
    name = job.unit
    about = f"labkit: {job.runbook} on lab {job.lab}"
    units = {
        f"{name}.service": _service(job, about, job.run_words("systemd"), user, on_failure=f"{name}-failed.service"),
        f"{name}.timer": _timer(job, about),
        f"{name}-failed.service": _service(
            job, f"labkit: tell that {job.runbook} on lab {job.lab} failed", job.check_words, user, ok="1"
        ),
    }
    if job.deliver_at is not None:
        about = f"labkit: tell what the quiet hours of lab {job.lab} held back"
        units[f"labkit-{job.lab}-messages.service"] = _service(job, about, job.deliver_words, user)
        units[f"labkit-{job.lab}-messages.timer"] = _deliver_timer(job, about)
    return units


def timers(units: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the timers among units: these are enabled."""
    return tuple(name for name in units if name.endswith(".timer"))


def command_line(words: Sequence[str]) -> str:
    """Return a command for ExecStart: no variable in it is replaced, whatever it holds."""
    # The name of the program itself may hold no quotes and backslashes, however it is written.
    through = ("/usr/bin/env",) if set(words[0]) & set("'\"\\") else ()
    return ":" + " ".join(quote(word) for word in (*through, *words))


def quote(word: str) -> str:
    """Quote a word as systemd reads it, with its percent signs doubled."""
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{_percent(escaped)}"'


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _service(job: Job, about: str, words: Sequence[str], user: str, *, on_failure: str = "", ok: str = "") -> str:
    unit = [f"Description={_percent(about)}"]
    if user:
        unit += ["Wants=network-online.target", "After=network-online.target"]
    if on_failure:
        unit.append(f"OnFailure={on_failure}")
    service = ["Type=oneshot", f"ExecStart={command_line((*job.program, *words))}",
               f"WorkingDirectory={_percent(job.folder)}"]  # fmt: skip
    if job.env_file:
        service.append(f"EnvironmentFile=-{_percent(job.env_file)}")
    if ok:
        service.append(f"SuccessExitStatus={ok}")
    service += [f"TimeoutStartSec={_LIMIT}", "Nice=10", *_HARDENED]
    if user:
        service += [f"User={user}", *_HARDENED_SYSTEM]
    return _text({"Unit": unit, "Service": service})


def _timer(job: Job, about: str) -> str:
    zone = f" {job.zone}" if job.named else ""
    timer = [f"OnCalendar={job.when.calendar}{zone}", "Persistent=true"]
    if job.when.delay:
        timer.append(f"RandomizedDelaySec={job.when.delay}")
    return _timer_text(f"{about}, {job.when.words}", [*timer, "AccuracySec=1min"])


def _deliver_timer(job: Job, about: str) -> str:
    hour, minute = job.deliver_at or (0, 0)
    zone = f" {job.quiet_zone}" if job.quiet_zone else ""
    return _timer_text(about, [f"OnCalendar=*-*-* {hour:02}:{minute:02}:00{zone}", "Persistent=true"])


def _timer_text(about: str, timer: Sequence[str]) -> str:
    return _text({"Unit": [f"Description={_percent(about)}"], "Timer": timer, "Install": ["WantedBy=timers.target"]})


def _text(sections: Mapping[str, Sequence[str]]) -> str:
    return "\n".join("\n".join([f"[{name}]", *lines, ""]) for name, lines in sections.items())
