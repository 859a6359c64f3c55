"""Proxmox of the twin, over HTTPS: clones, configurations, disks, power, tasks, rights."""

import json
import os
from pathlib import Path

import pytest
from proxmoxer import ProxmoxAPI

from labkit.twin.client import start_twin
from tests.twin.conftest import Api, cloud_init, ssh, until


def test_templates_and_vms_are_where_the_lab_says(api: Api) -> None:
    rows = {row["name"]: row for row in api.get("/cluster/resources", type="vm")}
    assert {name: (row["node"], row["template"], row["status"]) for name, row in rows.items()}.items() >= {
        "ubuntu-template-north": ("north", 1, "stopped"), "ubuntu-template-south": ("south", 1, "stopped"),
        "alpha": ("north", 0, "running"), "beta": ("north", 0, "running"), "gamma": ("south", 0, "running"),
    }.items()  # fmt: skip
    assert rows["gamma"]["vmid"] == 150
    assert rows["beta"]["maxmem"] == 3072 * 1024**2
    assert rows["alpha"]["maxdisk"] == 20 * 1024**3


def test_a_clone_takes_time_and_holds_its_lock(slow_api: Api) -> None:
    api = slow_api
    vmid = int(api.get("/cluster/nextid"))
    path = f"/nodes/north/qemu/{vmid}"
    api.twin.reset()
    upid = api.data("POST", "/nodes/north/qemu/9000/clone", newid=vmid, name="cloned", full=1, storage="local-lvm")
    assert api.get(f"/nodes/north/tasks/{upid}/status")["status"] == "running"
    assert api.get(f"{path}/config")["lock"] == "clone"
    row = api.vm("cloned")
    assert row is not None
    assert row["lock"] == "clone"
    assert api.refusal("PUT", f"{path}/config", memory=512) == (500, "VM is locked (clone)")
    assert api.wait(api.data("POST", f"{path}/status/start")) == "VM is locked (clone)"
    assert api.wait(upid) == "OK"
    config = api.get(f"{path}/config")
    assert "lock" not in config
    assert config["scsi0"] == f"local-lvm:vm-{vmid}-disk-0,discard=on,iothread=1,size=3584M"
    assert config["ide2"] == f"local-lvm:vm-{vmid}-cloudinit,media=cdrom"
    assert api.get(f"/nodes/north/tasks/{upid}/log")[-1]["t"] == "TASK OK"
    assert api.twin.status()["clones"] == {"count": 1, "side_by_side": 1, "running": 0}


def test_two_clones_of_one_template_wait_for_each_other_and_two_templates_do_not(slow_api: Api) -> None:
    api = slow_api
    api.twin.reset()
    upids = [
        api.data("POST", f"/nodes/{node}/qemu/{template}/clone", newid=vmid, name=f"pair-{vmid}", full=1)
        for node, template, vmid in (("north", 9000, 401), ("south", 9001, 402))
    ]
    status, text = api.refusal("POST", "/nodes/north/qemu/9000/clone", newid=403, name="late", full=1)
    assert (status, text) == (500, "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout")
    assert [api.wait(upid) for upid in upids] == ["OK", "OK"]
    assert api.twin.status()["clones"]["side_by_side"] == 2


def test_refusals_of_a_clone_are_proxmoxs_own(api: Api) -> None:
    clone = "/nodes/north/qemu/9000/clone"
    assert api.refusal("POST", clone, newid=100) == (500, "unable to create VM 100: config file already exists")
    assert api.refusal("POST", "/nodes/south/qemu/9000/clone", newid=500)[1].startswith("Configuration file")
    assert api.ask("POST", clone, newid=5).json()["errors"].keys() == {"newid"}
    assert api.ask("POST", clone, newid=500, colour="red").json()["errors"].keys() == {"colour"}
    assert "not allowed for linked clones" in api.refusal("POST", clone, newid=500, full=0, storage="local-lvm")[1]
    assert "local storage" in api.refusal("POST", clone, newid=500, full=1, target="south")[1]
    assert api.vm("VM 500") is None


