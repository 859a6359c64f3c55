"""Guests of the twin over SSH: who gets in, what commands answer, what survives, and that nobody gets out."""

import asyncio
import json
import os
import socket
from pathlib import Path

import asyncssh
import pytest

from labkit.twin.client import TwinHandle
from tests.twin.conftest import Api, connect, place, ssh, until

ALPHA = "10.20.0.11"

OK = "install ok installed\n"
HI = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"
COMMANDS = [
    ("hostname", 0, "alpha\n"),
    ("hostname -f", 0, "alpha.lan\n"),
    ("uname -m", 0, "x86_64\n"),
    ("nproc", 0, "2\n"),
    ("whoami; sudo -n whoami", 0, "admin\nroot\n"),
    ("cloud-init status --wait", 0, "status: done\n"),
    ("systemctl is-active ssh qemu-guest-agent", 0, "active\nactive\n"),
    ("systemctl is-active no-such", 3, "inactive\n"),
    ("systemctl is-enabled no-such", 4, "not-found\n"),
    ("systemctl show ssh -p ActiveState,SubState", 0, "ActiveState=active\nSubState=running\n"),
    ("systemctl show ssh -p MainPID --value | grep -c '^0$'", 1, "0\n"),
    ("systemctl stop ssh", 1, ""),
    ("ss -Hltn | wc -l", 0, "1\n"),
    ("lsmod | grep -c iscsi_tcp", 1, "0\n"),
    ("sudo modprobe iscsi_tcp && lsmod | grep -c iscsi_tcp", 0, "1\n"),
    ("dpkg-query -W -f='${Status}\\n' curl", 0, "install ok installed\n"),
    ("dpkg-query -W open-iscsi", 1, ""),
    (
        "sudo apt-get install -y open-iscsi >/dev/null && dpkg-query -W -f='${Status}' open-iscsi",
        0,
        "install ok installed",
    ),
    ("apt-get install -y jq", 100, ""),
    ("sh -c 'echo one && echo two'", 0, "one\ntwo\n"),
    ("false && echo no || echo yes", 0, "yes\n"),
    ("echo $HOME ~; exit 3; echo never", 3, "/home/admin ~\n"),
    ("A=1 env | grep ^A=", 0, "A=1\n"),
    ("printf '%s-%s\\n' a b", 0, "a-b\n"),
    ("cat /no/such 2>/dev/null; echo $?", 0, "1\n"),
    ("cat /no/such 2>&1", 1, "cat: /no/such: No such file or directory\n"),
    ("sudo sh -c 'mkdir -p /etc/app && echo x > /etc/app/conf && chmod 600 /etc/app/conf'", 0, ""),
    ("cat /etc/app/conf 2>&1", 1, "cat: /etc/app/conf: Permission denied\n"),
    ("sudo cat /etc/app/conf", 0, "x\n"),
    ("stat -c '%a %U %s' /etc/app/conf", 0, "600 root 2\n"),
    ("echo hi | sudo tee /etc/app/other | sha256sum -c - 2>/dev/null; sudo cat /etc/app/other", 0, "hi\n"),
    (
        "sha256sum /etc/app/other",
        0,
        "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4  /etc/app/other\n",
    ),
    ("sudo install -m 755 -o root /etc/app/other /usr/local/bin/tool && test -x /usr/local/bin/tool", 0, ""),
    ("test -e /etc/app/conf -a", 1, ""),
    ("[ -d /etc/app ] && ls /etc/app", 0, "conf\nother\n"),
    ("sudo rm -rf /etc/app; test -e /etc/app", 1, ""),
    ("echo no > /etc/mine", 1, ""),
    ("timedatectl show -p NTPSynchronized --value", 0, "yes\n"),
    ("journalctl -u ssh -n 5 --no-pager -o cat", 0, "-- No entries --\n"),
    ("echo $(hostname)", 2, ""),
    ("&& echo", 2, ""),
    ("no-such-command --at all", 127, ""),
]


