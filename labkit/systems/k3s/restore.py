"""Bring etcd back: stop k3s everywhere, begin anew on one server, let the others join it with their old data aside.

Each part notes on the servers what it has done, and may be interrupted anywhere: the next run goes on, and etcd is
never reset twice. Nothing is deleted: k3s keeps the database that it replaces, and ours are renamed with the date.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from labkit.errors import StepFailed, SystemDown
from labkit.facts.etcd import UNDO, Restore, parse_when
from labkit.lab import Lab, Machine
from labkit.lab.k3sconfig import wanted_config
from labkit.lab.models import resolve_machine
from labkit.plan import Change
from labkit.systems import ssh
from labkit.systems.access import Access, Step
from labkit.systems.guests import DATA, DATABASE
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.diagnose import diagnose, read_log, unit_name
from labkit.systems.k3s.etcd import knows_restore, read_alive, snapshot_folder
from labkit.systems.k3s.install import install, installed_version, start, write_config
from labkit.systems.k3s.inventory import EVIDENCE, read_objects
from labkit.systems.k3s.join import find_founder, join
from labkit.systems.k3s.record import (
    mark_aside,
    mark_stopped,
    need_record,
    new_id,
    parse_mark,
    parse_record,
    read_note,
    write_before,
    write_record,
)
from labkit.systems.k3s.reset import Site, bring, reset
from labkit.systems.k3s.waiting import HEALTH_DEADLINE, READY_DEADLINE, ask_patiently, unhealthy, wait_for_node
from labkit.systems.kubernetes import Cluster, KubeError
from labkit.systems.ssh import Shell

_STOP_DEADLINE = 180.0
_OWN_DATA, _SAVED = "its own data", "the one that is saved first"
_VOLUMES_DEADLINE = 900.0
"""Lab seconds that volumes get to become whole; longer than that is told, and no reason to fail."""


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


def first_member(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Let etcd begin anew on a server, with a snapshot or its own data, and wait until it is a ready node.

    Raises:
        StepFailed: k3s refuses, says why; or it does not become ready.
    """
    machine = resolve_machine(lab, change.target)
    with ssh.connect(lab, access, machine) as shell:
        record = need_record(shell)
        fresh = installed_version(shell) == ""
        if record.stage == "prepared":
            if fresh:
                install(lab, access, shell, machine, version=str(change.after["version"]), step=step, enable=False)
            stop_k3s(shell, machine)
            write_config(lab, access, shell, wanted_config(lab, machine, None))
            site = Site(lab, access, machine, shell, record, step)
            reset(site, bring(site, change) if record.snapshot else "")
            moment = datetime.fromtimestamp(shell.read_clock(), UTC)
            record = write_record(shell, record.model_copy(update={"stage": "reset", "reset_at": moment}))
        began = start(shell, machine)
        step.say("started")
        _wait_until_alive(Site(lab, access, machine, shell, record, step), began)
        wait_for_node(lab, access, machine, step, shell=shell, began=began,
                      find=lambda: find_founder(lab, access, shell, machine))  # fmt: skip
    return f"etcd has one member, {machine.name}, with {record.snapshot or 'its own data'}"


def _wait_until_alive(site: Site, began: float) -> None:
    """Wait until the first member's kubelet reports: its Node in the snapshot says Ready whatever comes.

    A new machine in place of the one of its name has another password than the snapshot knows: that is forgotten.
    The Node itself stays: with it would go the only member of etcd.
    """
    lab, access, shell, machine = site.lab, site.access, site.shell, site.machine
    seen = ["no answer of its API"]

    def probe() -> bool | None:
        if ask_patiently(lambda: find_founder(lab, access, shell, machine)) is None:
            return None
        seen[0] = "its kubelet has not reported"
        if "Node password rejected" in read_log(shell, machine, since=began):
            site.step.say("forgets the password of the machine that was there before")
            secret = f"/api/v1/namespaces/kube-system/secrets/{machine.name}.node-password.k3s"
            ask_patiently(lambda: open_cluster(lab, access).delete(secret))
        alive = ask_patiently(lambda: read_alive(open_cluster(lab, access), site.record))
        return True if alive and machine.name in alive else None

    try:
        access.wait(probe, what=f"{machine.name}: a node that reports", deadline=READY_DEADLINE, every=1.0,
                    last=lambda: seen[0])  # fmt: skip
    except StepFailed as exc:
        raise StepFailed(f"{exc.message}\n{diagnose(lab, access, machine)}",
                         next_step="mend the cause, then run again: it goes on") from exc  # fmt: skip