def test_a_stopped_vm_takes_everything_at_once_and_a_running_one_only_what_can_be_plugged(api: Api) -> None:
    path = api.make("pending", "10.20.0.61")
    api.data("PUT", f"{path}/config", memory=4096, cores=4, description="notes", tags="b;A")
    api.data("PUT", f"{path}/config", net0="model=virtio,bridge=vmbr1")
    config = api.get(f"{path}/config")
    assert (config["memory"], config["cores"], config["description"], config["tags"]) == ("2048", 2, "notes\n", "a;b")
    assert config["net0"].endswith(",bridge=vmbr1")
    waiting = {row["key"]: row["pending"] for row in api.get(f"{path}/pending") if "pending" in row}
    assert waiting == {"memory": "4096", "cores": "4"}
    assert api.task("POST", f"{path}/status/reboot") == "OK"
    assert (api.get(f"{path}/config")["memory"], api.get(f"{path}/config")["cores"]) == ("4096", 4)
    assert api.task("POST", f"{path}/status/stop") == "OK"
    api.data("PUT", f"{path}/config", memory=1024, delete="tags")
    config = api.get(f"{path}/config")
    assert config["memory"] == "1024"
    assert "tags" not in config


def test_memory_can_be_plugged_when_the_vm_says_so(api: Api) -> None:
    vmid, _ = api.clone("plugged")
    path = f"/nodes/north/qemu/{vmid}"
    api.data("PUT", f"{path}/config", hotplug="network,disk,usb,memory", numa=1)
    assert api.task("POST", f"{path}/status/start") == "OK"
    api.data("PUT", f"{path}/config", memory=4096)
    assert api.get(f"{path}/config")["memory"] == "4096"
    assert not [row for row in api.get(f"{path}/pending") if "pending" in row]


def test_disks_grow_and_never_shrink(api: Api) -> None:
    path = api.make("grown", "10.20.0.62")
    used = storage(api)["used"]
    assert api.task("PUT", f"{path}/resize", disk="scsi0", size="10G") == "OK"
    assert api.task("PUT", f"{path}/resize", disk="scsi0", size="+2G") == "OK"
    assert api.get(f"{path}/config")["scsi0"].endswith("size=12G")
    assert storage(api)["used"] == used + int(8.5 * 1024**3)
    assert api.task("PUT", f"{path}/resize", disk="scsi0", size="5G") == "shrinking disks is not supported"
    assert api.task("PUT", f"{path}/resize", disk="scsi3", size="5G") == "disk 'scsi3' does not exist"
    assert api.refusal("PUT", f"{path}/resize", disk="scsi0", size="much")[0] == 400
    size = api.run(path, "df", "-B1", "--output=size", "/")["out-data"]
    assert int(size.split()[1]) < 4 * 1024**3  # the guest saw its disk when it booted
    assert api.task("POST", f"{path}/status/reboot") == "OK"
    api.agent(path)
    assert api.get(f"{path}/config")["scsi0"].endswith("size=12G")


def test_a_digest_guards_against_other_writers(api: Api) -> None:
    vmid, _ = api.clone("guarded")
    path = f"/nodes/north/qemu/{vmid}"
    digest = api.get(f"{path}/config")["digest"]
    api.data("PUT", f"{path}/config", digest=digest, cores=3)
    assert "checksum mismatch" in api.refusal("PUT", f"{path}/config", digest=digest, cores=4)[1]
    assert api.get(f"{path}/config")["cores"] == 3


def test_plain_ssh_keys_are_refused_as_the_real_one_does(api: Api) -> None:
    answer = api.ask("PUT", f"{api.path('beta')}/config", sshkeys="ssh-ed25519 AAAA me")
    assert answer.status_code == 400
    assert "sshkeys" in answer.json()["errors"]


def test_cloud_init_is_dumped_from_the_configuration(api: Api) -> None:
    path = api.path("alpha")
    assert "hostname: alpha\n" in api.get(f"{path}/cloudinit/dump", type="user")
    assert "address: '10.20.0.11'" in api.get(f"{path}/cloudinit/dump", type="network")
    assert api.get(f"{path}/cloudinit/dump", type="meta").startswith("instance-id: ")
    assert api.refusal("GET", f"{path}/cloudinit/dump", type="all")[0] == 400


