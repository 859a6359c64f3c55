"""Every fault by name, over the real protocols: what a client sees, and that it is over when it should be."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest
import requests

from labkit.errors import InputError
from labkit.lab.loader import load_lab
from labkit.twin.client import TwinHandle
from labkit.twin.faults import FAULTS, Faults, parse_fault
from labkit.twin.targets import check_faults
from tests.twin.conftest import Api, connect, place, ssh, until

CASES: dict[str, Callable[[Api], None]] = {}


def case(function: Callable[[Api], None]) -> Callable[[Api], None]:
    CASES[function.__name__.strip("_").replace("_", "-")] = function
    return function


@case
def _template_locked(api: Api) -> None:
    api.twin.fault("template-locked:1")
    status, text = api.refusal("POST", "/nodes/north/qemu/9000/clone", newid=700, name="f", full=1)
    assert (status, text) == (500, "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout")
    assert api.clone("after-lock")[1] == "OK"


@case
def _clone_fails(api: Api) -> None:
    api.twin.fault("clone-fails")
    vmid, status = api.clone("failed")
    assert status.startswith("clone failed: ")
    assert api.vm("failed") is None
    assert api.clone("failed") == (vmid, "OK")


@case
def _clone_dies(api: Api) -> None:
    api.twin.fault("clone-dies")
    vmid, status = api.clone("died")
    assert status == "unexpected status"
    path = f"/nodes/north/qemu/{vmid}"
    assert api.get(f"{path}/config")["lock"] == "clone"
    assert api.wait(api.data("DELETE", path)) == "VM is locked (clone)"
    api.twin.unlock_vm("died")
    assert api.task("DELETE", path) == "OK"
    assert api.clone("alive")[1] == "OK"  # the template is free again


@case
def _no_worker(api: Api) -> None:
    api.twin.fault("no-worker:1")
    vmid = int(api.get("/cluster/nextid"))
    clone = {"newid": vmid, "name": "worker", "full": 1}
    assert api.refusal("POST", "/nodes/north/qemu/9000/clone", **clone)[1].startswith("got no worker upid")
    assert api.vm("worker") is None
    assert api.task("POST", "/nodes/north/qemu/9000/clone", **clone) == "OK"


@case
def _no_worker_done(api: Api) -> None:
    api.twin.fault("no-worker-done")
    vmid = int(api.get("/cluster/nextid"))
    clone = {"newid": vmid, "name": "done", "full": 1}
    assert api.refusal("POST", "/nodes/north/qemu/9000/clone", **clone)[1].startswith("got no worker upid")
    until(lambda: True if "lock" not in api.get(f"/nodes/north/qemu/{vmid}/config") else None)


@case
def _gateway_timeout(api: Api) -> None:
    api.twin.fault("gateway-timeout")
    path = api.path("beta")
    assert api.refusal("PUT", f"{path}/config", description="went on") == (596, "Connection timed out")
    assert api.get(f"{path}/config")["description"] == "went on\n"


@case
def _host_down(api: Api) -> None:
    twin = api.twin
    twin.fault("host-down:south")
    assert api.refusal("GET", "/nodes/south/qemu") == (595, "No route to host")
    assert [row["online"] for row in api.get("/cluster/status")[1:]] == [1, 0]
    row = api.vm("gamma")
    assert row is not None
    assert row["status"] == "unknown"
    with pytest.raises(requests.ConnectionError):
        Api(twin, host="south.lan").get("/version")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place(twin, "10.20.0.13"), 5)
    assert api.refusal("POST", f"{api.path('beta')}/status/reboot")[1] == "cluster not ready - no quorum?"
    twin.clear("host-down")
    other = Api(twin, host="south.lan")
    other.agent(other.path("gamma"))
    assert ssh(twin, "10.20.0.13", "hostname")[0] == (0, "gamma\n", "")


@case
def _no_quorum(api: Api) -> None:
    api.twin.fault("no-quorum")
    assert api.get("/cluster/status")[0]["quorate"] == 0
    assert api.refusal("PUT", f"{api.path('beta')}/config", onboot=0) == (500, "cluster not ready - no quorum?")
    api.twin.clear("no-quorum")
    api.data("PUT", f"{api.path('beta')}/config", onboot=1)


@case
def _storage_full(api: Api) -> None:
    api.twin.fault("storage-full:local-lvm:north")
    row = next(row for row in api.get("/nodes/north/storage") if row["storage"] == "local-lvm")
    assert row["avail"] < 1024**3
    assert "free space in thin pool pve/data reached threshold" in api.clone("full")[1]
    assert api.vm("full") is None
    assert api.clone("roomy", node="south", template=9001)[1] == "OK"
    api.twin.clear("storage-full")
    api.twin.fault("storage-full:tank-zfs")
    assert "out of space" in api.clone("full", node="south", template=9001)[1]


@case
def _slow(api: Api) -> None:
    api.twin.fault("slow:120")
    assert api.ask("GET", "/version").elapsed.total_seconds() >= 0.12


@case
def _closing(api: Api) -> None:
    api.twin.fault("closing:2")
    seen = []
    for _ in range(4):
        try:
            seen.append(api.ask("GET", "/version").status_code)
        except requests.RequestException:
            seen.append(0)
    assert sorted(seen) == [0, 0, 200, 200]


@case
def _vmid_taken(api: Api) -> None:
    api.twin.fault("vmid-taken")
    vmid = int(api.get("/cluster/nextid"))
    text = api.refusal("POST", "/nodes/north/qemu/9000/clone", newid=vmid, name="late", full=1)[1]
    assert text == f"unable to create VM {vmid}: config file already exists"
    assert int(api.get("/cluster/nextid")) != vmid


@case
def _vm_locked(api: Api) -> None:
    api.twin.fault("vm-locked:beta")
    path = api.path("beta")
    assert api.get(f"{path}/config")["lock"] == "backup"
    assert api.refusal("POST", f"{path}/status/shutdown") == (500, "VM is locked (backup)")
    api.twin.clear("vm-locked")
    assert "lock" not in api.get(f"{path}/config")


@case
def _missing_privilege(api: Api) -> None:
    api.twin.fault("missing-privilege:VM.Clone")
    assert "VM.Clone" not in api.get("/access/permissions")["/vms"]
    text = api.refusal("POST", "/nodes/north/qemu/9000/clone", newid=701, name="f")[1]
    assert text == "Permission check failed (/vms/9000, VM.Clone)"


@case
def _wrong_token(api: Api) -> None:
    api.twin.fault("wrong-token")
    assert api.refusal("GET", "/version") == (401, "invalid token value!")


@case
def _agent_silent(api: Api) -> None:
    api.twin.fault("agent-silent:alpha")
    assert api.refusal("POST", f"{api.path('alpha')}/agent/ping") == (500, "QEMU guest agent is not running")
    api.agent(api.path("beta"))


@case
def _wrong_address(api: Api) -> None:
    path = api.make("lost", "10.20.0.71", fault="wrong-address:lost")
    cards = api.get(f"{path}/agent/network-get-interfaces")["result"]
    address = cards[1]["ip-addresses"][0]["ip-address"]
    assert address != "10.20.0.71"
    assert ssh(api.twin, address, "hostname")[0][1] == "lost\n"


@case
def _cloud_init_error(api: Api) -> None:
    path = api.make("ill", "10.20.0.72", fault="cloud-init-error:ill")
    done = api.run(path, "cloud-init", "status", "--wait", "--format", "json")
    assert done["exitcode"] == 1
    assert '"status": "error"' in done["out-data"]


@case
def _task_warnings(api: Api) -> None:
    api.twin.fault("task-warnings")
    vmid, status = api.clone("warned")
    assert status == "WARNINGS: 1"
    upid = next(row["upid"] for row in api.get("/nodes/north/tasks") if row["type"] == "qmclone")
    assert api.get(f"/nodes/north/tasks/{upid}/log")[-1]["t"] == "TASK WARNINGS: 1"
    assert "lock" not in api.get(f"/nodes/north/qemu/{vmid}/config")


@case
def _ssh_silent(api: Api) -> None:
    api.twin.fault("ssh-silent:alpha")

    async def log_in() -> None:
        host, port = place(api.twin, "10.20.0.11")
        reader, writer = await asyncio.open_connection(host, port)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        writer.close()

    asyncio.run(log_in())
    api.twin.clear("ssh-silent")
    assert ssh(api.twin, "10.20.0.11", "hostname")[0][1] == "alpha\n"


@case
def _clock_off(api: Api) -> None:
    def difference() -> float:
        times = [float(ssh(api.twin, address, "date +%s.%N")[0][1]) for address in ("10.20.0.11", "10.20.0.12")]
        return times[0] - times[1]

    assert abs(difference()) < 60
    api.twin.fault("clock-off:alpha:3600")
    assert 3500 < difference() < 3700


@pytest.mark.parametrize("name", sorted(CASES))
def test_fault(name: str, api: Api) -> None:
    CASES[name](api)


def test_connections_are_still_refused_to_strangers(twin: TwinHandle) -> None:
    async def log_in() -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(twin, "10.20.0.11", client_keys=[key])
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(twin, "10.20.0.11", username="root")

    asyncio.run(log_in())


@pytest.mark.parametrize("text", [
    "no-such", "host-down", "host-down:", "slow:fast", "template-locked:0", "no-quorum:1", "clock-off:alpha:soon",
    "storage-full:a:b:c",
])  # fmt: skip
def test_wrong_faults_say_what_is_expected(text: str) -> None:
    with pytest.raises(InputError, match="expected"):
        parse_fault(text)


@pytest.mark.parametrize(("text", "said"), [
    ("host-down:norht", "a host of lab bench (north, south), got norht; did you mean `north`?"),
    ("agent-silent:delta", "a VM of lab bench (alpha, beta, gamma), got delta; did you mean `beta`?"),
    ("clock-off:nobody:60", "a VM of lab bench (alpha, beta, gamma), got nobody"),
    ("k3s-wrong-token:alfa", "did you mean `alpha`?"),
    ("replica-short:north", "a node of lab bench (alpha, beta, gamma), got north"),
    ("storage-full:local-zfs", "a storage of lab bench (local, local-lvm, tank-zfs), got local-zfs"),
    ("storage-full:tank-zfs:north", "a storage of host north (local, local-lvm), got tank-zfs"),
    ("storage-full:local:west", "a host of lab bench (north, south), got west"),
])  # fmt: skip
def test_a_fault_that_would_hit_nothing_is_refused(text: str, said: str, lab_file: Path) -> None:
    with pytest.raises(InputError) as caught:
        check_faults(load_lab(lab_file), ["no-quorum", text])
    assert said in str(caught.value)


def test_a_fault_may_hit_a_vm_that_somebody_has_added(twin: TwinHandle) -> None:
    with pytest.raises(InputError, match="expected a VM of lab bench"):
        twin.fault("agent-silent:extra")
    twin.add_vm("extra")
    twin.fault("agent-silent:extra")
    twin.delete_vm("extra")


def test_strikes_count_down() -> None:
    faults = Faults()
    faults.set("no-worker:2")
    assert [faults.strike("no-worker") for _ in range(3)] == [True, True, False]
    assert faults.active() == []


def test_faults_are_cleared_by_name_or_one_by_one() -> None:
    faults = Faults()
    for text in ("host-down:north", "host-down:south", "no-quorum"):
        faults.set(text)
    assert faults.clear("host-down:north")
    assert faults.active() == ["host-down:south", "no-quorum"]
    assert faults.clear("host-down")
    assert not faults.clear("host-down")


def test_every_fault_has_a_sentence_and_a_duration() -> None:
    assert all(fault.sentence.endswith(".") and fault.duration for fault in FAULTS.values())
    assert set(CASES) <= set(FAULTS)
