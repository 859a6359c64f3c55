"""The manifest of kube-vip: what it says, and that it is read back as it was meant."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML

from labkit.lab.kubevip import digest, manifest, parse_kube_vip, render_kube_vip

ADDRESS, VERSION = "192.168.5.40", "v0.8.9"


def objects(text: str) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(text))


def environment(text: str) -> dict[str, str]:
    container = objects(text)[3]["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_a_manifest_says_who_may_do_what_and_where_it_runs() -> None:
    found = objects(render_kube_vip(ADDRESS, VERSION, "eth0"))
    account, role, binding, daemons = found
    kinds = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet"]
    assert [item["kind"] for item in found] == kinds
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    verbs = {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]}
    assert {"get", "create", "update"} <= set(verbs["leases"])
    template = daemons["spec"]["template"]
    assert daemons["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert template["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert template["spec"]["hostNetwork"] is True
    assert template["spec"]["containers"][0]["image"] == "ghcr.io/kube-vip/kube-vip:v0.8.9"
    assert {toleration["effect"] for toleration in template["spec"]["tolerations"]} == {"NoSchedule", "NoExecute"}


def test_the_environment_is_made_of_texts() -> None:
    found = environment(render_kube_vip(ADDRESS, VERSION, "ens18"))
    wanted = {"address": ADDRESS, "port": "6443", "vip_interface": "ens18", "vip_arp": "true", "cp_enable": "true",
              "svc_enable": "false", "vip_leaderelection": "true", "vip_leaseduration": "5",
              "vip_renewdeadline": "3", "vip_retryperiod": "1"}  # fmt: skip
    assert found.items() >= wanted.items()
    assert all(isinstance(value, str) for value in found.values())
    assert "vip_interface" not in environment(render_kube_vip(ADDRESS, VERSION))


@pytest.mark.parametrize("interface", ["", "eth0", "enp3s0.20"])
def test_a_manifest_is_read_back(interface: str) -> None:
    seen = parse_kube_vip(render_kube_vip(ADDRESS, VERSION, interface))
    meant = digest(manifest(ADDRESS, VERSION, interface))
    assert seen == {"address": ADDRESS, "interface": interface, "version": VERSION, "digest": meant}


@pytest.mark.parametrize("text", ["", "a: [", "just a text", "spec: {template: {spec: {containers: 1}}}", "- 1"])
def test_what_is_no_manifest_of_kube_vip_is_told_by_its_digest(text: str) -> None:
    seen = parse_kube_vip(text)
    assert (seen["address"], seen["version"]) == ("", "")
    assert seen["digest"] != digest(manifest(ADDRESS, VERSION))