def test_the_agent_answers_only_after_the_boot_of_a_vm_that_has_one(slow_api: Api) -> None:
    api = slow_api
    vmid, _ = api.clone("agentless")
    path = f"/nodes/north/qemu/{vmid}"
    assert api.refusal("POST", f"{path}/agent/ping") == (500, f"VM {vmid} is not running")
    api.data("PUT", f"{path}/config", agent="enabled=0")
    api.task("POST", f"{path}/status/start")
    assert api.refusal("POST", f"{path}/agent/ping") == (500, "No QEMU guest agent configured")
    api.task("POST", f"{path}/status/stop")
    api.data("PUT", f"{path}/config", **cloud_init(api.twin, "10.20.0.63"))
    api.task("POST", f"{path}/status/start")
    assert api.refusal("POST", f"{path}/agent/ping") == (500, "QEMU guest agent is not running")
    api.agent(path)
    cards = api.get(f"{path}/agent/network-get-interfaces")["result"]
    assert [card["name"] for card in cards] == ["lo", "eth0"]
    assert cards[1]["ip-addresses"][0] == {"ip-address": "10.20.0.63", "ip-address-type": "ipv4", "prefix": 24}
    done = api.run(path, "cloud-init", "status", "--wait")
    assert (done["exitcode"], done["out-data"]) == (0, "status: done\n")
    assert api.run(path, "no-such-program")["exitcode"] == 127
    key = api.get(f"{path}/agent/file-read", file="/etc/ssh/ssh_host_ed25519_key.pub")["content"]
    assert key.startswith("ssh-ed25519 ")
    assert api.refusal("GET", f"{path}/agent/file-read", file="/no/such")[0] == 500


def test_a_deleted_vm_leaves_nothing_and_its_id_is_free(api: Api) -> None:
    path = api.make("gone", "10.20.0.64")
    vmid = int(path.rsplit("/", 1)[1])
    ssh(api.twin, "10.20.0.64", "echo here > mark")
    assert api.refusal("DELETE", path) == (500, f"VM {vmid} is running - destroy failed")
    api.task("POST", f"{path}/status/shutdown")
    assert api.task("DELETE", path, purge=1) == "OK"
    assert api.vm("gone") is None
    assert api.refusal("GET", f"{path}/config")[1].startswith("Configuration file")
    assert not (api.twin.state / "guests" / str(vmid)).exists()
    again = api.make("gone", "10.20.0.64")
    assert again == path
    assert ssh(api.twin, "10.20.0.64", "cat mark")[0][0] == 1


def test_a_backup_locks_its_vm_and_is_listed(slow_api: Api) -> None:
    api = slow_api
    vmid, _ = api.clone("saved")
    upid = api.data("POST", "/nodes/north/vzdump", vmid=vmid, storage="local")
    until(lambda: api.get(f"/nodes/north/qemu/{vmid}/config").get("lock"))
    assert api.refusal("PUT", f"/nodes/north/qemu/{vmid}/config", cores=1)[1] == "VM is locked (backup)"
    assert api.wait(upid) == "OK"
    listed = api.get("/nodes/north/storage/local/content", content="backup", vmid=vmid)
    assert [row["volid"].startswith(f"local:backup/vzdump-qemu-{vmid}-") for row in listed] == [True]
    assert api.get("/nodes/south/storage/local/content", content="backup") == []


def test_tasks_are_listed_by_host_with_their_owner(api: Api) -> None:
    _, _ = api.clone("listed")
    row = next(row for row in api.get("/nodes/north/tasks") if row["type"] == "qmclone")
    assert (row["user"], row["tokenid"], row["status"], row["id"]) == ("labkit@pve", "runbooks", "OK", "9000")
    assert api.refusal("GET", f"/nodes/south/tasks/{row['upid']}/status")[0] == 500
    assert row["upid"] in [one["upid"] for one in api.get("/cluster/tasks")]


def test_each_host_has_its_own_storage(api: Api) -> None:
    rows = {(row["node"], row["storage"]): row["plugintype"] for row in api.get("/cluster/resources", type="storage")}
    assert rows == {
        ("north", "local"): "dir", ("north", "local-lvm"): "lvmthin",
        ("south", "local"): "dir", ("south", "tank-zfs"): "zfspool",
    }  # fmt: skip
    seen = storage(api)
    assert seen["total"] == seen["used"] + seen["avail"]


