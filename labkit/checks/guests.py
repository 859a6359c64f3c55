"""May k3s come here: checks on the guests, as SSH showed them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from statistics import median

from labkit.checks.base import Check, error, info, warning
from labkit.facts.guests import Guest, GuestFacts, TokenForm, TokenState
from labkit.facts.k3s import K3sFacts
from labkit.lab import Lab, Machine
from labkit.lab.addresses import address_clashes
from labkit.lab.kubevip import deploys_kube_vip
from labkit.plan import Finding
from labkit.rules.k3s_members import find_cluster
from labkit.rules.versions import cluster_version

ARCHITECTURES = ("x86_64", "aarch64")
CLOCK_LIMIT = 2.0
"""Seconds: leases and certificates look at the time."""
PACKAGES = ("open-iscsi", "nfs-common")
"""What Longhorn needs on every node."""
MODULES = ("iscsi_tcp",)
PORTS = {"server": (2379, 2380, 6443, 10250), "agent": (10250,)}
"""What k3s listens on, by role."""

_GIB = 1024**3
_LEAST_MEMORY = {"server": 2 * _GIB, "agent": _GIB // 2}
_LEAST_DISK = 3 * _GIB
_RESERVED = 0.85
"""A kernel keeps a part of the memory for itself: so much of what a VM has is seen at least."""


def guests_are_fit(lab: Lab, *, only: Collection[str] = ()) -> Check:
    """Return the check that k3s can come to every machine of the lab (or to some only), or is there already."""
    return Check(
        "guests-fit",
        f"all {len(only) or len(lab.vms)} machines answer, have the right time, room, free ports, and no leftovers",
        ("guests", "k3s"),
        lambda facts: check_guests(lab, facts["guests"], facts["k3s"], only),
    )


def check_guests(lab: Lab, facts: GuestFacts, k3s: K3sFacts, only: Collection[str] = ()) -> Iterator[Finding]:
    """Say what keeps k3s from the machines, and what a person should know about them."""
    yield from check_restoring(facts)
    yield from find_cluster(lab, facts, k3s).findings
    yield from check_token(lab, facts)
    yield from check_vip(lab, facts, k3s)
    if any(not facts.guest(machine.name).installed for machine in lab.machines):
        yield from check_airgap(facts, cluster_version(lab, k3s))
    middle, ca = _middle(facts), cluster_ca(lab, facts, k3s)
    for machine in lab.machines:
        if only and machine.name not in only:
            continue
        guest = facts.guest(machine.name)
        if not guest.reachable:
            yield from _check_reachable(machine, guest, k3s)
            continue
        yield from _check_machine(lab, machine, guest)
        yield from _check_clock(machine, guest, middle)
        yield from check_leftovers(machine, guest, ca)
        if not guest.installed:
            yield from _check_ports(machine, guest)


def check_restoring(facts: GuestFacts) -> Iterator[Finding]:
    """Say when a restore of etcd has not come to its end: old data must not be started beside the restored one."""
    names = [guest.name for guest in facts.guests if guest.restoring]
    if names:
        yield error("k3s.restoring", "etcd", "no restore half done", f"one that holds {', '.join(names)}",
                    "run restore-etcd again: it goes on")  # fmt: skip


def check_token(lab: Lab, facts: GuestFacts) -> Iterator[Finding]:
    """Say what is wrong with the lab's token: it is not there, or has a form that k3s does not take."""
    if facts.token is TokenForm.MISSING:
        kept = lab.k3s.token.partition(":")[0] in ("file", "keyring")
        make, remedy = (info, "bootstrap-k3s stores it there") if kept else (error, "set it: `openssl rand -hex 32`")
        yield make("k3s.token", "k3s.token", f"the cluster's token at {lab.k3s.token}", "none", remedy)
    if facts.token is TokenForm.FULL:
        yield error("k3s.token", "k3s.token", "the short form of the token", "the full form (K10...)",
                    "keep only what stands after `::server:`: the first server takes no other")  # fmt: skip
    elif facts.token is TokenForm.ODD:
        yield error("k3s.token", "k3s.token", "a token of letters, digits and plain signs",
                    "one with white space or quotes", "choose another one before the first server starts")  # fmt: skip


