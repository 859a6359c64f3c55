"""A snapshot of etcd, and a node brought to another version of k3s: out, installed, ready, in again, all healthy."""

from __future__ import annotations

import re

from labkit.errors import StepFailed
from labkit.lab import Lab
from labkit.lab.models import resolve_machine
from labkit.plan import Change
from labkit.systems import ssh
from labkit.systems.access import Access, Step
from labkit.systems.guests import PROGRAM
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.k3s.drain import cordon, drain, uncordon
from labkit.systems.k3s.install import install, start
from labkit.systems.k3s.waiting import wait_for_health, wait_for_node

UPGRADE = "upgrade-k3s"


def save_snapshot(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Save a snapshot of etcd on a server, and look whether it is listed.

    Raises:
        StepFailed: it was not saved.
    """
    machine = resolve_machine(lab, change.target)
    with ssh.connect(lab, access, machine) as shell:
        step.say("saves a snapshot of etcd")
        name = str(change.after["name"])
        done = shell.run((PROGRAM, "etcd-snapshot", "save", "--name", name), sudo=True, timeout=600.0)
        said = done.text + done.stderr.decode("utf-8", "replace")
        match = re.search(rf"({re.escape(name)}[\w.-]*?)\"? saved\.?", said)
        listed = shell.run((PROGRAM, "etcd-snapshot", "ls"), sudo=True, timeout=120.0).text
    full = match[1] if match else name
    if full not in listed:
        raise StepFailed(f"{machine.name}: expected the snapshot {full} to be listed, got none",
                         next_step="look at the free room of its disk: `k3s etcd-snapshot ls`")  # fmt: skip
    return f"snapshot {full} on {machine.name}"


def upgrade(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Bring one node to another version; every part may be done again after an interruption.

    Raises:
        StepFailed: it could not be drained, installed, or did not become ready; it stays cordoned then.
    """
    machine, version = resolve_machine(lab, change.target), str(change.after["version"])
    cluster = open_cluster(lab, access)
    cordon(cluster, machine.name, UPGRADE)
    drain(access, cluster, machine.name, step)
    with ssh.connect(lab, access, machine) as shell:
        install(lab, access, shell, machine, version=version, step=step)
        began = start(shell, machine)
        step.say("restarted")
        wait_for_node(lab, access, machine, step, version=version, shell=shell, began=began)
    free = uncordon(open_cluster(lab, access), machine.name)
    wait_for_health(lab, access, step, dns="coredns" not in lab.k3s.disable)
    return f"{machine.name} runs {version}" + ("" if free else "; a person's cordon stays")