def test_the_cluster_tells_who_is_there(api: Api) -> None:
    rows = api.get("/cluster/status")
    assert rows[0] | {"version": 0} == {
        "type": "cluster", "id": "cluster", "name": "bench", "version": 0, "nodes": 2, "quorate": 1,
    }  # fmt: skip
    assert [(row["name"], row["online"], row["local"]) for row in rows[1:]] == [("north", 1, 1), ("south", 1, 0)]
    other = Api(api.twin, host="south.lan").get("/cluster/status")
    assert [row["local"] for row in other[1:]] == [0, 1]
    assert {row["node"] for row in api.get("/nodes")} == {"north", "south"}


def test_the_reading_token_reads_and_writes_nothing(api: Api) -> None:
    reader = Api(api.twin, user="reader")
    assert reader.get("/cluster/resources")
    assert reader.get(f"{api.path('alpha')}/agent/network-get-interfaces")
    rights = reader.get("/access/permissions")
    assert "VM.Audit" in rights["/vms"]
    assert "VM.Allocate" not in rights["/vms"]
    before = api.twin.status()["writes"]["proxmox"]
    assert reader.refusal("POST", "/nodes/north/qemu/9000/clone", newid=600) == (
        403, "Permission check failed (/vms/9000, VM.Clone)",
    )  # fmt: skip
    assert reader.refusal("POST", f"{api.path('alpha')}/status/stop")[0] == 403
    assert api.twin.status()["writes"]["proxmox"] == before + 2  # they reached Proxmox


def test_only_root_sets_what_only_root_may(api: Api) -> None:
    assert api.refusal("PUT", f"{api.path('beta')}/config", args="-cpu host") == (
        403,
        "only root can set 'args' config",
    )


@pytest.mark.parametrize(("header", "message"), [
    ("PVEAPIToken=labkit@pve!runbooks=wrong", "invalid token value!"),
    ("PVEAPIToken=nobody@pve!x=y", "no such token"), ("", "No ticket"),
])  # fmt: skip
def test_strangers_are_refused(api: Api, header: str, message: str) -> None:
    api._session.headers["Authorization"] = header
    assert api.refusal("GET", "/version") == (401, message)


def test_the_reason_is_in_the_status_line_too(api: Api) -> None:
    assert api.ask("GET", "/nodes/north/qemu/9999/config").reason.startswith("Configuration file")
    assert api.ask("GET", "/no/such/path").status_code == 501
    assert "hostname lookup" in api.ask("GET", "/nodes/west/qemu").reason


def test_version_8_has_other_privileges(lab_file: Path, tmp_path: Path) -> None:
    twin = start_twin(lab_file, state=tmp_path, scenario="provisioned", proxmox="8.4", parent=os.getpid())
    try:
        api, reader = Api(twin), Api(twin, user="reader")
        assert api.get("/version")["release"] == "8.4"
        assert "VM.Monitor" in api.get("/access/permissions")["/vms"]
        assert not [name for name in api.get("/access/permissions")["/vms"] if "GuestAgent" in name]
        path = api.path("alpha")
        assert api.get(f"{path}/agent/network-get-interfaces")
        assert reader.refusal("GET", f"{path}/agent/network-get-interfaces") == (
            403, f"Permission check failed (/vms/{path.rsplit('/', 1)[1]}, VM.Monitor)",
        )  # fmt: skip
    finally:
        twin.stop()


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_proxmoxer_works_unchanged(api: Api) -> None:
    place = json.loads(api.twin.connect_file.read_text())["north.lan:8006"]
    secret = api.twin.secrets["env:BENCH_TOKEN"]
    client = ProxmoxAPI(place, user="labkit@pve", token_name="runbooks", token_value=secret, verify_ssl=False)
    client._store["session"].trust_env = False
    vm = client.nodes("north").qemu(api.path("alpha").rsplit("/", 1)[1])
    assert vm.config.get()["name"] == "alpha"
    pid = vm.agent.exec.post(command=["echo", "a", "b"])["pid"]
    done = until(lambda: seen if (seen := vm.agent("exec-status").get(pid=pid))["exited"] else None)
    assert done["out-data"] == "a b\n"


def storage(api: Api) -> dict[str, int]:
    rows = api.get("/nodes/north/storage")
    return next(row for row in rows if row["storage"] == "local-lvm")  # type: ignore[no-any-return]
