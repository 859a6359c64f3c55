"""The scenario `k3s`: the cluster as the runbook would have made it, through the same actors, without their delays."""

from __future__ import annotations

import asyncio

import yaml

from labkit.lab.k3sconfig import api_url, render_config, wanted_config
from labkit.lab.kubevip import deploys_kube_vip, render_kube_vip
from labkit.lab.models import Machine
from labkit.twin.guests.guest import Guest
from labkit.twin.k3s import places
from labkit.twin.k3s.script import binary, stub, unit_text
from labkit.twin.k3s.server import Server
from labkit.twin.k3s.snapshots import SCHEDULED, save_snapshot
from labkit.twin.k3s.system import K3s
from labkit.twin.k3s.userfiles import user_file
from labkit.twin.state import write_whole
from labkit.twin.world import World

_PACKAGES = {"open-iscsi": "2.1.9-3ubuntu5", "nfs-common": "1:2.6.4-3ubuntu5"}
_PATIENCE = 30.0
"""Real seconds for a machine to come up; it takes milliseconds."""


def minor_before(version: str) -> str:
    """Return a version of the minor before: `v1.33.4+k3s1` gives `v1.32.4+k3s1`."""
    major, minor, rest = version.split(".", 2)
    return f"{major}.{int(minor) - 1}.{rest}"


async def build(k3s: K3s, version: str) -> None:
    """Have every machine of the lab in one cluster of that version, all nodes Ready and all members voting."""
    lab = k3s.world.lab
    token = k3s.world.secrets[lab.k3s.token]
    first = lab.servers[0]
    k3s.at_once = True
    up = [(machine, guest) for machine in lab.machines if (guest := k3s.guests.named(machine.name)) is not None]
    up = [(machine, guest) for machine, guest in up if guest.phase == "up"]
    for machine, guest in up:
        if machine.role == "server":
            join = None if machine.name == first.name else api_url(first.address)
            await _come_up(k3s, guest, machine, render_config(wanted_config(lab, machine, join), token), version)
    agents = [pair for pair in up if pair[0].role == "agent"]
    configs = [render_config(wanted_config(lab, machine, api_url(first.address)), token) for machine, _ in agents]
    coming = zip(agents, configs, strict=True)
    await asyncio.gather(*(_come_up(k3s, guest, machine, config, version) for (machine, guest), config in coming))
    await _wait_for_virtual(k3s)
    k3s.at_once = False
    _save_snapshots(k3s)
    _keep_kubeconfig(k3s, first)


async def _come_up(k3s: K3s, guest: Guest, machine: Machine, config: str, version: str) -> None:
    """Put the files of k3s on a guest, start it, and wait until its node is ready and its member votes."""
    _furnish(guest)
    files, role = guest.files, machine.role
    files.put(places.CONFIG, config, mode=0o600)
    files.put(places.BINARY, binary(version), mode=0o755)
    for name in ("kubectl", "crictl", "ctr"):
        files.link("k3s", f"/usr/local/bin/{name}")
    for name in ("k3s-killall.sh", "k3s-uninstall.sh" if role == "server" else "k3s-agent-uninstall.sh"):
        files.put(f"/usr/local/bin/{name}", stub(name), mode=0o755)
    unit = f"/etc/systemd/system/{places.UNITS[role]}.service"
    files.put(f"{unit}.env", "", mode=0o600)
    files.put(unit, unit_text(role, []))
    if role == "server":
        _serve_virtual(k3s, guest)
    host = k3s.host(guest)
    host.follow_units()
    await guest.units.start(host.service(role).unit)
    async with asyncio.timeout(_PATIENCE):
        while not _is_ready(k3s, machine):  # noqa: ASYNC110  # it takes a few turns of the loop
            await asyncio.sleep(0)


def _is_ready(k3s: K3s, machine: Machine) -> bool:
    cluster = k3s.cluster
    node = cluster.nodes.get(machine.name) if cluster else None
    return node is not None and node.is_ready and node.voter in {None, True}


def _furnish(guest: Guest) -> None:
    """Install what Longhorn needs on every node."""
    guest.packages.update(_PACKAGES)
    guest.modules.update({"iscsi_tcp", "br_netfilter"})
    guest.files.put("/etc/modules-load.d/labkit.conf", "# Kept by labkit: what Longhorn needs.\niscsi_tcp\n")


def _serve_virtual(k3s: K3s, guest: Guest) -> None:
    """Leave the manifest of kube-vip where k3s finds it, in a lab with a virtual address."""
    lab = k3s.world.lab
    if deploys_kube_vip(lab):
        names = {entry["ip-address"]: card["name"] for card in guest.interfaces() for entry in card["ip-addresses"]}
        interface = lab.network.vip_interface or names.get(guest.address, "")
        text = render_kube_vip(str(lab.network.vip), lab.k3s.kube_vip, interface)
        guest.files.put(f"{places.MANIFESTS}/kube-vip.yaml", text, mode=0o600)


async def _wait_for_virtual(k3s: K3s) -> None:
    """Wait until the virtual address of the lab answers."""
    lab = k3s.world.lab
    async with asyncio.timeout(_PATIENCE):
        while deploys_kube_vip(lab) and not (k3s.cluster and str(lab.network.vip) in k3s.cluster.virtual):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _save_snapshots(k3s: K3s) -> None:
    """Leave a scheduled snapshot of this moment on every server; no object is younger than it."""
    moment = k3s.world.clock.now()
    for guest in k3s.guests:
        run = k3s.host(guest).run
        if isinstance(run, Server):
            save_snapshot(run, run.settings, SCHEDULED, moment=moment)


def _keep_kubeconfig(k3s: K3s, first: Machine) -> None:
    """Put the context of the lab into the kubeconfig of the twin's user."""
    lab, guest = k3s.world.lab, k3s.guests.named(first.name)
    if guest is not None and guest.files.exists(places.KUBECONFIG):
        url = api_url(lab.network.vip if deploys_kube_vip(lab) else first.address)
        keep_kubeconfig(k3s.world, guest.files.read(places.KUBECONFIG).decode(), url)


def keep_kubeconfig(world: World, text: str, url: str) -> None:
    """Put the context of a cluster, by its administrator's kubeconfig, into that of the twin's user."""
    lab, document = world.lab, yaml.safe_load(text)
    cluster, user = document["clusters"][0], document["users"][0]
    cluster["cluster"]["server"] = url
    cluster["name"] = user["name"] = lab.name
    document["contexts"] = [{"name": lab.name, "context": {"cluster": lab.name, "user": lab.name}}]
    document["current-context"] = lab.name
    place = user_file(world.options.state, lab.k3s.kubeconfig)
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(place, yaml.safe_dump(document, sort_keys=False, width=1 << 20))
