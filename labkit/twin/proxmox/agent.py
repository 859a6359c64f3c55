"""The guest agent: what Proxmox asks inside a VM, answered by the twin's guest."""

from __future__ import annotations

import itertools
from typing import Any

from labkit.twin.guests.guest import Guest
from labkit.twin.proxmox.calls import Call
from labkit.twin.proxmox.core import Core
from labkit.twin.proxmox.errors import PveError, parameter_error

_MOST_BYTES = 16 * 1024 * 1024


class Agent:
    """The calls below `agent`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pids = itertools.count(1401)
        self._runs: dict[tuple[int, int], dict[str, Any]] = {}

    async def ping(self, call: Call) -> dict[str, Any]:
        """Answer when the agent does."""
        self._guest(call)
        return {"result": {}}

    async def interfaces(self, call: Call) -> dict[str, Any]:
        """Answer the network cards of the guest and their addresses."""
        guest = self._guest(call)
        return {"result": guest.interfaces()}

    async def os_info(self, call: Call) -> dict[str, Any]:
        """Answer the operating system."""
        return {"result": self._guest(call).os_info()}

    async def host_name(self, call: Call) -> dict[str, Any]:
        """Answer the host name."""
        return {"result": {"host-name": self._guest(call).hostname}}

    async def execute(self, call: Call) -> dict[str, Any]:
        """Start a command as root; its end is asked for by its pid."""
        guest = self._guest(call)
        command = call.params.get("command")
        if not command:
            raise parameter_error(command="property is missing and it is not optional")
        words = [str(word) for word in command] if isinstance(command, list) else [str(command)]
        pid = next(self._pids)
        self._runs[guest.vmid, pid] = {"exited": 0}
        guest.spawn(self._run(guest, pid, words, call.text("input-data").encode()))
        return {"pid": pid}

    async def execution(self, call: Call) -> dict[str, Any]:
        """Answer whether a command has ended, and with what."""
        guest = self._guest(call)
        done = self._runs.get((guest.vmid, call.number("pid")))
        if done is None:
            raise PveError(500, f"Agent error: Invalid parameter 'pid': PID {call.number('pid')} does not exist")
        return done

    async def read_file(self, call: Call) -> dict[str, Any]:
        """Answer the content of a file of the guest."""
        guest, name = self._guest(call), call.text("file")
        try:
            content = guest.files.read(name)
        except OSError as exc:
            raise PveError(500, f"Agent error: failed to open file '{name}' (mode: 'r'): {exc.strerror}") from exc
        return {
            "content": content[:_MOST_BYTES].decode("utf-8", "replace"),
            "truncated": int(len(content) > _MOST_BYTES),
        }

    async def _run(self, guest: Guest, pid: int, words: list[str], stdin: bytes) -> None:
        result = await guest.execute(words, user="root", stdin=stdin)
        done: dict[str, Any] = {"exited": 1, "exitcode": result.status}
        if result.out:
            done["out-data"] = result.out.decode("utf-8", "replace")
        if result.err:
            done["err-data"] = result.err.decode("utf-8", "replace")
        self._runs[guest.vmid, pid] = done

    def _guest(self, call: Call) -> Guest:
        vm = self._core.vm(call)
        guest = self._core.guests.get(vm.vmid)
        device = guest is not None and guest.agent_configured
        if not device and not _agent_enabled(vm.settings.get("agent", "")):
            raise PveError(500, "No QEMU guest agent configured")
        if not vm.running:
            raise PveError(500, f"VM {vm.vmid} is not running")
        if guest is None or not guest.answers or self._core.world.faults.has("agent-silent", vm.name):
            raise PveError(500, "QEMU guest agent is not running")
        return guest


def _agent_enabled(text: str) -> bool:
    first = text.partition(",")[0]
    return first.removeprefix("enabled=") in {"1", "on", "yes", "true"}