def check_airgap(facts: GuestFacts, version: str) -> Iterator[Finding]:
    """Say what is wrong with the files that are carried to the guests; `version` is the one to be installed."""
    if facts.airgap is None:
        return
    for problem in facts.airgap.problems:
        yield error("k3s.airgap", f"file {problem.file}", problem.expected, problem.got, problem.remedy)
    if facts.airgap.versions and version not in facts.airgap.versions:
        yield error("k3s.airgap", f"k3s in {facts.airgap.folder}", version, ", ".join(facts.airgap.versions),
                    f"put the files of {version} there: binary, images and checksums")  # fmt: skip


def check_vip(lab: Lab, facts: GuestFacts, k3s: K3sFacts) -> Iterator[Finding]:
    """Say when the virtual address is taken by someone else, is not served, or is still served though not wanted."""
    deployed = [guest.name for guest in facts.guests if guest.kube_vip is not None]
    if lab.network.vip is None:
        if deployed:
            yield warning("k3s.vip", "kube-vip", "none: the lab file has no network.vip",
                          f"its manifest on {', '.join(deployed)}", _NO_VIP)  # fmt: skip
        return
    subject = f"address {lab.network.vip}"
    if k3s.up and not k3s.vip:
        ours = deploys_kube_vip(lab)
        make = info if ours and not deployed else warning
        remedy = "bootstrap-k3s deploys kube-vip" if ours and not deployed else _SILENT_VIP
        yield make("k3s.vip", subject, "the API of the cluster at network.vip", "no answer, or another's",
                   remedy if ours else "see to what serves it; until then the servers' own addresses are used",
                   )  # fmt: skip
    elif k3s.vip and not k3s.up and not any(guest.server_db for guest in facts.guests):
        yield error("k3s.vip", subject, "nobody at network.vip before the cluster is there", "an answer on port 6443",
                    "choose another virtual address")  # fmt: skip


_NO_VIP = (
    "write network.vip back, or let it go: kubectl -n kube-system delete daemonset kube-vip, "
    "then remove /var/lib/rancher/k3s/server/manifests/kube-vip.yaml there"
)
_SILENT_VIP = "look at `kubectl -n kube-system logs daemonset/kube-vip`: its interface, and whether the address is free"


def _check_reachable(machine: Machine, guest: Guest, k3s: K3sFacts) -> Iterator[Finding]:
    subject = f"guest {machine.name}"
    if guest.host_key == "wrong":
        yield error("guest.host-key", subject, f"the machine that was made, at {machine.address}",
                    "another host key", "do not go on before you know which machine it is")  # fmt: skip
        return
    node = k3s.node(machine.name)
    make = warning if node is not None and node.ready else error
    yield make("guest.reachable", subject, f"an answer over SSH at {machine.address}",
               guest.problem or "none", "run provision-vms, or look at its console in Proxmox")  # fmt: skip


def _check_machine(lab: Lab, machine: Machine, guest: Guest) -> Iterator[Finding]:
    subject = f"guest {machine.name}"
    fits = ARCHITECTURES[:1] if lab.k3s.install == "airgap" else ARCHITECTURES
    if guest.arch not in fits:
        yield error("guest.arch", subject, " or ".join(fits), guest.arch or "unknown", "use another template")
    least = _LEAST_MEMORY[machine.role]
    if guest.memory < _RESERVED * _GIB / 2:
        yield error("guest.memory", subject, "512 MiB at least", _mib(guest.memory), "give the VM more memory")
    elif guest.memory < _RESERVED * least:
        yield warning("guest.memory", subject, f"{_mib(least)} for the role {machine.role}", _mib(guest.memory),
                      "k3s may be slow or be killed; raise memory in the lab file")  # fmt: skip
    if guest.disk_free < _LEAST_DISK:
        make = warning if guest.installed else error
        yield make("guest.disk", subject, f"{_mib(_LEAST_DISK)} free at least", _mib(guest.disk_free),
                   "free some room, or raise disk in the lab file and run provision-vms")  # fmt: skip
    yield from _check_longhorn(lab, subject, guest)
    yield from _check_addresses(lab, machine, guest)


def missing_packages(guest: Guest) -> tuple[str, ...]:
    """Return the packages that Longhorn needs and the machine lacks; none where nobody can tell."""
    return () if guest.packages is None else tuple(name for name in PACKAGES if name not in guest.packages)