@pytest.fixture(scope="module")
def answers(_twin: TwinHandle) -> dict[str, tuple[int, str, str]]:
    lines = [line for line, _, _ in COMMANDS]
    return dict(zip(lines, ssh(_twin, ALPHA, *lines), strict=True))


@pytest.mark.parametrize(("line", "status", "out"), COMMANDS, ids=[line for line, _, _ in COMMANDS])
def test_command(answers: dict[str, tuple[int, str, str]], line: str, status: int, out: str) -> None:
    assert answers[line][:2] == (status, out), answers[line][2]


def test_numbers_about_the_machine(twin: TwinHandle) -> None:
    now, memory, disk, cards = ssh(twin, ALPHA, "date +%s.%N", "cat /proc/meminfo", "df -B1 /", "ip -j addr")
    assert float(now[1]) > 1.7e9
    total = next(int(line.split()[1]) for line in memory[1].splitlines() if line.startswith("MemTotal:"))
    assert 0.9 * 2048 < total / 1024 <= 2048
    assert 18 * 1024**3 < int(disk[1].splitlines()[1].split()[1]) < 20 * 1024**3
    addresses = [info["local"] for card in json.loads(cards[1]) for info in card["addr_info"]]
    assert addresses[:2] == ["127.0.0.1", ALPHA]


def test_input_reaches_the_command(twin: TwinHandle) -> None:
    assert ssh(twin, ALPHA, "cat > /tmp/in && cat /tmp/in", input="some text")[0][1] == "some text"
    assert ssh(twin, ALPHA, "sh -s", input="echo a\n# no\nset -e\nfalse\necho b\n")[0] == (1, "a\n", "")


def test_a_guest_has_the_host_key_that_its_agent_tells(twin: TwinHandle, api: Api) -> None:
    told = api.get(f"{api.path('alpha')}/agent/file-read", file="/etc/ssh/ssh_host_ed25519_key.pub")["content"]

    async def log_in(known: str) -> str:
        trusted = asyncssh.import_known_hosts(f"* {known}")
        async with await connect(twin, ALPHA, known_hosts=trusted) as conn:
            return str((await conn.run("hostname")).stdout)

    assert asyncio.run(log_in(told)) == "alpha\n"
    other = api.get(f"{api.path('beta')}/agent/file-read", file="/etc/ssh/ssh_host_ed25519_key.pub")["content"]
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        asyncio.run(log_in(other))


def test_a_key_that_cloud_init_was_not_given_does_not_open(twin: TwinHandle, api: Api) -> None:
    vmid, _ = api.clone("keyless")
    path = f"/nodes/north/qemu/{vmid}"
    api.data("PUT", f"{path}/config", ciuser="admin", ipconfig0="ip=10.20.0.81/24", agent="1")
    api.task("POST", f"{path}/status/start")
    api.agent(path)
    with pytest.raises(asyncssh.PermissionDenied):
        ssh(twin, "10.20.0.81", "true")


def test_cloud_init_can_be_waited_for(slow_api: Api) -> None:
    api = slow_api
    vmid, _ = api.clone("fresh")
    path = f"/nodes/north/qemu/{vmid}"
    api.data("PUT", f"{path}/config", agent="1", ipconfig0="ip=10.20.0.82/24")
    api.task("POST", f"{path}/status/start")
    api.agent(path)
    assert api.run(path, "cloud-init", "status")["out-data"] == "status: running\n"
    assert api.run(path, "cloud-init", "status", "--wait")["out-data"] == "status: done\n"


def test_files_survive_a_reboot_and_a_stop_and_connections_do_not(twin: TwinHandle, api: Api) -> None:
    path, address = api.make("keeper", "10.20.0.83"), "10.20.0.83"

    async def reboot_from_inside() -> None:
        async with await connect(twin, address) as conn:
            await conn.run("echo kept > note; sudo reboot")
            await asyncio.wait_for(conn.wait_closed(), 10)

    asyncio.run(reboot_from_inside())
    api.agent(path)
    assert ssh(twin, address, "cat note")[0][1] == "kept\n"
    assert api.task("POST", f"{path}/status/shutdown") == "OK"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place(twin, address), 5)
    assert api.task("POST", f"{path}/status/start") == "OK"
    api.agent(path)
    assert ssh(twin, address, "cat note")[0][1] == "kept\n"


