"""The installer: what it reads, writes, says and refuses."""

from __future__ import annotations

import pytest

from labkit.twin.k3s.script import binary

from .conftest import TOKEN, Play, Stage

BINARY = "/usr/local/bin/k3s"
ENV = "/etc/systemd/system/k3s.service.env"


def test_it_brings_binary_unit_links_and_scripts(play: Play) -> None:
    async def act(stage: Stage) -> None:
        stage.configure("s1", cluster_init=True)
        done = await stage.install("s1", env="INSTALL_K3S_VERSION=v1.32.8+k3s1 K3S_DEBUG='a b' OTHER=x")
        assert done.status == 0, done.err
        assert b"[INFO]  systemd: Starting k3s" in done.out
        assert (await stage.ok("s1", "k3s --version")).startswith("k3s version v1.32.8+k3s1 ")
        for path in (BINARY, "/usr/local/bin/k3s-killall.sh", "/usr/local/bin/k3s-uninstall.sh"):
            assert await stage.ok("s1", f"stat -c %a {path}") == "755\n"
        assert await stage.ok("s1", f"stat -c %a {ENV}") == "600\n"
        assert await stage.ok("s1", f"cat {ENV}") == "K3S_DEBUG='a b'\n"
        assert await stage.ok("s1", "systemctl is-active k3s") == "active\n"
        assert await stage.ok("s1", "systemctl is-enabled k3s") == "enabled\n"
        assert "node/s1" in await stage.ok("s1", "kubectl get nodes -o name")

    play(act)


def test_the_script_may_come_by_a_pipe_and_with_sudo(play: Play) -> None:
    async def act(stage: Stage) -> None:
        line = (
            "curl -sfL https://get.k3s.io | sudo INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC='--debug' sh -s - server"
        )
        done = await stage.run("s1", line, user="admin")
        assert done.status == 0, done.err
        assert "'--debug'" in await stage.ok("s1", "cat /etc/systemd/system/k3s.service")
        assert (await stage.run("s1", "systemctl is-active k3s")).out == b"inactive\n"

    play(act)


def test_a_second_run_changes_nothing_and_forgets_what_is_not_said_again(play: Play) -> None:
    async def act(stage: Stage) -> None:
        stage.configure("s1", cluster_init=True)
        await stage.install("s1", env="K3S_ONE=1", more="--debug")
        again = await stage.install("s1", env="K3S_ONE=1", more="--debug")
        assert b"No change detected so skipping service start" in again.out
        assert b"installed k3s matches hash" in again.out
        forced = await stage.install("s1", env="INSTALL_K3S_FORCE_RESTART=true K3S_ONE=1", more="--debug")
        assert b"Starting k3s" in forced.out
        other = await stage.install("s1")
        assert b"Starting k3s" in other.out
        assert await stage.ok("s1", f"cat {ENV}") == ""
        assert "--debug" not in await stage.ok("s1", "cat /etc/systemd/system/k3s.service")

    play(act)


@pytest.mark.parametrize(
    ("role", "env", "said"),
    [
        ("", "K3S_URL=https://192.168.7.11:6443", "Defaulted k3s exec command to 'agent' because K3S_URL is defined"),
        ("server", "K3S_URL=http://192.168.7.11:6443", "Only https:// URLs are supported for K3S_URL"),
        ("server", "INSTALL_K3S_SKIP_DOWNLOAD=true", "Executable k3s binary not found at /usr/local/bin/k3s"),
        ("server", "INSTALL_K3S_VERSION=1.33.4", "Download failed"),
    ],
)
def test_its_mistakes_have_a_text_and_status_1(play: Play, role: str, env: str, said: str) -> None:
    async def act(stage: Stage) -> None:
        done = await stage.install("s1", role, env)
        assert done.status == 1
        assert done.err.decode().startswith(f"[ERROR]  {said}")
        assert (await stage.run("s1", "systemctl is-enabled k3s")).out == b"not-found\n"

    play(act)


def test_an_url_without_the_word_server_makes_an_agent(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        done = await stage.install("s2", "", f"K3S_URL=https://192.168.7.11:6443 K3S_TOKEN={TOKEN}")
        assert done.status == 0, stage.log("s2")
        await stage.until(lambda: stage.is_ready("s2"))
        node = stage.node("s2")
        assert node is not None
        assert "node-role.kubernetes.io/control-plane" not in node["metadata"]["labels"]
        assert await stage.ok("s2", "cat /etc/systemd/system/k3s-agent.service.env") == (
            f"K3S_TOKEN={TOKEN}\nK3S_URL=https://192.168.7.11:6443\n"
        )

    play(act)


def test_a_carried_binary_needs_no_download(play: Play) -> None:
    async def act(stage: Stage) -> None:
        stage.guest("s1").files.put(BINARY, binary("v1.31.2+k3s1"), mode=0o755)
        stage.configure("s1", cluster_init=True)
        done = await stage.install("s1", env="INSTALL_K3S_SKIP_DOWNLOAD=true")
        assert done.status == 0
        assert b"Downloading" not in done.out
        await stage.until(lambda: stage.is_ready("s1"))
        node = stage.node("s1")
        assert node is not None
        assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.31.2+k3s1"

    play(act)


def test_a_failed_download_is_over_after_once(play: Play) -> None:
    async def act(stage: Stage) -> None:
        stage.configure("s1", cluster_init=True)
        done = await stage.install("s1")
        assert (done.status, done.err) == (1, b"[ERROR]  Download failed\n")
        assert (await stage.run("s1", "k3s --version")).status == 127
        assert (await stage.install("s1")).status == 0

    play(act, "installer-download-fails")


def test_nothing_is_written_on_a_full_disk(play: Play) -> None:
    async def act(stage: Stage) -> None:
        stage.guest("s1").files.put("/root/install.sh", b"# create_systemd_service_file()\n")
        done = await stage.run("s1", "sh /root/install.sh server")
        assert done.status == 1
        assert b"Download failed" in done.err
        assert (await stage.ok("s1", "df -B1 --output=avail /")).split()[-1] == "0"
        stage.world.faults.clear("disk-full")
        stage.configure("s1", cluster_init=True)
        assert (await stage.install("s1")).status == 0
        stage.world.faults.set("disk-full:s1")
        assert (await stage.run("s1", "systemctl restart k3s")).status == 1
        assert "no space left on device" in stage.log("s1")

    play(act, "disk-full:s1")


def test_uninstalling_leaves_the_password_of_the_node_only(play: Play) -> None:
    async def act(stage: Stage) -> None:
        await stage.found()
        await stage.ok("s1", "/usr/local/bin/k3s-uninstall.sh")
        assert (await stage.run("s1", "ls -d /var/lib/rancher/k3s /etc/rancher/k3s /usr/local/bin/k3s")).out == b""
        assert await stage.ok("s1", "ls /etc/rancher/node") == "password\n"
        assert (await stage.run("s1", "k3s --version")).status == 127
        assert (await stage.run("s1", "systemctl status k3s")).status == 4
        assert 6443 not in stage.guest("s1").listening

    play(act)