def missing_modules(guest: Guest) -> tuple[str, ...]:
    """Return the kernel modules that Longhorn needs and that are not loaded."""
    return tuple(name for name in MODULES if name not in guest.modules)


def _check_longhorn(lab: Lab, subject: str, guest: Guest) -> Iterator[Finding]:
    missing = missing_packages(guest)
    if guest.packages is None:
        yield warning("guest.packages", subject, f"dpkg, to look for {', '.join(PACKAGES)}", "none",
                      "install what Longhorn needs by hand")  # fmt: skip
    elif missing and lab.k3s.install == "airgap":
        yield warning("guest.packages", subject, f"{', '.join(PACKAGES)}", f"no {', '.join(missing)}",
                      "put them into the template: nothing is downloaded with `install: airgap`")  # fmt: skip
    elif missing:
        yield info("guest.packages", subject, f"{', '.join(PACKAGES)}", f"no {', '.join(missing)}",
                   "bootstrap-k3s installs them")  # fmt: skip


def _check_addresses(lab: Lab, machine: Machine, guest: Guest) -> Iterator[Finding]:
    subject = f"guest {machine.name}"
    if guest.addresses and str(machine.address) not in guest.addresses:
        yield error("guest.address", subject, f"the address {machine.address}", ", ".join(guest.addresses),
                    "run provision-vms")  # fmt: skip
    for clash in address_clashes(lab, guest.addresses, vip=not guest.installed):
        yield error("guest.address-clash", subject, "addresses of its own", clash,
                    "give the VM another address, or move network.load_balancer or network.vip")  # fmt: skip


def _middle(facts: GuestFacts) -> float:
    """The offset that most machines share; 0 is the clock of the machine that asks, which may be off itself."""
    offsets = [guest.clock_offset for guest in facts.guests if guest.clock_offset is not None]
    return median(offsets) if len(offsets) > 2 else 0.0


def _check_clock(machine: Machine, guest: Guest, middle: float) -> Iterator[Finding]:
    if guest.clock_offset is None:
        return
    off = guest.clock_offset - middle
    if abs(off) > CLOCK_LIMIT + guest.clock_error:
        yield error("guest.clock", f"guest {machine.name}", f"a clock within {CLOCK_LIMIT:g} s of the others",
                    f"{off:+.1f} s", "on it: `timedatectl set-ntp true`; look at its time servers")  # fmt: skip


def _check_ports(machine: Machine, guest: Guest) -> Iterator[Finding]:
    taken = sorted(set(PORTS[machine.role]) & set(guest.ports))
    if taken:
        yield error("guest.ports", f"guest {machine.name}", "free ports for k3s",
                    f"{', '.join(map(str, taken))} taken", "`ss -ltnp` on it names the program; stop it")  # fmt: skip


def cluster_ca(lab: Lab, facts: GuestFacts, k3s: K3sFacts) -> str:
    """Return the fingerprint of the CA of the lab's cluster, from its API or from a server's disk; empty without."""
    if k3s.up:
        return k3s.ca
    guests = (facts.guest(server.name) for server in lab.servers)
    return next((guest.cluster_ca for guest in guests if guest.server_db), "")


def check_leftovers(machine: Machine, guest: Guest, ca: str) -> Iterator[Finding]:
    """Say when a machine holds data of another cluster than that with this CA, or was made with another token."""
    subject = f"guest {machine.name}"
    script = "k3s-uninstall.sh" if machine.role == "server" else "k3s-agent-uninstall.sh"
    if guest.cluster_ca not in ("", ca):
        expected = "a new machine, or one of this cluster" if ca else "a new machine"
        yield error("guest.leftovers", subject, expected, "data of another cluster",
                    f"run {script} on it, or make it anew with provision-vms")  # fmt: skip
    if guest.server_db and guest.server_token is TokenState.OTHER:
        yield error("guest.token", subject, "data made with the token of k3s.token", "data made with another token",
                    "put the token of /var/lib/rancher/k3s/server/token where k3s.token points")  # fmt: skip
    if machine.role == "agent" and guest.server_db:
        yield error("guest.leftovers", subject, "an agent without an etcd database", "one of a former server",
                    "remove its node (`destroy`), then run k3s-uninstall.sh on it, or make it anew")  # fmt: skip


def _mib(size: int) -> str:
    return f"{size // 1024**2} MiB"
