"""kube-vip serves the virtual address of the API: from the start, later, and when another server takes it over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit.systems import ssh
from labkit.twin.client import TwinHandle
from tests.e2e.k3s.conftest import bootstrap, edit_lab, enter, look, targets

MakeTwin = Callable[..., TwinHandle]
VIP = "10.8.0.9"
MANIFEST = "/var/lib/rancher/k3s/server/manifests/kube-vip.yaml"


def give_vip(data: Any) -> None:
    data["network"]["vip"] = VIP


def test_a_new_cluster_has_its_virtual_address_from_the_start(make_twin: MakeTwin, lab_file: Path) -> None:
    edit_lab(lab_file, give_vip)
    twin = make_twin()
    plan = bootstrap(lab_file)
    for name in ("one", "two", "three"):
        join = next(change for change in plan.changes if change.id == f"server/{name}/create")
        assert f"kube-vip/{name}/create" in join.needs
    joins = {change.target: change.after["joins"] for change in plan.changes if change.kind in ("server", "agent")}
    assert joins["two"] == "https://10.8.0.11:6443"
    assert joins["five"] == f"https://{VIP}:6443"
    assert targets(bootstrap(lab_file)) == []
    lab, access, _ = enter(lab_file)
    assert f"https://{VIP}:6443" in access.path(lab.k3s.kubeconfig).read_text()
    with ssh.connect(lab, access, lab.servers[1]) as shell:
        text = shell.read_file(MANIFEST, sudo=True).decode()
        mode = shell.run(("stat", "-c", "%a %U", MANIFEST), sudo=True).text.split()
    assert mode == ["600", "root"]
    assert "value: eth0" in text
    twin.fault("host-down:north")
    assert access.wait(lambda: look(lab_file, "k3s").vip or None, what="another server at the address", deadline=300.0)


def test_a_cluster_gets_a_virtual_address_later(make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin(scenario="k3s")
    edit_lab(lab_file, give_vip)
    changes = [(change.id, str(change.risk)) for change in bootstrap(lab_file).changes]
    servers = ("one", "two", "three")
    assert changes == [
        *((f"k3s-config/{name}/update", "disruptive") for name in servers),  # the certificate names it first
        *((f"kube-vip/{name}/create", "safe") for name in servers),
        (f"vip/{VIP}/act", "safe"),
        ("cluster/trio/act", "safe"),
        ("kubeconfig/trio/update", "safe"),
    ]
    assert targets(bootstrap(lab_file)) == []
