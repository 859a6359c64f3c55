"""Parts of the twin without a process: the shell's grammar, the jail, endpoints, keys, cloud-init's files."""

import asyncio
import os
import socket
from pathlib import Path

import asyncssh
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.lab.loader import load_lab
from labkit.twin.endpoints import Endpoints
from labkit.twin.guests.files import Files
from labkit.twin.guests.group import Guests
from labkit.twin.guests.units import Unit, UnitError, Units
from labkit.twin.options import Options
from labkit.twin.proxmox import cloudinit
from labkit.twin.secrets import ssh_private_key, ssh_public_key
from labkit.twin.seed import Seed
from labkit.twin.world import World, make_world


@pytest.fixture(scope="module")
def world(lab_file: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(Options(lab_file, tmp_path_factory.mktemp("state"), scale=0.001), load_lab(lab_file))


def test_a_port_is_refused_until_somebody_listens_and_after(tmp_path: Path) -> None:
    endpoints = Endpoints(tmp_path / "connect.json")
    endpoints.reserve("10.0.0.1:22", "10.0.0.2:22")
    place = ("127.0.0.1", endpoints.port("10.0.0.1:22"))
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place, 5)
        listener = endpoints.listen("10.0.0.1:22")
        socket.create_connection(place, 5).close()
        listener.close()
    assert endpoints.port("10.0.0.1:22") == place[1]


def test_two_cannot_listen_at_one_address(tmp_path: Path) -> None:
    endpoints = Endpoints(tmp_path / "connect.json")
    with endpoints.listen("10.0.0.1:22"), pytest.raises(OSError, match="in use"):
        endpoints.listen("10.0.0.1:22")


@given(st.binary(min_size=32, max_size=32))
@settings(max_examples=25)
def test_keys_are_real_and_the_same_every_time(secret: bytes) -> None:
    private = ssh_private_key(secret)
    assert private == ssh_private_key(secret)
    key = asyncssh.import_private_key(private)
    assert key.export_public_key().decode().split()[:2] == ssh_public_key(private).split()[:2]
    public = asyncssh.import_public_key(ssh_public_key(private))
    assert public.verify(b"data", key.sign(b"data", b"ssh-ed25519"))


def test_a_seed_depends_on_everything_it_is_given() -> None:
    seeds = {
        Seed(number, lab).hex(*words) for number in (1, 2) for lab in "ab" for words in (("x", "y"), ("xy",), ("x",))
    }
    assert len(seeds) == 12
    assert Seed(1, "a").mac("vm").startswith("BC:24:11:")


NAMES = st.sampled_from(["a", "b", "..", ".", "etc", "link", "up", "root", "far"])


@given(st.lists(NAMES, max_size=8), st.booleans())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_leads_out_of_the_jail(tmp_path: Path, parts: list[str], follow: bool) -> None:
    files = Files(tmp_path / "jail")
    links = {"link": "/etc/../../..", "up": "../../../..", "root": "/", "far": str(tmp_path)}
    for name, target in links.items():
        if not os.path.lexists(files.root / name):
            (files.root / name).symlink_to(target)
    (files.root / "a" / "b").mkdir(parents=True, exist_ok=True)
    place = files.locate("/" + "/".join(parts), follow=follow)
    assert place == files.root or files.root in place.parents
    assert ".." not in place.parts


def test_a_circle_of_links_is_an_error(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.link("b", "/a")
    files.link("a", "/b")
    with pytest.raises(OSError, match="symbolic links"):
        files.read("/a")


def test_modes_and_owners_decide_who_reads_and_writes(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.put("/etc/secret/key", "k", mode=0o600)
    files.put("/etc/open", "o")
    (tmp_path / "home" / "me").mkdir(parents=True)
    files.write("/home/me/mine", b"m", "me")
    assert files.read("/etc/open", "me") == b"o"
    assert files.read("/home/me/mine") == b"m"
    for act in (
        lambda: files.read("/etc/secret/key", "me"),
        lambda: files.write("/etc/open", b"", "me"),
        lambda: files.write("/etc/new", b"", "me"),
        lambda: files.remove("/etc/open", "me"),
        lambda: files.chmod("/etc/open", 0o777, "me"),
    ):
        with pytest.raises(PermissionError):
            act()
    files.chmod("/etc/secret", 0o700)
    files.chmod("/etc/secret/key", 0o644)
    with pytest.raises(PermissionError):
        files.read("/etc/secret/key", "me")


def test_units_start_stop_fail_and_write_a_journal() -> None:
    units, calls = Units(lambda: 5.0), []

    async def start() -> None:
        calls.append("start")

    async def broken() -> None:
        raise UnitError("level=fatal msg=no")

    good = units.add(Unit("good.service", start=start))
    bad = units.add(Unit("bad.service", start=broken))
    asyncio.run(units.start(good))
    asyncio.run(units.start(good))
    with pytest.raises(UnitError):
        asyncio.run(units.start(bad))
    assert (good.state, bad.state, bad.result, calls) == ("active", "failed", "exit-code", ["start"])
    assert units.journal("bad") == [(5.0, "level=fatal msg=no")]
    asyncio.run(units.stop(bad))
    units.lose_power()
    assert (units.get("good"), good.state, bad.state) == (good, "inactive", "inactive")


def test_hooks_run_at_boot_and_shutdown_but_not_when_the_power_fails(world: World) -> None:
    seen: list[str] = []

    async def booted(_guest: object) -> None:
        seen.append("boot")

    async def going_down(_guest: object) -> None:
        seen.append("shutdown")

    async def go() -> None:
        guests = Guests(world)
        guests.everywhere(booted)
        guests.everywhere(going_down, at="shutdown")
        for orderly in (True, False):
            guest = guests.power_on(900, "hooked", {"name": "hooked"}, at_once=True)
            await guest.cloud_init.finished.wait()
            await guest.power_off(orderly=orderly)
        guests.delete(900)

    asyncio.run(go())
    assert seen == ["boot", "shutdown", "boot"]


def test_the_instance_id_changes_with_what_cloud_init_is_told() -> None:
    config = {
        "name": "a",
        "ciuser": "u",
        "ipconfig0": "ip=10.0.0.2/24,gw=10.0.0.1",
        "net0": "virtio=AA:BB,bridge=vmbr0",
    }
    same = cloudinit.instance_id({**config, "memory": "1", "tags": "x"})
    assert cloudinit.instance_id(config) == same
    assert cloudinit.instance_id({**config, "ipconfig0": "ip=10.0.0.3/24"}) != same
    assert "mac_address: 'aa:bb'" in cloudinit.network_data(config)
    assert "netmask: '255.255.255.0'" in cloudinit.network_data(config)
    assert "type: dhcp4" in cloudinit.network_data({**config, "ipconfig0": "ip=dhcp"})


@pytest.mark.parametrize(
    ("prefix", "mask"), [("24", "255.255.255.0"), ("20", "255.255.240.0"), ("32", "255.255.255.255")]
)
def test_netmask(prefix: str, mask: str) -> None:
    assert cloudinit.netmask(prefix) == mask
