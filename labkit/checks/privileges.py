"""Which privileges the writing token needs for each runbook, per major version of Proxmox, and which it lacks.

From the API schemas of 8.4 and 9.1. Version 9 has no VM.Monitor, version 8 no VM.GuestAgent.*: a role is built
for one major version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from labkit.checks.base import error, info
from labkit.facts.proxmox import ProxmoxFacts
from labkit.lab import Lab
from labkit.plan import Finding

ID = "proxmox.privileges"

AGENT: Mapping[int, tuple[str, ...]] = {
    8: ("VM.Monitor",),
    9: ("VM.GuestAgent.Audit", "VM.GuestAgent.FileRead"),
}
"""What reading from the guest agent takes (addresses, the SSH host key), by major version."""

CONFIG = tuple(f"VM.Config.{part}" for part in ("CPU", "Disk", "Memory", "Network", "Options"))
"""Cloud-init's settings take VM.Config.Cloudinit or VM.Config.Network, and the network card takes the latter."""

VM = ("VM.Allocate", "VM.Audit", *CONFIG, "VM.PowerMgmt")
TEMPLATE = ("VM.Audit", "VM.Clone")
STORAGE = ("Datastore.AllocateSpace", "Datastore.Audit")


def needed_privileges(lab: Lab, facts: ProxmoxFacts) -> dict[str, tuple[str, ...]]:
    """Return what the runbook provision-vms needs: path -> privileges."""
    pool = lab.proxmox.pool
    needed: dict[str, set[str]] = {f"/pool/{pool}" if pool else "/vms": {*VM, *AGENT.get(facts.major, ())}}
    for machine in lab.machines:
        needed.setdefault(f"/nodes/{machine.host}", set()).add("Sys.Audit")
        needed.setdefault(f"/storage/{machine.storage}", set()).update(STORAGE)
        bridge = f"/sdn/zones/localnetwork/{machine.bridge}"
        needed.setdefault(bridge, set()).add("SDN.Use")
        for template in facts.templates(machine.host, machine.template):
            needed.setdefault(f"/vms/{template.vmid}", set()).update(TEMPLATE)
    return {path: tuple(sorted(privileges)) for path, privileges in sorted(needed.items())}


def missing_privileges(lab: Lab, facts: ProxmoxFacts) -> dict[str, tuple[str, ...]]:
    """Return what is needed and not held: path -> privileges; empty when all is there or nothing is known."""
    if facts.privileges is None:
        return {}
    missing = {
        path: tuple(privilege for privilege in privileges if not facts.may(path, privilege))
        for path, privileges in needed_privileges(lab, facts).items()
    }
    return {path: privileges for path, privileges in missing.items() if privileges}


def check_privileges(lab: Lab, facts: ProxmoxFacts) -> Iterator[Finding]:
    """Name each missing privilege with its path and the commands that grant it."""
    token = lab.proxmox.token.id
    if facts.privileges is None:
        yield info(
            ID,
            f"token {token}",
            "a reading token that may see the privileges of this one",
            "none: its privileges could not be read",
            "grant the reading token the role PVEAuditor on /",
        )
    needed = needed_privileges(lab, facts)
    for path, privileges in missing_privileges(lab, facts).items():
        yield error(
            ID,
            f"token {token} on {path}",
            f"the privileges {', '.join(needed[path])}",
            f"without {', '.join(privileges)}",
            grant_commands(token, path, needed[path]),
        )


def grant_commands(token: str, path: str, privileges: Iterable[str]) -> str:
    """Return the pveum commands that grant privileges on a path to a token and to its user.

    A token with separated privileges may do what both itself and its user may, so both get the role. It holds all
    that is needed on the path, because an entry on a path replaces what was inherited from above.
    """
    role = "labkit" + path.replace("/", "-").rstrip("-")
    user = token.partition("!")[0]
    return (
        f'on a Proxmox host: pveum role add {role} --privs "{",".join(privileges)}"'
        f" && pveum acl modify {path} --roles {role} --users {user} --tokens '{token}'"
    )
