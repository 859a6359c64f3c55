"""Bring etcd back: begin anew on one server, let the others join it with their old data aside, wait for all.

Each part notes on the servers what it has done, and may be interrupted anywhere: the next run goes on, and etcd is
never reset twice. Nothing is deleted: k3s keeps the database that it replaces, and ours are renamed with the date.
"""

from __future__ import annotations

from datetime import UTC, datetime

from labkit.errors import StepFailed
from labkit.facts.etcd import Restore
from labkit.lab import Lab
from labkit.lab.k3sconfig import wanted_config
from labkit.lab.models import resolve_machine
from labkit.plan import Change
from labkit.systems import ssh
from labkit.systems.access import Access, Step
from labkit.systems.guests import DATA, DATABASE
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.diagnose import diagnose, read_log
from labkit.systems.k3s.etcd import knows_restore, read_alive, snapshot_folder
from labkit.systems.k3s.halt import stop_k3s
from labkit.systems.k3s.install import install, installed_version, start, write_config
from labkit.systems.k3s.inventory import EVIDENCE
from labkit.systems.k3s.join import find_founder, join
from labkit.systems.k3s.read import parse_node, read_volumes
from labkit.systems.k3s.record import mark_aside, need_record, parse_mark, read_note, write_record
from labkit.systems.k3s.reset import Site, bring, reset
from labkit.systems.k3s.waiting import HEALTH_DEADLINE, READY_DEADLINE, ask_patiently, wait_for_node
from labkit.systems.kubernetes import Cluster
from labkit.systems.ssh import Shell

_VOLUMES_DEADLINE = 900.0
"""Lab seconds that volumes get to become whole; longer than that is told, and no reason to fail."""


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
    nodes = {node.name: node for node in map(parse_node, cluster.items("/api/v1/nodes"))}
    back = [machine for machine in lab.machines if machine.name in (record.server, *record.rejoined)]
    agents = [machine for machine in lab.machines if machine.role == "agent" and machine.name in alive]
    if silent := [machine.name for machine in back if machine.name not in alive]:
        return f"not heard of since the restore: {', '.join(silent)}"
    seen = ((machine, nodes.get(machine.name)) for machine in (*back, *agents))
    if learning := [machine.name for machine, node in seen if node is None or not node.ready or node.voter is False]:
        return f"not ready, or without a vote: {', '.join(learning)}"
    other = [machine.name for machine in back if not knows_restore(access, machine, cluster, record.id)]
    return f"another state, or none, at the API of {', '.join(other)}" if other else ""


def _wait_for_volumes(lab: Lab, access: Access, step: Step) -> None:
    """Give Longhorn the time to find its replicas again; what stays degraded is told by the checks."""
    seen = [""]

    def probe() -> bool | None:
        volumes = ask_patiently(lambda: read_volumes(open_cluster(lab, access)) or ())
        if volumes is None:
            return None
        text = ", ".join(volume.name for volume in volumes if volume.degraded)
        if text and text != seen[0]:
            step.say(f"waits for volumes: {text}")
        seen[0] = text
        return None if text else True

    try:
        access.wait(probe, what="volumes with all their replicas", deadline=_VOLUMES_DEADLINE, every=2.0,
                    last=lambda: f"degraded: {seen[0]}")  # fmt: skip
    except StepFailed as exc:
        step.say(f"goes on all the same: {exc.message}")


__all__ = ["finish_restore", "first_member", "rejoin"]
