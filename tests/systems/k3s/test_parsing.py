"""What is made of the outputs of programs on a guest, and of objects of the API."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import InputError
from labkit.facts.guests import TokenState
from labkit.facts.selectors import matches
from labkit.lab import Lab, load_lab
from labkit.secrets import Secrets
from labkit.systems import guests
from labkit.systems.access import Access
from labkit.systems.k3s.airgap import airgap_files, read_airgap
from labkit.systems.k3s.nodes import _parse_taint
from labkit.systems.k3s.read import parse_node, parse_pod, show_taint

ROOT = Path(__file__).parents[3]
MEMINFO = "MemTotal:        4018348 kB\nMemFree:          211232 kB\n"
LSMOD = "Module                  Size  Used by\niscsi_tcp              24576  0\next4                  999  1\n"
SS = """\
LISTEN 0      4096                127.0.0.1:10248      0.0.0.0:*
LISTEN 0      4096          127.0.0.53%lo:53           0.0.0.0:*
LISTEN 0      4096                  0.0.0.0:22         0.0.0.0:*
LISTEN 0      4096                        *:6443             *:*
LISTEN 0      4096                    [::1]:6010          [::]:*
LISTEN 0      4096                     [::]:22            [::]:*
"""
ADDRESSES = """[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1"}]},
{"ifname":"eth0","addr_info":[{"family":"inet","local":"192.168.5.20"},{"family":"inet6","local":"fe80::1"}]},
{"ifname":"cni0","addr_info":[{"family":"inet","local":"10.42.0.1"}]},
{"ifname":"flannel.1","addr_info":[{"family":"inet","local":"10.42.0.0"}]}]"""


def test_what_a_guest_says() -> None:
    assert guests._memory(MEMINFO) == 4018348 * 1024
    assert guests._number("     Avail\n12345678\n") == 12345678
    assert guests._modules(LSMOD) == ("iscsi_tcp",)
    assert guests._ports(SS) == (22, 6443)
    assert guests._interfaces(ADDRESSES) == {"192.168.5.20": "eth0"}
    assert guests._units("active\ninactive\n") == {"k3s": "active", "k3s-agent": "inactive"}
    assert guests._version("k3s version v1.33.4+k3s1 (148243c4)\ngo version go1.24.5\n") == "v1.33.4+k3s1"


@pytest.mark.parametrize("parse", [guests._memory, guests._number, guests._ports, guests._interfaces, guests._version])
def test_nothing_said_is_nothing_known(parse: Any) -> None:
    assert not parse("")


def test_no_secret_of_the_settings_is_kept() -> None:
    text = "token: abcdefgh\nagent-token: hgfedcba\netcd-s3-secret-key: zzzzzzz\nserver: https://a:6443\nport: 6443\n"
    assert guests._parse_config(text) == ({"server": "https://a:6443", "port": 6443}, "abcdefgh")
    assert guests._parse_config("just a text") == ({}, "")
    assert guests._parse_config("a: [") == ({}, "")


@pytest.mark.parametrize(
    ("seen", "wanted", "state"),
    [
        ("", "abcdefgh", TokenState.NONE),
        ("abcdefgh", "abcdefgh", TokenState.SAME),
        ("K10" + "0" * 64 + "::server:abcdefgh", "abcdefgh", TokenState.SAME),
        ("K10" + "0" * 64 + "::server:abcdefg", "abcdefgh", TokenState.OTHER),
        ("abcdefgh", None, TokenState.UNKNOWN),
    ],
)
def test_tokens_are_compared_by_what_counts(seen: str, wanted: str | None, state: TokenState) -> None:
    assert guests.compare_tokens(seen, wanted) is state


def test_a_node() -> None:
    item = {
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "true"},
                     "annotations": {"labkit/cordoned-by": "upgrade-k3s", "other": "x"}},
        "spec": {"unschedulable": True, "taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown", "message": "stopped posting"},
                           {"type": "EtcdIsVoter", "status": "True"}],
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.33.4+k3s1"},
        },
    }  # fmt: skip
    node = parse_node(item)
    assert (node.ready, node.problem, node.voter, node.server) == (False, "stopped posting", True, True)
    assert (node.address, node.version, node.taints) == ("10.0.0.1", "v1.33.4+k3s1", ("a=b:NoSchedule",))
    assert node.cordoned_by == "upgrade-k3s"
    assert node.annotations == {"labkit/cordoned-by": "upgrade-k3s"}


def test_a_pod_knows_its_owner_and_its_budgets() -> None:
    metadata = {
        "namespace": "a", "name": "p", "labels": {"app": "x"},
        "ownerReferences": [{"kind": "Other", "controller": False}, {"kind": "ReplicaSet", "controller": True}],
    }  # fmt: skip
    budgets = [
        {"metadata": {"name": "mine", "namespace": "a"}, "spec": {"selector": {"matchLabels": {"app": "x"}}}},
        {"metadata": {"name": "there", "namespace": "b"}, "spec": {"selector": {}}},
        {"metadata": {"name": "none", "namespace": "a"}, "spec": {}},
    ]
    pod = parse_pod("n", "Running", "1/1", metadata, budgets)
    assert (pod.owner, pod.budgets, pod.moves) == ("ReplicaSet", ("mine",), True)
    assert parse_pod("<none>", "Pending", "0/1", {}, ()).node == ""


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
    ],
)
def test_selectors(selector: Any, expected: bool) -> None:
    assert matches(selector, {"a": "1"}) is expected


@pytest.mark.parametrize("text", ["a=b:NoSchedule", "a:NoExecute", "node.x/a=b:PreferNoSchedule"])
def test_taints_there_and_back(text: str) -> None:
    assert show_taint(_parse_taint(text)) == text


def airgap(tmp_path: Path, *missing: str, broken: str = "") -> tuple[Lab, Access]:
    lab = load_lab(ROOT / "parameters/lab.yaml")
    k3s = lab.k3s.model_copy(update={"install": "airgap", "airgap_dir": str(tmp_path)})
    names = ["install.sh", "k3s", "k3s-airgap-images-amd64.tar.zst"]
    sums = []
    for name in names:
        (tmp_path / name).write_text(name)
        digest = hashlib.sha256((name if name != broken else "x").encode()).hexdigest()
        sums += [f"{digest}  {name}"] if name != "install.sh" else []
    (tmp_path / "sha256sum-amd64.txt").write_text("\n".join(sums) + "\n")
    for name in missing:
        (tmp_path / name).unlink()
    return lab.model_copy(update={"k3s": k3s}), Access(on="lab", secrets=Secrets(), state=tmp_path)


def test_files_to_carry(tmp_path: Path) -> None:
    files = airgap_files(*airgap(tmp_path))
    assert files["/usr/local/bin/k3s"] == (tmp_path / "k3s", 0o755)
    assert "/var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst" in files
    assert len(files) == 3


@pytest.mark.parametrize("name", ["install.sh", "k3s", "k3s-airgap-images-amd64.tar.zst", "sha256sum-amd64.txt"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        airgap_files(*airgap(tmp_path, name))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"k3s: k3s\.airgap_dir: expected the SHA-256"):
        airgap_files(*airgap(tmp_path, broken="k3s"))


def test_what_is_read_of_a_release(tmp_path: Path) -> None:
    lab, access = airgap(tmp_path)
    (tmp_path / "kube-vip.tar").write_text("k3s does not list it")
    seen = read_airgap(lab, access)
    assert seen is not None
    assert (seen.problems, seen.versions) == ((), ())
    assert "/var/lib/rancher/k3s/agent/images/kube-vip.tar" in airgap_files(lab, access)
    (tmp_path / "k3s").write_bytes(b"\x7fELF v1.33.4+k3s1\0go1.24 v1.33.4+k3s1")
    seen = read_airgap(lab, access)
    assert seen is not None
    assert seen.versions == ("v1.33.4+k3s1",)
    assert [problem.file for problem in seen.problems] == [str(tmp_path / "k3s")]
    assert read_airgap(load_lab(ROOT / "parameters/lab.yaml"), access) is None
