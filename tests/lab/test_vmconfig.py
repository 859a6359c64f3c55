from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.lab import load_lab
from labkit.lab.models import resolve_machine
from labkit.lab.pveformat import (
    boot_disk,
    has_cloud_init_drive,
    parse_agent,
    parse_bytes,
    parse_memory,
    parse_props,
    parse_tags,
    render_props,
    ssh_keys,
)
from labkit.lab.vmconfig import (
    config_differences,
    describe_unfinished,
    is_half_made,
    needs_restart,
    render_vm_config,
    show_value,
)

ROOT = Path(__file__).parents[2]
LAB = load_lab(ROOT / "parameters/lab.yaml")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl labkit@homelab"
WANTED = render_vm_config(LAB, resolve_machine(LAB, "k3s-master-01"), KEY)
words = st.text(alphabet="abcdefghijklmnop0123456789:./-", min_size=1, max_size=10)


def test_the_whole_configuration_of_a_server() -> None:
    assert WANTED == {
        "cores": "2",
        "memory": "4096",
        "agent": "enabled=1",
        "net0": "model=virtio,bridge=vmbr0",
        "ipconfig0": "ip=192.168.5.20/24,gw=192.168.5.1",
        "nameserver": "192.168.5.1",
        "searchdomain": "lan",
        "ciuser": "ubuntu",
        "sshkeys": "ssh-ed25519%20AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl%20"
        "labkit%40homelab%0A",
        "ciupgrade": "0",
        "onboot": "1",
        "startup": "order=1",
        "tags": "k3s;labkit;server",
        "description": "k3s server (control plane) of the lab homelab, address 192.168.5.20. "
        "Kept by labkit: change the lab file, not this VM.",
    }


def test_a_worker_on_the_small_host_with_a_vlan() -> None:
    machine = resolve_machine(LAB, "k3s-worker-04").model_copy(update={"vlan": 10})
    config = render_vm_config(LAB, machine, KEY)
    assert config["net0"] == "model=virtio,bridge=vmbr0,tag=10"
    assert (config["memory"], config["startup"]) == ("3072", "order=2")
    assert config["tags"] == "agent;k3s;labkit"


def test_no_difference_to_itself() -> None:
    assert config_differences(WANTED, WANTED) == {}


@given(st.sampled_from(sorted(set(WANTED) - {"ciupgrade"})))
def test_each_key_that_is_gone_is_a_difference(key: str) -> None:
    seen = {name: value for name, value in WANTED.items() if name != key}
    assert set(config_differences(WANTED, seen)) == {key}
    assert config_differences(WANTED, {**seen, key: config_differences(WANTED, seen)[key][1]}) == {}


@pytest.mark.parametrize(
    ("key", "seen", "written"),
    [
        ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr9,firewall=1,tag=4",
         "virtio=BC:24:11:00:00:01,firewall=1,bridge=vmbr0"),
        ("net0", "", "model=virtio,bridge=vmbr0"),
        ("tags", "mine;server", "k3s;labkit;mine;server"),
        ("description", "my note\nsecond line\n", WANTED["description"] + "\nmy note\nsecond line"),
        ("description", "old. Kept by labkit: x\nmy note", WANTED["description"] + "\nmy note"),
        ("description", describe_unfinished(LAB, "k3s-master-01"), WANTED["description"]),
        ("startup", "order=3,up=30", "order=1,up=30"),
        ("agent", "0,fstrim_cloned_disks=1", "fstrim_cloned_disks=1,enabled=1"),
        ("ipconfig0", "ip=dhcp,ip6=auto", "ip=192.168.5.20/24,ip6=auto,gw=192.168.5.1"),
        ("sshkeys", "ssh-rsa%20BBBB%20me%0A", WANTED["sshkeys"] + "ssh-rsa%20BBBB%20me%0A"),
        ("cores", "4", "2"),
    ],
)  # fmt: skip
def test_what_a_person_added_stays(key: str, seen: str, written: str) -> None:
    assert config_differences(WANTED, {**WANTED, key: seen}) == {key: (seen, written)}


@given(seen=st.dictionaries(st.sampled_from(sorted(WANTED)), words))
def test_writing_what_differs_leaves_no_difference(seen: dict[str, str]) -> None:
    written = {key: new for key, (_, new) in config_differences(WANTED, seen).items()}
    assert config_differences(WANTED, {**seen, **written}) == {}


def test_half_made() -> None:
    assert is_half_made({"description": describe_unfinished(LAB, "k3s-master-01") + "\n"})
    assert not is_half_made(WANTED)
    assert not is_half_made({})


def test_what_needs_a_restart() -> None:
    assert not needs_restart(["tags", "description", "net0", "onboot", "startup", "disk"])
    assert needs_restart(["tags", "cores"])


def test_values_for_people() -> None:
    assert show_value("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=4") == "bridge=vmbr0,tag=4"
    assert show_value("sshkeys", WANTED["sshkeys"]) == "ssh-ed25519"
    assert show_value("sshkeys", "") == "none"


@pytest.mark.parametrize(
    ("text", "size"),
    [("32G", 32 * 2**30), ("528K", 528 * 2**10), ("1.5T", 1536 * 2**30), ("3584M", 3584 * 2**20), ("x", None)],
)  # fmt: skip
def test_sizes(text: str, size: int | None) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("config", "disk"),
    [
        ({"boot": "order=scsi0", "scsi0": "a:b,size=3584M"}, ("scsi0", 3584)),
        ({"boot": "order=virtio0;net0", "scsi0": "a:c,size=1G", "virtio0": "a:b,size=2G"}, ("virtio0", 2048)),
        ({"bootdisk": "sata1", "sata1": "a:b,size=2G", "ide2": "a:cloudinit,media=cdrom,size=4M"}, ("sata1", 2048)),
        ({"ide2": "a:b,media=cdrom,size=4M", "scsi0": "a:b,discard=on,size=1G,ssd=1"}, ("scsi0", 1024)),
        ({"boot": "cdn", "scsi0": "a:b,size=2252M"}, ("scsi0", 2252)),
        ({"scsi0": "a:b"}, None),
        ({"net0": "virtio=1,bridge=vmbr0", "scsihw": "virtio-scsi-single"}, None),
        ({}, None),
    ],
)
def test_the_disk_that_a_vm_boots_from(config: dict[str, str], disk: tuple[str, int] | None) -> None:
    assert boot_disk(config) == disk


def test_small_formats() -> None:
    assert parse_tags("b;a,c  b") == ("a", "b", "c")
    assert [parse_agent(text) for text in ("1", "0", "enabled=1,type=virtio", "1,freeze-fs=0", "")] == [
        True, False, True, True, False,
    ]  # fmt: skip
    assert [parse_memory(text) for text in ("4096", "current=2048", "x")] == [4096, 2048, None]
    assert has_cloud_init_drive({"ide2": "local-lvm:vm-1-cloudinit,media=cdrom"})
    assert not has_cloud_init_drive({"ide2": "none,media=cdrom", "description": "cloudinit"})
    assert ssh_keys("ssh-ed25519%20AAAA%20me%0A%0Abroken") == {("ssh-ed25519", "AAAA")}


@given(st.dictionaries(words, words, max_size=5))
def test_props_round_trip(props: dict[str, str]) -> None:
    assert parse_props(render_props(props)) == props
