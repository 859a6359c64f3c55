"""Let a machine found the cluster or join it; change its settings; start what stands still."""

from __future__ import annotations

from pydantic import JsonValue

from labkit.errors import StepFailed, SystemDown
from labkit.facts.kubernetes import NodeRow
from labkit.lab import Lab, Machine
from labkit.lab.k3sconfig import wanted_config
from labkit.lab.models import resolve_machine
from labkit.plan import Change
from labkit.systems import ssh
from labkit.systems.access import Access, Step
from labkit.systems.guests import read_guest
from labkit.systems.k3s.cluster import note_credentials, open_cluster
from labkit.systems.k3s.diagnose import diagnose, unit_name
from labkit.systems.k3s.drain import node_path
from labkit.systems.k3s.install import install, is_installed, start, write_config
from labkit.systems.k3s.kubeconfig import fetch_credentials
from labkit.systems.k3s.waiting import HEALTH_DEADLINE, ask_patiently, find_node, wait_for_health, wait_for_node
from labkit.systems.kubernetes import Cluster
from labkit.systems.ssh import Shell

FOUNDS = "a new cluster"


def join(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Install k3s on a machine and wait until it is a ready node of the cluster, or has founded one."""
    machine = resolve_machine(lab, change.target)
    version = str(change.after["version"])
    target = None if change.after["joins"] == FOUNDS else str(change.after["joins"])
    if target is not None:
        _make_room(lab, access, machine, step, rebuilt="node" in change.before)
    with ssh.connect(lab, access, machine) as shell:
        step.say("writes its settings")
        write_config(lab, access, shell, wanted_config(lab, machine, target))
        if lab.k3s.install == "airgap" or not is_installed(shell, machine, version):
            install(lab, access, shell, machine, version=version, step=step)
        began = start(shell, machine)
        step.say("started")
        find = None if target is not None else lambda: find_founder(lab, access, shell, machine)
        wait_for_node(lab, access, machine, step, version=version, shell=shell, began=began, target=target, find=find)
    return f"{machine.role} {machine.name} is ready, {version}" + ("" if target else "; it founded the cluster")


def finish(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Start k3s where it stands still, and wait until the machine is a ready node."""
    machine = resolve_machine(lab, change.target)
    with ssh.connect(lab, access, machine) as shell:
        began = shell.read_clock()
        state = shell.run(("systemctl", "is-active", unit_name(machine)), check=False).text.strip()
        if state not in ("active", "activating"):
            step.say(f"starts k3s ({state or 'no unit'})")
            began = start(shell, machine)
        wait_for_node(lab, access, machine, step, shell=shell, began=began)
    return f"{machine.role} {machine.name} is ready"


def configure(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Write the settings of a member anew; restart k3s when a setting needs it, and wait until all is well."""
    machine = resolve_machine(lab, change.target)
    with ssh.connect(lab, access, machine) as shell:
        step.say("writes its settings")
        write_config(lab, access, shell, _settings(lab, access, machine))
        if not change.lane:
            return f"{', '.join(sorted(change.after))} written; no restart needed"
        step.say("restarts k3s")
        done = shell.run(("systemctl", "restart", unit_name(machine)), sudo=True, check=False, timeout=300.0)
    if done.status != 0:
        raise StepFailed(
            f"{machine.name}: expected k3s to start with its new settings, got exit status {done.status}\n"
            f"{diagnose(lab, access, machine)}",
            next_step="put the old value back into the lab file, or mend the cause; run again",
        )
    wait_for_node(lab, access, machine, step)
    wait_for_health(lab, access, step)
    return f"{', '.join(sorted(change.after))} in force"


def _settings(lab: Lab, access: Access, machine: Machine) -> dict[str, JsonValue]:
    """The wanted settings; how the machine once joined stays as it is while it still leads to the cluster."""
    seen = read_guest(lab, access, machine, None).config or {}
    others = [server for server in lab.servers if server.name != machine.name]
    target = str(seen.get("server") or "")
    good = {str(lab.network.vip), *(str(server.address) for server in lab.servers)}
    if not target or not any(f"//{host}:" in target for host in good):
        target = f"https://{others[0].address}:6443" if others else ""
    founded = seen.get("cluster-init") is True or not target
    return wanted_config(lab, machine, None if founded and machine.role == "server" else target)


def find_founder(lab: Lab, access: Access, shell: Shell, machine: Machine) -> NodeRow | None:
    """The node of the machine that founds the cluster, asked at itself; None until its API answers."""
    try:
        credentials = fetch_credentials(shell)
    except SystemDown:  # the login broke; the API may be there all the same
        return find_node(open_cluster(lab, access), machine.name)
    return None if credentials is None else find_node(note_credentials(lab, access, credentials), machine.name)


def _make_room(lab: Lab, access: Access, machine: Machine, step: Step, *, rebuilt: bool) -> None:
    """Wait for the API, and delete the node of a machine that is no more: its name is taken else."""
    cluster = access.wait(
        lambda: ask_patiently(lambda: open_cluster(lab, access)),
        what="API of the cluster to join",
        deadline=120.0,
        every=2.0,
        causes="look at `journalctl -u k3s` on the servers",
    )
    if rebuilt:
        step.say("deletes the node of the machine that was there before")
        delete_node(access, cluster, machine.name)


def delete_node(access: Access, cluster: Cluster, name: str) -> None:
    """Delete a node and wait until it is gone: a server's goes only after its etcd member has."""
    cluster.delete(node_path(name))
    access.wait(
        lambda: True if ask_patiently(lambda: find_node(cluster, name) is None) else None,
        what=f"node {name}: gone, with its etcd member",
        deadline=HEALTH_DEADLINE / 6,
        every=2.0,
        last=lambda: "it is still there",
        causes="look whether etcd has its quorum: /readyz?verbose of a server",
    )
