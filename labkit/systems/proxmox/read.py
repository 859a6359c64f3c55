"""Read a Proxmox cluster with few calls, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from labkit.errors import StepFailed, SystemDown
from labkit.facts.proxmox import ProxmoxFacts, Storage, VmConfig, VmRow
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.proxmox.client import Client
from labkit.systems.proxmox.errors import ProxmoxError, Trouble
from labkit.systems.proxmox.rows import (
    is_quorate,
    parse_nodes,
    parse_pending,
    parse_resources,
    parse_storage,
    parse_vm,
)
from labkit.systems.proxmox.session import session_of

SIDE_BY_SIDE = 8


def read_proxmox(lab: Lab, access: Access) -> ProxmoxFacts:
    """Read the cluster: four calls, one for the storages of each host of the lab, one for each VM of the lab.

    While a VM of the lab is missing, the configurations of all guests are read, to see who has which address.

    Raises:
        SystemDown: no host answers, the certificate is another one, or the token is refused.
        StepFailed: the token may not read.
    """
    client = session_of(lab, access).reader
    try:
        return _read(lab, client)
    except ProxmoxError as exc:
        kind = SystemDown if exc.trouble is Trouble.AWAY else StepFailed
        raise kind(f"reading Proxmox: {exc.message}", next_step=exc.next_step) from exc


def _read(lab: Lab, client: Client) -> ProxmoxFacts:
    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
        version = pool.submit(client.get, "version")
        cluster = pool.submit(client.get, "cluster/status")
        privileges = pool.submit(_read_privileges, lab, client)
        resources = parse_resources(client.get("cluster/resources"))
        nodes = parse_nodes(cluster.result(), resources["node"])
        storages = pool.map(
            lambda node: _read_storages(client, node.name),
            [node for node in nodes if node.online and node.name in lab.hosts],
        )
        vms = tuple(sorted((parse_vm(row) for row in resources["vm"]), key=lambda vm: vm.vmid))
        online = {node.name for node in nodes if node.online}
        asked = [vm for vm in _worth_reading(lab, vms) if vm.node in online]
        configs = pool.map(lambda vm: read_config(client, vm), asked)
        said = str(version.result()["version"])
        return ProxmoxFacts(
            version=said,
            major=int(said.partition(".")[0]),
            quorate=is_quorate(cluster.result()),
            nodes=nodes,
            storages=tuple(storage for some in storages for storage in some),
            vms=vms,
            configs={vm.vmid: config for vm, config in zip(asked, configs, strict=True) if config is not None},
            privileges=privileges.result(),
            read_at=datetime.now(UTC),
        )


def _worth_reading(lab: Lab, vms: Iterable[VmRow]) -> list[VmRow]:
    rows = list(vms)
    if set(lab.vms) - {vm.name for vm in rows if not vm.template}:
        return rows
    return [vm for vm in rows if not vm.template and (vm.name in lab.vms or lab.proxmox.tag in vm.tags)]


def read_config(client: Client, vm: VmRow) -> VmConfig | None:
    """Read one guest's configuration with what is pending; None when it went away meanwhile."""
    kind = "qemu" if vm.kind == "qemu" else "lxc"
    try:
        return parse_pending(client.get(f"nodes/{vm.node}/{kind}/{vm.vmid}/pending"))
    except ProxmoxError as exc:
        if exc.trouble in (Trouble.GONE, Trouble.DENIED, Trouble.AWAY):
            return None
        raise


def _read_storages(client: Client, node: str) -> tuple[Storage, ...]:
    try:
        rows = client.get(f"nodes/{node}/storage")
    except ProxmoxError as exc:
        if exc.trouble is Trouble.AWAY:
            return ()  # it went away between two calls; its storages are missing, and the checks say so
        raise
    return tuple(sorted((parse_storage(node, row) for row in rows), key=lambda storage: storage.name))


def _read_privileges(lab: Lab, client: Client) -> dict[str, tuple[str, ...]] | None:
    """What the writing token may do, asked with the reading one."""
    wanted = {"userid": lab.proxmox.token.id} if lab.proxmox.read_token else {}
    try:
        held = client.get("access/permissions", **wanted)
    except ProxmoxError as exc:
        if exc.trouble in (Trouble.DENIED, Trouble.OTHER):
            return None
        raise
    return {path: tuple(sorted(privileges)) for path, privileges in sorted(held.items())}
