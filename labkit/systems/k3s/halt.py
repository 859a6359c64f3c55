"""Before etcd begins anew: note that on the servers, keep a list of what is in the API, and stop k3s everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from labkit.errors import StepFailed, SystemDown
from labkit.facts.etcd import UNDO, Restore, parse_when
from labkit.lab import Lab, Machine
from labkit.lab.models import resolve_machine
from labkit.plan import Change
from labkit.systems import ssh
from labkit.systems.access import Access, Step
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.diagnose import unit_name
from labkit.systems.k3s.etcd import snapshot_folder
from labkit.systems.k3s.inventory import read_objects
from labkit.systems.k3s.record import (
    mark_stopped,
    new_id,
    parse_mark,
    parse_record,
    read_note,
    write_before,
    write_record,
)
from labkit.systems.kubernetes import KubeError
from labkit.systems.ssh import Shell

_STOP_DEADLINE = 180.0
_OWN_DATA, _SAVED = "its own data", "the one that is saved first"


def begin(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Note the restore on the servers, keep a list of what is in the API, and stop k3s everywhere.

    Raises:
        StepFailed: k3s does not stop on a machine.
        SystemDown: a machine stopped answering.
    """
    site = resolve_machine(lab, str(change.after["server"]))
    stops = [machine for machine in lab.machines if machine.name in _texts(change.after["stops"])]
    with ssh.connect(lab, access, site) as shell:
        record = parse_record(read_note(shell))
        if record is None or record.finished:
            record = _new_record(lab, shell, change)
            _keep_objects(lab, access, shell, record, step)
            write_record(shell, record)
            step.say(f"noted on {site.name}", id=record.id)
    step.say(f"stops k3s on {len(stops)} machines")
    with ThreadPoolExecutor(max_workers=max(1, len(stops))) as pool:
        list(pool.map(lambda machine: _stop(lab, access, machine, record.id if machine != site else ""), stops))
    return f"k3s stands still on {len(stops)} machines; noted on {site.name}"


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else []


def _new_record(lab: Lab, shell: Shell, change: Change) -> Restore:
    source, made = str(change.after["from"]), parse_when(str(change.after.get("made") or ""))
    if source == _SAVED:
        source, made = _saved(lab, shell)
    return Restore(
        id=new_id(shell.read_clock()),
        server=shell.name,
        snapshot="" if source == _OWN_DATA else source,
        created=made,
        servers=tuple(_texts(change.after["rejoin"])),
    )


def _saved(lab: Lab, shell: Shell) -> tuple[str, datetime]:
    """The snapshot that this run has just saved on the server."""
    names = shell.run(("ls", "--", snapshot_folder(lab)), sudo=True).text.split()
    ours = [name for name in names if name.startswith(f"{UNDO}-{shell.name}-")]
    stamps = {name.removesuffix(".zip").rpartition("-")[2]: name for name in ours}
    newest = max((stamp for stamp in stamps if stamp.isdecimal()), key=int, default="")
    if not newest:
        raise StepFailed(f"{shell.name}: expected a snapshot {UNDO}-... in {snapshot_folder(lab)}, got none",
                         next_step="run again: it is saved first")  # fmt: skip
    return stamps[newest], datetime.fromtimestamp(int(newest), UTC)


def _keep_objects(lab: Lab, access: Access, shell: Shell, record: Restore, step: Step) -> None:
    """Note what is in the API, so that what is lost can be named afterwards; not when it does not answer."""
    try:
        rows = read_objects(open_cluster(lab, access))
    except (SystemDown, KubeError):
        step.say("the API does not answer: what is lost cannot be named afterwards")
        return
    write_before(shell, record.id, rows)


def _stop(lab: Lab, access: Access, machine: Machine, ident: str) -> None:
    """Stop k3s; on a server it stays off, whatever happens, until its old data is aside."""
    with ssh.connect(lab, access, machine) as shell:
        if machine.role == "server" and ident and parse_mark(read_note(shell)) != ident:
            mark_stopped(shell, ident)
        stop_k3s(shell, machine)


def stop_k3s(shell: Shell, machine: Machine) -> None:
    """Stop the unit of a machine; that of a server does not come at the next boot either.

    Raises:
        StepFailed: it still runs.
    """
    unit = unit_name(machine)
    action = ("disable", "--now") if machine.role == "server" else ("stop",)
    shell.run(("systemctl", *action, unit), sudo=True, check=False, timeout=_STOP_DEADLINE)
    state = shell.run(("systemctl", "is-active", unit), check=False).text.strip()
    if state not in ("inactive", "failed"):
        raise StepFailed(f"{machine.name}: expected {unit} to stand still, got {state or 'no answer'}",
                         next_step=f"look at `journalctl -u {unit}` there, then run again")  # fmt: skip
