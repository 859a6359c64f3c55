"""Why a node did not join: the known messages of k3s, what was measured, and what to do about each. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """One reason: an id, what it is in a sentence, what to do, and what points to it."""

    id: str
    sentence: str
    remedy: str
    seen: str = ""

    def __str__(self) -> str:
        because = f" ({self.seen})" if self.seen else ""
        return f"{self.sentence}{because}; {self.remedy}"


@dataclass(frozen=True)
class Evidence:
    """What was measured beside the log. None means: not known.

    Attributes:
        unit: state of the unit, for example activating.
        seed: `address:6443` of the server to join; empty for the first server.
        seed_reachable: whether the node can open that port.
        seed_running: whether k3s is active on the seed.
        same_token: whether the tokens of node and cluster are the same, compared by hash.
        clock_offset: seconds that the node's clock is ahead of the seed's.
        disk_free: free bytes on the node.
        clash: who else holds an address of the node; empty when nobody.
        answered: whether the node itself still answers.
    """

    unit: str = ""
    seed: str = ""
    seed_reachable: bool | None = None
    seed_running: bool | None = None
    same_token: bool | None = None
    clock_offset: float | None = None
    disk_free: int | None = None
    clash: str = ""
    answered: bool = True


CLOCK_LIMIT = 2.0
"""Seconds by which clocks may differ: certificates and leases look at them."""
DISK_LEAST = 512 * 1024**2

_REBUILD = "on that node run k3s-killall.sh, remove /var/lib/rancher/k3s/server, and run bootstrap-k3s again"

_MESSAGES: tuple[tuple[str, str, str, str], ...] = (
    (
        "other-token",
        r"bootstrap data already found and encrypted with different token",
        "the node's token is not the one that the cluster's data is encrypted with",
        "put the cluster's token where k3s.token points; if the node holds leftovers, " + _REBUILD,
    ),
    (
        "leftovers",
        r"newer than datastore and could cause a cluster outage",
        "the node holds certificates of an earlier installation",
        _REBUILD,
    ),
    (
        "token-form",
        r"failed to normalize (?:server )?token",
        "the token has a form that k3s does not take",
        "use a short token of letters and digits",
    ),
    (
        "other-cluster",
        r"token CA hash does not match the Cluster CA certificate hash",
        "the node's full token names the CA of another cluster",
        "use the short form of the token in k3s.token",
    ),
    (
        "wrong-token",
        r"(?:401 Unauthorized|not authorized|invalid token format|failed to validate token)",
        "the cluster refuses the node's token",
        "put the cluster's token where k3s.token points",
    ),
    (
        "name-taken",
        r"duplicate node name found",
        "an etcd member with the node's name exists: a dead server of that name was never removed",
        "delete the Node of the dead server, or run bootstrap-k3s again: it does that for a new machine",
    ),
    (
        "password-rejected",
        r"Node password rejected|node password not set|unable to verify password for node",
        "the cluster knows another machine under the node's name",
        "delete the Node (its password goes with it), then run bootstrap-k3s again",
    ),
    (
        "critical-mismatch",
        r"critical configuration value mismatch|failed to validate server configuration",
        "a setting that all servers must share differs on the node",
        "compare /etc/rancher/k3s/config.yaml of all servers: disable, cluster-cidr, flannel-backend and the like",
    ),
    (
        "removed-member",
        r"the member has been permanently removed from the cluster",
        "the node's etcd member was removed from the cluster, but its data is still there",
        _REBUILD,
    ),
    (
        "port-taken",
        r"bind: address already in use",
        "another program holds a port that k3s needs",
        "`ss -ltnp` on the node names it; stop it",
    ),
    (
        "disk-full",
        r"no space left on device",
        "the node's disk is full",
        "free some room, or give the VM a larger disk with provision-vms",
    ),
    (
        "clock",
        r"certificate has expired or is not yet valid|x509: .*not yet valid",
        "a certificate is not valid at the node's time",
        "set the clock: `timedatectl set-ntp true`, and look at chrony or systemd-timesyncd",
    ),
    (
        "download",
        r"Download (?:failed|sha256 does not match)",
        "the installer could not fetch k3s",
        "look at the node's way to the internet and its DNS, or use k3s.install: airgap",
    ),
    (
        "no-systemd",
        r"Can not find systemd or openrc",
        "the node has no systemd",
        "use a template with systemd",
    ),
    (
        "other-ca",
        r"x509: certificate signed by unknown authority",
        "the node has the CA of another cluster",
        _REBUILD,
    ),
    (
        "snapshot-path",
        r"etcd: snapshot path (?:does not exist|must be a file)",
        "the snapshot to restore from is not there",
        "name a snapshot that `k3s etcd-snapshot ls` lists",
    ),
    (
        "snapshot-damaged",
        r"snapshot missing hash|expected sha256 \[|not a valid zip file",
        "the snapshot is damaged or cut off",
        "take another one, or another copy of it",
    ),
    (
        "reset-joins",
        r"cannot perform cluster-reset while server URL is set",
        "the settings name a server to join",
        "take `server` out of /etc/rancher/k3s/config.yaml and its drop-ins",
    ),
    (
        "was-reset",
        r"cluster membership was previously reset",
        "the cluster was reset before and the marker of that is still there",
        "start k3s normally; only for another reset delete server/db/reset-flag first",
    ),
    (
        "seed-unreachable",
        r"failed to get CA certs: .*(?:connection refused|deadline exceeded|no route to host|i/o timeout)",
        "the server to join does not answer on port 6443",
        "look whether k3s runs there, and at firewalls and the node's network interface",
    ),
    (
        "no-address",
        r"(?:cannot assign requested address|failed to find interface|unable to find suitable network address)",
        "the node does not have the address that the lab file gives it, or uses another interface",
        "compare `ip addr` on the node with the lab file; run provision-vms when they differ",
    ),
    (
        "etcd-busy",
        r"etcdserver: unhealthy cluster|members to finish joining|too many learner|not yet been promoted from learner",
        "another member is still joining, or etcd is not healthy",
        "wait until all servers vote, then run bootstrap-k3s again: it joins one at a time",
    ),
    (
        "no-network",
        r"cni plugin not initialized|NetworkPluginNotReady",
        "the network of the node's pods does not come up",
        "look for flannel in the log, at node-ip and its interface, and at firewalls for 8472/udp between the nodes",
    ),
)

KNOWN = tuple(name for name, *_ in _MESSAGES)
"""The ids of all causes that a log can tell, the surest first."""


_LASTING = frozenset({
    "other-token", "wrong-token", "token-form", "other-cluster", "leftovers", "name-taken", "password-rejected",
    "critical-mismatch", "removed-member", "port-taken", "disk-full",
})  # fmt: skip


def match_causes(log: str, evidence: Evidence = Evidence()) -> tuple[Cause, ...]:
    """Return the likely causes, the surest first; empty when nothing known was found.

    What was measured stands before what the log says: a log may be old, and one message has several reasons.
    """
    return tuple({cause.id: cause for cause in (*_measured(evidence), *_logged(log))}.values())


def lasting_cause(log: str) -> Cause | None:
    """Return a cause that no waiting mends, when the log of this start names it more than once; else None."""
    for name, pattern, sentence, remedy in _MESSAGES:
        count = sum(1 for line in log.splitlines() if re.search(pattern, line, re.IGNORECASE))
        if name in _LASTING and count > 1:
            return Cause(name, sentence, remedy)
    return None


def _logged(log: str) -> list[Cause]:
    found = []
    for name, pattern, sentence, remedy in _MESSAGES:
        lines = [line for line in log.splitlines() if re.search(pattern, line, re.IGNORECASE)]
        if lines:
            found.append(Cause(name, sentence, remedy, seen=f"the log: {_shorten(lines[-1])}"))
    return found


def _measured(evidence: Evidence) -> list[Cause]:
    found = []
    if not evidence.answered:
        found.append(Cause("node-away", "the node itself does not answer any more",
                           "look at its console in Proxmox, or run provision-vms"))  # fmt: skip
    if evidence.same_token is False:
        found.append(Cause("wrong-token", "the cluster refuses the node's token",
                           "put the cluster's token where k3s.token points",
                           "the hashes of the two tokens differ"))  # fmt: skip
    if evidence.clash:
        found.append(Cause("address-clash", "an address of the node belongs to somebody else too",
                           "give the VM another address, or move the range", evidence.clash))  # fmt: skip
    if evidence.clock_offset is not None and abs(evidence.clock_offset) > CLOCK_LIMIT:
        found.append(Cause("clock", "a certificate is not valid at the node's time",
                           "set the clock: `timedatectl set-ntp true`, and look at chrony or systemd-timesyncd",
                           f"its clock is {evidence.clock_offset:+.1f} s off"))  # fmt: skip
    if evidence.disk_free is not None and evidence.disk_free < DISK_LEAST:
        found.append(Cause("disk-full", "the node's disk is full",
                           "free some room, or give the VM a larger disk with provision-vms",
                           f"{evidence.disk_free // 1024**2} MiB are free"))  # fmt: skip
    if evidence.seed and evidence.seed_reachable is False:
        found.append(_unreachable(evidence))
    return found


def _unreachable(evidence: Evidence) -> Cause:
    remedy = "look at firewalls between the two, and whether the node uses the right network interface"
    if evidence.seed_running is False:
        remedy = "k3s does not run there: `journalctl -u k3s` on it says why; run bootstrap-k3s again"
    return Cause("seed-unreachable", "the server to join does not answer on port 6443", remedy,
                 f"from the node, {evidence.seed} cannot be opened")  # fmt: skip


def explain(machine: str, log: str, evidence: Evidence) -> str:
    """Return the causes as lines for an error; the end of the log when nothing known was found."""
    causes = match_causes(log, evidence)
    if causes:
        return "\n".join(f"cause: {cause}" for cause in causes)
    tail = [line for line in log.splitlines() if line.strip()][-5:]
    state = f"its unit is {evidence.unit or 'unknown'}"
    if not tail:
        return f"no known cause: {state} and its log is empty; look at {machine}'s console"
    return "\n".join([f"no known cause: {state}; the end of its log:", *(f"  {_shorten(line)}" for line in tail)])


def _shorten(line: str, width: int = 240) -> str:
    text = " ".join(line.split())
    return text if len(text) <= width else text[: width - 1] + "…"