def rejoin(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Set the old data of a server aside and let it join the restored etcd.

    Raises:
        StepFailed: it did not become a ready node with a vote.
    """
    machine = resolve_machine(lab, change.target)
    site = resolve_machine(lab, str(change.after["server"]))
    with ssh.connect(lab, access, site) as first:
        record = need_record(first)
    with ssh.connect(lab, access, machine) as shell:
        if parse_mark(read_note(shell)) != record.id:
            stop_k3s(shell, machine)
            kept = _set_aside(shell, record, snapshot_folder(lab))
            mark_aside(shell, record.id)
            step.say(f"its old data is {kept}" if kept else "it has no old data")
    text = join(lab, access, change, step)
    with ssh.connect(lab, access, site) as first:
        record = need_record(first)
        names = tuple(dict.fromkeys((*record.rejoined, machine.name)))
        write_record(first, record.model_copy(update={"rejoined": names}))
    return text


def _set_aside(shell: Shell, record: Restore, snapshots: str) -> str:
    """Rename the folder with the database; its snapshots stay where they are looked for. Return where it is."""
    folder, aside = f"{DATA}/server/db", f"{DATA}/server/db-before-{record.id}"
    present = set(shell.run(("ls", "-d", "--", folder, DATABASE, aside), sudo=True, check=False).text.split())
    if DATABASE in present:
        if aside in present:  # an earlier run came this far, and somebody has started k3s since
            aside = f"{aside}-{int(shell.read_clock())}"
        shell.run(("mv", "-T", "--", folder, aside), sudo=True)
        present = {aside}
    if aside in present and snapshots == f"{folder}/snapshots":
        shell.run(("install", "-d", "-m", "0700", folder), sudo=True)
        if shell.run(("test", "-d", f"{aside}/snapshots"), sudo=True, check=False).status == 0:
            shell.run(("mv", "-T", "--", f"{aside}/snapshots", snapshots), sudo=True)
    return aside if aside in present else ""


def finish_restore(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Wait until the whole cluster reports, note the restore in it, and see it in every server's own API.

    Raises:
        StepFailed: nodes or members are missing at the deadline; names them.
    """
    site = resolve_machine(lab, str(change.after["server"]))
    with ssh.connect(lab, access, site) as shell:
        record = need_record(shell)
        _leave_evidence(open_cluster(lab, access), record)
        _wait_for_all(lab, access, record, step)
        _wait_for_volumes(lab, access, step)
        moment = datetime.fromtimestamp(shell.read_clock(), UTC)
        write_record(shell, record.model_copy(update={"stage": "finished", "finished_at": moment}))
    return f"all that answers is back, with {record.snapshot or 'the data of ' + site.name}"


def _leave_evidence(cluster: Cluster, record: Restore) -> None:
    """Write the ConfigMap that tells of the restore."""
    namespace, name = EVIDENCE
    made = record.created.isoformat() if record.created is not None else ""
    data = {"id": record.id, "server": record.server, "snapshot": record.snapshot, "made": made}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}
    cluster.apply(f"/api/v1/namespaces/{namespace}/configmaps/{name}", body, force=True)


def _wait_for_all(lab: Lab, access: Access, record: Restore, step: Step) -> None:
    """Wait until each machine that came back reports, and each server's API has the restored state."""
    seen = [""]

    def probe() -> bool | None:
        text = ask_patiently(lambda: _missing(lab, access, open_cluster(lab, access), record))
        text = "the API does not answer" if text is None else text
        if text and text != seen[0]:
            step.say(f"waits: {text}")
        seen[0] = text
        return None if text else True

    access.wait(probe, what="restored cluster", deadline=HEALTH_DEADLINE, every=2.0, last=lambda: seen[0],
                causes="mend what is named, then run again: it goes on")  # fmt: skip


def _missing(lab: Lab, access: Access, cluster: Cluster, record: Restore) -> str:
    alive = read_alive(cluster, record)
    back = [machine for machine in lab.machines if machine.name in (record.server, *record.rejoined)]
    silent = [machine.name for machine in back if machine.name not in alive]
    if silent:
        return f"not heard of since the restore: {', '.join(silent)}"
    other = [machine.name for machine in back if not knows_restore(access, machine, cluster, record.id)]
    return f"another state, or none, at the API of {', '.join(other)}" if other else ""


def _wait_for_volumes(lab: Lab, access: Access, step: Step) -> None:
    """Give Longhorn the time to find its replicas again; what stays degraded is told by the checks."""
    seen = [""]

    def probe() -> bool | None:
        text = ask_patiently(lambda: unhealthy(open_cluster(lab, access)))
        text = "the API does not answer" if text is None else text
        if text and text != seen[0]:
            step.say(f"waits: {text}")
        seen[0] = text
        return None if text else True

    try:
        access.wait(probe, what="healthy cluster", deadline=_VOLUMES_DEADLINE, every=2.0, last=lambda: seen[0])
    except StepFailed as exc:
        step.say(f"goes on all the same: {exc.message}")


__all__ = ["begin", "finish_restore", "first_member", "rejoin"]
