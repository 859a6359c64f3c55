"""The scenario `k3s` of a whole twin, through the doors that clients use."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import yaml

from labkit.twin.client import TwinHandle, start_twin

from .conftest import LAB, SCALE

KUBECTL = str(Path(sys.executable).with_name("kubectl"))


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinHandle]:
    running = start_twin(LAB, state=tmp_path_factory.mktemp("twin"), scenario="k3s", scale=SCALE)
    yield running
    running.stop()


def place(twin: TwinHandle, name: str) -> str:
    return str(json.loads(twin.connect_file.read_text())[name])


def ssh(twin: TwinHandle, name: str, address: str, command: str) -> asyncssh.SSHCompletedProcess:
    async def run() -> asyncssh.SSHCompletedProcess:
        host, port = place(twin, f"{address}:22").split(":")
        key = asyncssh.import_private_key(twin.secrets["file:~/.ssh/bench"])
        async with asyncssh.connect(
            host, int(port), username="admin", client_keys=[key], known_hosts=None, config=[]
        ) as shell:
            return await shell.run(command)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def kubeconfig(twin: TwinHandle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig as a server has it, with the address of the twin in place of the lab's."""
    done = ssh(twin, "s2", "192.168.7.12", "sudo cat /etc/rancher/k3s/k3s.yaml")
    document = yaml.safe_load(str(done.stdout))
    cluster = document["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:6443"
    cluster["server"] = f"https://{place(twin, '192.168.7.12:6443')}"
    cluster["tls-server-name"] = "192.168.7.12"
    path = tmp_path_factory.mktemp("kube") / "config"
    path.write_text(yaml.safe_dump(document))
    return path


def kubectl(kubeconfig: Path, *words: str) -> str:
    command = [KUBECTL, "--kubeconfig", str(kubeconfig), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kubectl_sees_the_cluster(twin: TwinHandle, kubeconfig: Path) -> None:
    rows = [line.split() for line in kubectl(kubeconfig, "get", "nodes", "--no-headers").splitlines()]
    assert {row[0]: row[1] for row in rows} == dict.fromkeys(["a1", "a2", "s1", "s2", "s3", "s4"], "Ready")
    assert {row[4] for row in rows} == {"v1.33.4+k3s1"}
    assert kubectl(kubeconfig, "version").splitlines()[-1] == "Server Version: v1.33.4+k3s1"
    assert "[+]etcd ok" in kubectl(kubeconfig, "get", "--raw", "/readyz?verbose")
    kubectl(kubeconfig, "-n", "kube-system", "wait", "--for=condition=Ready", "pod", "-l", "k8s-app=kube-dns")
    where = "jsonpath={.items[*].spec.nodeName}"
    assert set(kubectl(kubeconfig, "get", "etcdsnapshotfiles", "-o", where).split()) == {"s1", "s2", "s3", "s4"}
    assert "kubernetes" in kubectl(kubeconfig, "get", "services")


def test_what_clients_change_is_counted(twin: TwinHandle, kubeconfig: Path) -> None:
    twin.reset()
    kubectl(kubeconfig, "get", "pods", "-A")
    assert twin.status()["writes"]["kubernetes"] == 0
    kubectl(kubeconfig, "label", "node", "a1", "colour=red")
    assert twin.status()["writes"]["kubernetes"] == 1


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [
        ("/ping", "", 200), ("/cacerts", "", 200), ("/readyz", "", 401), ("/api/v1/nodes", "", 401),
        ("/v1-k3s/client-ca.crt", "", 401), ("/v1-k3s/client-ca.crt", "node:{token}", 200),
        ("/v1-k3s/client-ca.crt", "node:wrong", 401), ("/v1-k3s/server-bootstrap", "server:{token}", 200),
        ("/v1-k3s/server-bootstrap", "node:{token}", 401), ("/v1-k3s/none", "server:{token}", 404),
    ],
)  # fmt: skip
def test_the_supervisor_wants_the_token(twin: TwinHandle, path: str, header: str, status: int) -> None:
    assert ask(twin, "192.168.7.13", path, header.format(token=twin.secrets["keyring:bench/k3s"])) == status


def ask(twin: TwinHandle, address: str, path: str, user: str = "") -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(f"https://{place(twin, f'{address}:6443')}{path}")
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    try:
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code


def test_every_server_has_a_certificate_for_its_address(twin: TwinHandle, kubeconfig: Path) -> None:
    document: Any = yaml.safe_load(kubeconfig.read_text())
    ca = base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    for address in ("192.168.7.11", "192.168.7.14"):
        host, port = place(twin, f"{address}:6443").split(":")
        context = ssl.create_default_context(cadata=ca)
        with (
            socket.create_connection((host, int(port)), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname=address) as secure,
        ):
            assert secure.version() == "TLSv1.3"


def test_the_user_has_the_context_of_the_lab(twin: TwinHandle) -> None:
    document = yaml.safe_load((twin.state / "labkit" / "files" / ".kube" / "config").read_text())
    assert document["current-context"] == "bench"
    assert document["clusters"][0]["cluster"]["server"] == "https://192.168.7.11:6443"


def test_faults_of_the_api(twin: TwinHandle, kubeconfig: Path) -> None:
    twin.fault("api-closing:1")
    with pytest.raises(OSError, match=r"closed|reset"):
        ask(twin, "192.168.7.11", "/readyz")
    twin.clear("api-closing")
    twin.fault("api-slow:20")
    kubectl(kubeconfig, "get", "nodes")
    twin.clear("api-slow")


def test_two_hosts_gone_take_the_quorum(twin: TwinHandle, kubeconfig: Path) -> None:
    twin.fault("host-down:north")
    command = [KUBECTL, "--kubeconfig", str(kubeconfig), "get", "nodes"]
    lost = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert lost.returncode == 1
    assert "etcdserver: request timed out" in lost.stderr
    twin.clear("host-down")
    for _ in range(200):
        back = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if back.returncode == 0 and back.stdout.count(" Ready ") == 6:
            return
    raise AssertionError(f"expected all six nodes to be back, got {back.stdout}{back.stderr}")


def lost_connection(twin: TwinHandle, line: str) -> bool:
    try:
        return ssh(twin, "a2", "192.168.7.22", line).exit_status is None
    except (asyncssh.Error, OSError):
        return True


def test_a_connection_that_drops_leaves_the_installer_half_done(twin: TwinHandle) -> None:
    twin.fault("ssh-drops:a2")
    line = (
        "curl -sfL https://get.k3s.io -o /tmp/i && "
        "sudo INSTALL_K3S_VERSION=v1.34.1+k3s1 INSTALL_K3S_SKIP_START=true sh /tmp/i agent"
    )
    assert lost_connection(twin, line)
    assert twin.status()["faults"] == []
    assert str(ssh(twin, "a2", "192.168.7.22", "k3s --version").stdout).startswith("k3s version v1.34.1+k3s1")
    assert str(ssh(twin, "a2", "192.168.7.22", "systemctl is-active k3s-agent").stdout) == "active\n"
    assert ssh(twin, "a2", "192.168.7.22", line).exit_status == 0
