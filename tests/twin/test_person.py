"""What a person does in Proxmox beside labkit."""

import pytest

from labkit.errors import StepFailed
from labkit.twin.client import TwinHandle
from tests.twin.conftest import Api, ssh


def test_a_vm_that_was_moved_is_found_on_its_new_host(twin: TwinHandle, api: Api) -> None:
    path = api.make("wanderer", "10.20.0.91")
    vmid = path.rsplit("/", 1)[1]
    twin.move_vm("wanderer", "south")
    assert api.path("wanderer") == f"/nodes/south/qemu/{vmid}"
    assert (
        api.refusal("GET", f"{path}/config")[1]
        == f"Configuration file 'nodes/north/qemu-server/{vmid}.conf' does not exist"
    )
    moved = api.path("wanderer")
    api.data("PUT", f"{moved}/config", description="here now")
    assert vmid in [str(row["vmid"]) for row in api.get("/nodes/south/qemu")]
    assert vmid not in [str(row["vmid"]) for row in api.get("/nodes/north/qemu")]
    assert api.task("POST", f"{moved}/status/stop") == "OK"
    assert api.task("DELETE", moved) == "OK"


def test_a_foreign_vm_has_its_address_and_its_id(twin: TwinHandle, api: Api) -> None:
    assert twin.add_vm("nextcloud", vmid=320, host="south", address="10.20.0.92") == 320
    path = api.path("nextcloud")
    assert path == "/nodes/south/qemu/320"
    api.agent(path)
    cards = api.get(f"{path}/agent/network-get-interfaces")["result"]
    assert cards[1]["ip-addresses"][0]["ip-address"] == "10.20.0.92"
    twin.delete_vm("nextcloud")
    assert api.vm("nextcloud") is None


def test_memory_set_by_hand(twin: TwinHandle, api: Api) -> None:
    path = api.make("edited", "10.20.0.93")
    twin.configure_vm("edited", memory="1024", restart=False)
    assert api.get(f"{path}/config")["memory"] == "2048"
    twin.configure_vm("edited", memory="1024")
    assert api.get(f"{path}/config")["memory"] == "1024"
    api.agent(path)
    assert int(ssh(twin, "10.20.0.93", "free -m")[0][1].split("Mem:")[1].split()[0]) < 1024


def test_power_by_hand(twin: TwinHandle, api: Api) -> None:
    path = api.make("switched", "10.20.0.94")
    twin.power_vm("switched", on=False)
    assert api.get(f"{path}/status/current")["status"] == "stopped"
    twin.power_vm("switched", on=True)
    api.agent(path)


def test_nothing_of_it_counts_as_a_write(twin: TwinHandle) -> None:
    twin.reset()
    twin.configure_vm("beta", onboot="1", restart=False)
    assert twin.status()["writes"] == {"guests": 0, "kubernetes": 0, "proxmox": 0}


def test_mistakes_are_told(twin: TwinHandle) -> None:
    with pytest.raises(StepFailed, match="nobody"):
        twin.delete_vm("nobody")
    with pytest.raises(StepFailed, match="a host of the lab"):
        twin.move_vm("beta", "west")
