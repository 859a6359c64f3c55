"""New machines become a cluster; machines come, change, go, and are made anew."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import InputError
from labkit.lab import Lab
from labkit.process import run_program
from labkit.systems import ssh
from labkit.systems.access import Access
from labkit.systems.kubernetes import Cluster
from labkit.twin.client import TwinHandle
from tests.e2e.conftest import provision
from tests.e2e.k3s.conftest import bootstrap, edit_lab, enter, look, targets

MakeTwin = Callable[..., TwinHandle]
KUBECTL = Path(sys.executable).parent / "kubectl"


def drop(data: Any, name: str) -> None:
    del data["vms"][name]


def test_new_machines_become_one_cluster(make_twin: MakeTwin, lab_file: Path) -> None:
    twin = make_twin()
    first = bootstrap(lab_file)
    assert len([change for change in first.changes if change.kind in ("server", "agent")]) == 5
    assert len(bootstrap(lab_file)) == 0
    k3s = look(lab_file, "k3s")
    assert len(k3s.voters) == 3
    assert {node.name: node.zone for node in k3s.nodes}["three"] == "west"
    assert k3s.node("four").labels["disk"] == "ssd"
    assert k3s.node("five").taints == ("gpu=yes:NoSchedule",)
    lab, access, cluster = enter(lab_file)
    kubeconfig = access.path(lab.k3s.kubeconfig)
    assert kubeconfig.is_relative_to(twin.state)
    assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600
    assert twin.secrets[lab.k3s.token] not in kubeconfig.read_text()
    check_settings(twin, lab, access)
    check_secrets(twin, lab, access, cluster, lab_file.parents[1] / "outputs")


def check_settings(twin: TwinHandle, lab: Lab, access: Access) -> None:
    """They lie on the guests for root alone, and nothing is left behind."""
    with ssh.connect(lab, access, lab.servers[1]) as shell:
        mode = shell.run(("stat", "-c", "%a %U", "/etc/rancher/k3s/config.yaml"), sudo=True).text.split()
        text = shell.read_file("/etc/rancher/k3s/config.yaml", sudo=True).decode()
        left = shell.run(("ls", "-a", "/tmp"), sudo=True).text
    assert mode == ["600", "root"]
    assert twin.secrets[lab.k3s.token] in text
    assert "labkit" not in left


def check_secrets(twin: TwinHandle, lab: Lab, access: Access, cluster: Cluster, outputs: Path) -> None:
    """No secret got into the files of a run."""
    with ssh.connect(lab, access, lab.servers[0]) as shell:
        full = shell.read_file("/var/lib/rancher/k3s/server/token", sudo=True).decode().strip()
    secrets = [*twin.secrets.values(), full, cluster.credentials.key]
    files = [path for path in outputs.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        text = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], path


def test_the_kubeconfig_serves_the_official_client_and_kubectl(make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin(scenario="k3s")
    lab, access, cluster = enter(lab_file)
    from kubernetes.client import CoreV1Api

    names = {node.metadata.name for node in CoreV1Api(cluster.client).list_node().items}
    assert names == set(lab.vms)
    maps = cluster.dynamic.resources.get(api_version="v1", kind="ConfigMap")
    maps.create(namespace="default", body={"metadata": {"name": "mine"}, "data": {"a": "b"}})
    assert cluster.get("/api/v1/namespaces/default/configmaps/mine")["data"] == {"a": "b"}
    table = cluster.table("/api/v1/nodes", include="None")
    assert table.cell(table.rows[0], "version") == "v1.33.4+k3s1"
    assert len(list(cluster.items("/api/v1/nodes"))) == 5
    there, port = access.route("10.8.0.12", 6443)
    done = run_program(
        [KUBECTL, "--kubeconfig", access.path(lab.k3s.kubeconfig), "--context", "trio", "get", "nodes", "-o", "name",
         "--server", f"https://{there}:{port}", "--tls-server-name", "10.8.0.12"],
        timeout=30.0,
    )  # fmt: skip
    assert len(done.text.splitlines()) == 5


def test_a_lab_file_that_grows(make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin()
    assert "agent/five/create" not in targets(bootstrap(lab_file, only=("one", "two", "four")))
    again = bootstrap(lab_file)
    assert [change.id for change in again.changes if change.kind in ("server", "agent")] == [
        "server/three/create",
        "agent/five/create",
    ]
    assert len(bootstrap(lab_file)) == 0


def test_nodes_that_go_and_come_again(make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin(scenario="k3s")
    before, names = lab_file.read_text(), ("three", "five")
    for name in names:
        edit_lab(lab_file, lambda data, name=name: drop(data, name))
    assert len([change for change in bootstrap(lab_file).changes if change.kind == "node"]) == 0
    gone = targets(bootstrap(lab_file, destroy=names))
    assert gone[-2:] == ["node/five/delete", "node/three/delete"]
    k3s = look(lab_file, "k3s")
    assert {node.name for node in k3s.nodes} == {"one", "two", "four"}
    assert len(k3s.voters) == 2
    assert len(bootstrap(lab_file, destroy=names)) == 0
    lab_file.write_text(before)
    with pytest.raises(InputError, match="no longer in the lab"):
        bootstrap(lab_file, destroy=names)
    assert {change.target for change in bootstrap(lab_file).changes} >= set(names)
    assert len(bootstrap(lab_file)) == 0


def test_machines_that_were_made_anew_join_what_is_there(make_twin: MakeTwin, lab_file: Path) -> None:
    twin = make_twin(scenario="k3s")
    cluster = look(lab_file, "k3s").ca
    for name in ("one", "four"):
        twin.delete_vm(name)
    provision(lab_file)
    joined = {c.target: c.after["joins"] for c in bootstrap(lab_file).changes if c.kind in ("server", "agent")}
    assert joined == dict.fromkeys(("one", "four"), "https://10.8.0.12:6443")
    k3s = look(lab_file, "k3s")
    assert k3s.ca == cluster
    assert len(k3s.voters) == 3
    assert len(bootstrap(lab_file)) == 0


def test_changed_settings_labels_and_taints(make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin(scenario="k3s")

    def change(data: Any) -> None:
        data["k3s"]["snapshot_retention"] = 7
        data["vms"]["four"]["labels"] = {"disk": "nvme", "room": "cellar"}
        data["vms"]["five"]["taints"] = []

    edit_lab(lab_file, change)
    plan = bootstrap(lab_file)
    kinds = [(c.kind, c.target, str(c.risk)) for c in plan.changes]
    assert [("k3s-config", name, "disruptive") for name in ("one", "two", "three")] == kinds[:3]
    k3s = look(lab_file, "k3s")
    assert k3s.node("four").labels["disk"] == "nvme"
    assert k3s.node("five").taints == ()
    assert len(bootstrap(lab_file)) == 0