def test_power_off_from_inside_stops_the_vm(twin: TwinHandle, api: Api) -> None:
    path = api.make("sleeper", "10.20.0.84")
    assert ssh(twin, "10.20.0.84", "sudo poweroff")[0][0] == 0
    until(lambda: True if api.get(f"{path}/status/current")["status"] == "stopped" else None)


def test_a_new_address_counts_after_the_next_boot(twin: TwinHandle, api: Api) -> None:
    path = api.make("mover", "10.20.0.85")
    api.data("PUT", f"{path}/config", ipconfig0="ip=10.20.0.86/24,gw=10.20.0.1")
    assert ssh(twin, "10.20.0.85", "hostname")[0][1] == "mover\n"
    assert api.task("POST", f"{path}/status/reboot") == "OK"
    api.agent(path)
    assert ssh(twin, "10.20.0.86", "hostname")[0][1] == "mover\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place(twin, "10.20.0.85"), 5)


def test_only_what_changes_counts_as_a_write(twin: TwinHandle) -> None:
    twin.reset()
    ssh(twin, ALPHA, "hostname", "cat /etc/hostname", "systemctl is-active ssh", "ls /", "cloud-init status --wait")
    assert twin.status()["writes"]["guests"] == 0
    assert twin.status()["requests"]["guests"] == 5
    ssh(twin, ALPHA, "touch /tmp/new", "sudo systemctl restart ssh; sudo mkdir -p /opt/x", "rm -f /tmp/new")
    assert twin.status()["writes"]["guests"] == 3


def test_sftp_moves_bytes_within_what_the_user_may(twin: TwinHandle, tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "data").write_bytes(data)

    async def go() -> None:
        async with await connect(twin, ALPHA) as conn, conn.start_sftp_client() as sftp:
            await sftp.put(str(tmp_path / "data"), "/tmp/data")
            assert (await sftp.stat("/tmp/data")).size == len(data)
            await sftp.get("/tmp/data", str(tmp_path / "back"))
            await sftp.rename("/tmp/data", "/tmp/moved")
            await sftp.mkdir("box")
            await sftp.chmod("/tmp/moved", 0o600)
            assert (await sftp.lstat("/tmp/moved")).permissions == 0o100600
            assert "box" in await sftp.listdir("/home/admin")
            assert await sftp.realpath("box/../box") == "/home/admin/box"
            await sftp.rmdir("box")
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await sftp.put(str(tmp_path / "data"), "/etc/passwd")
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await sftp.open("/etc/ssh/ssh_host_ed25519_key", "rb")
            with pytest.raises(asyncssh.SFTPNoSuchFile):
                await sftp.stat("/no/such")
            await sftp.remove("/tmp/moved")

    asyncio.run(go())
    assert (tmp_path / "back").read_bytes() == data


def test_no_link_leads_out_of_a_guest(twin: TwinHandle) -> None:
    outside = twin.state / "secrets.json"

    async def go() -> None:
        async with await connect(twin, ALPHA) as conn, conn.start_sftp_client() as sftp:
            for target in (str(outside), "../" * 30 + str(outside).lstrip("/"), "/"):
                await sftp.symlink(target, "/tmp/link")
                with pytest.raises((asyncssh.SFTPNoSuchFile, asyncssh.SFTPFailure)):
                    await sftp.open("/tmp/link", "rb")
                assert "twin.json" not in str((await conn.run("ls /tmp/link/; cat /tmp/link")).stdout)
                await sftp.remove("/tmp/link")
            with pytest.raises(asyncssh.SFTPNoSuchFile):
                await sftp.open("../" * 30 + str(outside).lstrip("/"), "rb")

    asyncio.run(go())
    assert outside.exists()
