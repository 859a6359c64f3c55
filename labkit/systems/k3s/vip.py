"""The virtual address of the API: kube-vip's manifest on the servers, and whether the address answers."""

from __future__ import annotations

import socket

from labkit.errors import LabError, StepFailed, SystemDown
from labkit.lab import Lab
from labkit.lab.k3sconfig import API_PORT
from labkit.lab.kubevip import NAME, NAMESPACE, parse_kube_vip, render_kube_vip
from labkit.lab.models import resolve_machine
from labkit.plan import Change
from labkit.systems import ssh
from labkit.systems.access import Access, Step
from labkit.systems.guests import DATA, KUBE_VIP, MANIFESTS
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster, Credentials, KubeError

VIP_DEADLINE = 600.0
"""Lab seconds until kube-vip answers: k3s applies the manifest, the image is pulled, a leader is elected."""
_KNOCK = 2.0  # real seconds


def write_manifest(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Write kube-vip's manifest on a server: k3s applies it when it starts, or within seconds.

    Raises:
        StepFailed: another manifest is there afterwards.
    """
    machine = resolve_machine(lab, change.target)
    wanted = {key: str(value) for key, value in change.after.items()}
    text = render_kube_vip(wanted["address"], wanted["version"], wanted["interface"])
    with ssh.connect(lab, access, machine) as shell:
        step.say("writes the manifest of kube-vip")
        folders = (DATA, f"{DATA}/server", MANIFESTS)
        present = shell.run(("ls", "-d", "--", *folders), sudo=True, check=False).text.split()
        for folder in folders:
            if folder not in present:  # k3s' own folders keep their mode
                shell.run(("install", "-d", "-m", "0755" if folder == DATA else "0700", folder), sudo=True)
        shell.write_file(KUBE_VIP, text.encode(), mode=0o600)
        seen = parse_kube_vip(shell.read_file(KUBE_VIP, sudo=True).decode())
    if seen["digest"] != wanted["digest"]:
        raise StepFailed(f"{machine.name}: expected {KUBE_VIP} as it was planned, got another",
                         next_step="run bootstrap-k3s again: the plan is made anew")  # fmt: skip
    return f"kube-vip {wanted['version']} at {wanted['address']} on {wanted['interface'] or 'the default interface'}"


def wait_for_vip(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Wait until the virtual address answers as the lab's cluster.

    Raises:
        StepFailed: it does not; says how kube-vip stands.
    """
    seen = [""]

    def probe() -> bool | None:
        try:
            cluster = open_cluster(lab, access)
            if vip_answers(lab, access, cluster.credentials):
                return True
            text = _standing(cluster)
        except (SystemDown, KubeError) as exc:
            text = exc.message
        if text != seen[0]:
            step.say(f"waits: {text}")
        seen[0] = text
        return None

    access.wait(
        probe,
        what=f"address {change.target}: the API of the cluster",
        deadline=VIP_DEADLINE,
        every=2.0,
        last=lambda: seen[0],
        causes=f"look at `kubectl -n {NAMESPACE} logs daemonset/{NAME}`: does the interface exist on every server "
        "(network.vip_interface), is the address free; then run again",
    )
    return f"{change.target} answers"


def _standing(cluster: Cluster) -> str:
    """Say how far kube-vip has come."""
    found = cluster.find(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}")
    if found is None:
        return f"k3s has not applied {KUBE_VIP} yet"
    status = found.get("status") or {}
    return f"{status.get('numberReady', 0)} of {status.get('desiredNumberScheduled', 0)} pods of kube-vip are ready"


def vip_answers(lab: Lab, access: Access, credentials: Credentials) -> bool:
    """Whether the lab's virtual address answers as the cluster of these credentials."""
    if lab.network.vip is None:
        return False
    try:
        with Cluster(access, [str(lab.network.vip)], credentials) as cluster:
            cluster.request("GET", "/readyz", accept="*/*", timeout=5.0)
    except SystemDown:
        return False
    except KubeError:
        return True
    return True


def is_vip_taken(lab: Lab, access: Access) -> bool:
    """Whether anything at all listens at the virtual address, on the API's port."""
    if lab.network.vip is None:
        return False
    try:
        with socket.create_connection(access.route(str(lab.network.vip), API_PORT), timeout=_KNOCK):
            return True
    except (OSError, LabError):
        return False
