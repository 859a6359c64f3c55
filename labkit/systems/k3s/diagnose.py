"""Why did a machine not join: its log, what it can reach, and how its token, clock and addresses compare."""

from __future__ import annotations

from urllib.parse import urlsplit

from labkit.errors import LabError
from labkit.facts.diagnosis import Evidence, explain
from labkit.facts.guests import TokenState
from labkit.lab import Lab, Machine
from labkit.lab.addresses import address_clashes
from labkit.systems import ssh
from labkit.systems.access import Access
from labkit.systems.guests import lab_token, read_guest
from labkit.systems.ssh import Shell

_LINES = "200"


def unit_name(machine: Machine) -> str:
    """Return the unit of a machine's role."""
    return "k3s" if machine.role == "server" else "k3s-agent"


def read_log(shell: Shell, machine: Machine, *, since: float | None = None) -> str:
    """Return the end of the unit's log; `since` is a time by the guest's own clock."""
    when = () if since is None else ("--since", f"@{int(since)}")
    words = ("journalctl", "-u", unit_name(machine), "-n", _LINES, "--no-pager", "-o", "cat", *when)
    return shell.run(words, sudo=True, check=False).text


def diagnose(lab: Lab, access: Access, machine: Machine, *, target: str | None = None) -> str:
    """Return the likely causes why a machine is not a ready node, one per line, each with what to do.

    Args:
        lab: what is wanted.
        access: how the guests are reached.
        machine: which machine.
        target: the URL that it was to join; from its own settings when None.
    """
    guest = read_guest(lab, access, machine, lab_token(lab, access))
    if not guest.reachable:
        return explain(machine.name, "", Evidence(answered=False))
    url = target or str((guest.config or {}).get("server") or "")
    host = urlsplit(url).hostname or ""
    seed = next((server for server in lab.servers if str(server.address) == host), None)
    other = None if seed is None else read_guest(lab, access, seed, lab_token(lab, access))
    offset = None
    if other is not None and guest.clock_offset is not None and other.clock_offset is not None:
        offset = guest.clock_offset - other.clock_offset
    tokens = [guest.config_token, *([other.server_token] if other is not None and other.reachable else [])]
    known = [token for token in tokens if token in (TokenState.SAME, TokenState.OTHER)]
    log, reachable = _ask(lab, access, machine, host)
    clashes = address_clashes(lab, guest.addresses, vip=guest.unit(machine.role) != "active")
    evidence = Evidence(
        unit=guest.unit(machine.role),
        seed=f"{host}:6443" if host else "",
        seed_reachable=reachable,
        seed_running=None if other is None else other.unit("server") == "active",
        same_token=len(set(known)) == 1 if len(known) > 1 else None,
        clock_offset=offset,
        disk_free=guest.disk_free,
        clash=clashes[0] if clashes else "",
    )
    return explain(machine.name, log, evidence)


def _ask(lab: Lab, access: Access, machine: Machine, host: str) -> tuple[str, bool | None]:
    """The log, and whether the node can open the port of the server to join."""
    try:
        with ssh.connect(lab, access, machine) as shell:
            reachable = None
            if host:
                # What the joiner itself asks for first; its certificate is not known yet, and nothing is sent.
                ask = ("curl", "-sk", "--max-time", "5", "-o", "/dev/null", f"https://{host}:6443/cacerts")
                reachable = shell.run(ask, check=False).status == 0
            return read_log(shell, machine), reachable
    except LabError:
        return "", None
