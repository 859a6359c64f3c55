"""Carry out one change of the k3s runbooks."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from labkit.errors import LabError, StepFailed
from labkit.lab import Lab
from labkit.lab.k3sconfig import token_password
from labkit.plan import Action, Change
from labkit.redaction import remember
from labkit.systems import ssh
from labkit.systems.access import Access, Step
from labkit.systems.guests import TOKEN
from labkit.systems.k3s.cluster import ask_servers, open_cluster
from labkit.systems.k3s.halt import begin
from labkit.systems.k3s.join import configure, finish, join
from labkit.systems.k3s.kubeconfig import store_kubeconfig
from labkit.systems.k3s.nodes import drain_node, label, remove_node, return_node
from labkit.systems.k3s.restore import finish_restore, first_member, rejoin
from labkit.systems.k3s.upgrade import save_snapshot, upgrade
from labkit.systems.k3s.vip import wait_for_vip, write_manifest
from labkit.systems.k3s.waiting import wait_for_health
from labkit.systems.kubernetes import Cluster

Apply = Callable[[Lab, Access, Change, Step], str]


def apply_change(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Make one change of the runbooks of k3s true, and return what is there now.

    Raises:
        StepFailed: it did not succeed; names the machine, the expected, the got, the likely causes.
        SystemDown: a guest or the API stopped answering.
    """
    apply = _APPLY.get((change.kind, change.action))
    if apply is None:
        raise LabError(f"{change.id}: expected a change of k3s, got one that is not known")
    return apply(lab, access, change, step)


def keep_token(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Store the cluster's token where the lab file says; a new one when there is no cluster yet."""
    new = change.after["token"] == "a new one"  # noqa: S105  # words of the plan, no token
    step.say(f"stores the token at {lab.k3s.token}")
    access.secrets.store(lab.k3s.token, remember(secrets.token_hex(32) if new else _cluster_token(lab, access)))
    return f"stored at {lab.k3s.token}: keep a copy elsewhere"


def _cluster_token(lab: Lab, access: Access) -> str:
    for machine in lab.servers:
        try:
            with ssh.connect(lab, access, machine) as shell:
                text = shell.read_file(TOKEN, sudo=True).decode().strip()
        except LabError:
            continue
        if text:
            return token_password(remember(text))
    raise StepFailed(f"token: expected one in {TOKEN} on a server, got none",
                     next_step=f"put the cluster's token where {lab.k3s.token} points")  # fmt: skip


def keep_kubeconfig(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Merge the lab's context into the user's kubeconfig.

    Raises:
        StepFailed: no server hands out a kubeconfig, or the file cannot be written.
    """
    credentials = next((found for _, found in ask_servers(lab, access)), None)
    if credentials is None:
        raise StepFailed("kubeconfig: expected one on a server, got none", next_step="run bootstrap-k3s again")
    server = str(change.after["server"])
    path = store_kubeconfig(lab, access, credentials, server)
    step.say(f"context {lab.name} in {path}")
    with Cluster(access, [urlsplit(server).hostname or ""], open_cluster(lab, access).credentials) as cluster:
        cluster.get("/api/v1/namespaces/kube-system")
    return f"context {lab.name}, {server}"


def settle(lab: Lab, access: Access, change: Change, step: Step) -> str:
    """Wait until the cluster as a whole is well, its DNS too."""
    wait_for_health(lab, access, step, dns="coredns" not in lab.k3s.disable)
    return f"cluster {change.target} is healthy"


_APPLY: Mapping[tuple[str, Action], Apply] = {
    ("token", Action.CREATE): keep_token,
    ("server", Action.CREATE): join,
    ("agent", Action.CREATE): join,
    ("server", Action.ACT): finish,
    ("agent", Action.ACT): finish,
    ("k3s-config", Action.UPDATE): configure,
    ("kube-vip", Action.CREATE): write_manifest,
    ("kube-vip", Action.UPDATE): write_manifest,
    ("vip", Action.ACT): wait_for_vip,
    ("node", Action.UPDATE): label,
    ("node", Action.DELETE): remove_node,
    ("kubeconfig", Action.CREATE): keep_kubeconfig,
    ("kubeconfig", Action.UPDATE): keep_kubeconfig,
    ("snapshot", Action.CREATE): save_snapshot,
    ("k3s-version", Action.UPDATE): upgrade,
    ("cluster", Action.ACT): settle,
    ("node-drain", Action.ACT): drain_node,
    ("node-return", Action.ACT): return_node,
    ("etcd-restore", Action.CREATE): begin,
    ("etcd-member", Action.ACT): first_member,
    ("etcd-member", Action.CREATE): rejoin,
    ("etcd-restore", Action.ACT): finish_restore,
}
