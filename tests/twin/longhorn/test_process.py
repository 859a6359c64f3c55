"""Longhorn in a whole twin, through the doors that clients use: kubectl, the control server, the mounted export."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import yaml

from labkit.twin.client import TwinHandle, start_twin
from labkit.twin.kube.crd_files import definitions
from labkit.twin.longhorn.contents import read_tree, tree_checksum
from labkit.twin.longhorn.install import objects
from labkit.twin.longhorn.store import BackupStore

LAB = Path(__file__).parents[2] / "data" / "twin" / "k3s-lab.yaml"
KUBECTL = str(Path(sys.executable).with_name("kubectl"))
URL = "nfs://nas.lan:/mnt/tank/backups"
PROXY = "/api/v1/namespaces/longhorn-system/services/longhorn-frontend:80/proxy/v1"
POD = {
    "containers": [{"name": "main", "image": "example/notes:1"}],
    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "notes"}}],
}
APP = [
    {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "notes"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}},
                 "storageClassName": "longhorn"},
    },
    {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "notes"},
        "spec": {"selector": {"matchLabels": {"app": "notes"}},
                 "template": {"metadata": {"labels": {"app": "notes"}}, "spec": POD}},
    },
]  # fmt: skip


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[TwinHandle]:
    running = start_twin(LAB, state=tmp_path / "twin", scenario="k3s", scale=0.004)
    yield running
    running.stop(remove=True)


class Kubectl:
    """kubectl with the kubeconfig of a server."""

    def __init__(self, twin: TwinHandle, folder: Path) -> None:
        self._path = folder / "kubeconfig"
        places = json.loads(twin.connect_file.read_text())
        host, port = places["192.168.7.11:22"].split(":")
        key = asyncssh.import_private_key(twin.secrets["file:~/.ssh/bench"])

        async def read() -> str:
            async with asyncssh.connect(
                host, int(port), username="admin", client_keys=[key], known_hosts=None, config=[]
            ) as shell:
                return str((await shell.run("sudo cat /etc/rancher/k3s/k3s.yaml")).stdout)

        document = yaml.safe_load(asyncio.run(read()))
        cluster = document["clusters"][0]["cluster"]
        cluster |= {"server": f"https://{places['192.168.7.11:6443']}", "tls-server-name": "192.168.7.11"}
        self._path.write_text(yaml.safe_dump(document))

    def __call__(self, *words: str, given: Any = None) -> str:
        command = [KUBECTL, "--kubeconfig", str(self._path), *words]
        text = None if given is None else json.dumps(given)
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self, *items: Any) -> None:
        self("create", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": list(items)})

    def act(self, volume: str, action: str, **body: Any) -> Any:
        return json.loads(self("create", "--raw", f"{PROXY}/volumes/{volume}?action={action}", "-f", "-", given=body))


def until(probe: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := probe()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return value


def test_data_is_backed_up_and_gone_with_the_machines(twin: TwinHandle, tmp_path: Path) -> None:
    kubectl = Kubectl(twin, tmp_path)
    kubectl.create(*definitions("longhorn-v1.10.2"))
    kubectl.create(*(item for _, item in objects("1.10.2", backup_target=URL)))
    kubectl.create(*APP)
    volume, seen = next(iter(until(twin.data).items()))
    assert (seen["namespace"], seen["claim"], seen["writes"]) in {("default", "notes", 0), ("", "", 0)}
    until(lambda: twin.data()[volume]["mounted"])
    written = twin.write_data()[volume]
    assert written["writes"] == 1
    snapshot = kubectl.act(volume, "snapshotCreate")["name"]
    kubectl(
        "-n", "longhorn-system", "wait", "--for=jsonpath={.status.readyToUse}=true", f"snapshots.longhorn.io/{snapshot}"
    )
    writes = twin.status()["writes"]["kubernetes"]
    kubectl.act(volume, "snapshotBackup", name=snapshot)
    assert twin.status()["writes"]["kubernetes"] == writes + 1
    kubectl("-n", "longhorn-system", "wait", "--for=jsonpath={.status.state}=Completed", "backups.longhorn.io", "--all")
    store = BackupStore(Path(twin.exports[URL]))
    image = tmp_path / "image"
    image.write_bytes(store.restore_image(volume, store.backups(volume)[0]))
    assert tree_checksum(read_tree(image)) == written["checksum"]
    twin.fault("backup-corrupt")
    assert twin.status()["faults"] == []
    for name in ("s1", "s2", "s3", "s4", "a1", "a2"):
        twin.delete_vm(name)
    assert twin.data() == {}
    assert store.volumes() == [volume]
