from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from labkit.errors import InputError
from labkit.lab import Lab, load_lab
from labkit.lab.loader import dump_lab, parse_lab
from labkit.lab.types import format_size, parse_size

ROOT = Path(__file__).parents[2]
MINIMAL = (ROOT / "tests/data/lab/minimal.yaml").read_text()


def test_the_lab_of_the_repository_loads() -> None:
    lab = load_lab(ROOT / "parameters/lab.yaml")
    assert (lab.name, lab.domain, str(lab.ingress)) == ("homelab", "efym.net", "192.168.5.50")
    assert [machine.name for machine in lab.servers] == [f"k3s-master-0{number}" for number in range(1, 5)]
    assert len(lab.machines) == 9
    by_name = {machine.name: machine for machine in lab.machines}
    sizes = [(by_name[name].cores, by_name[name].memory, by_name[name].disk) for name in
             ("k3s-master-01", "k3s-worker-03", "k3s-master-04", "k3s-worker-05")]  # fmt: skip
    assert sizes == [(2, 4096, 102400), (2, 4096, 102400), (2, 1024, 15360), (2, 3072, 15360)]
    assert by_name["k3s-worker-04"].template == "ubuntu-template-venus"
    assert lab.nas.backup_target == "nfs://scale.lan:/mnt/tank/backups/appdata"


def edited(old: str, new: str) -> Lab:
    assert MINIMAL.count(old) == 1
    return parse_lab(MINIMAL.replace(old, new))


def test_a_size_is_the_nearest_of_vm_role_host_and_all() -> None:
    hosts = "atlas: {vm: {memory: 1 GiB, disk: 20 GiB}, agent: {memory: 2 GiB}, template: own}"
    lab = edited("atlas: {}", hosts)
    assert (lab.machines[1].memory, lab.machines[1].disk, lab.machines[1].cores) == (2048, 20480, 2)
    assert [machine.template for machine in lab.machines] == ["ubuntu-template-hades", "own"]
    lab = edited("192.168.5.21}", "192.168.5.21, memory: 3 GiB, cores: 4}")
    assert (lab.machines[1].memory, lab.machines[1].cores) == (3072, 4)


def test_a_host_without_vms_is_fine() -> None:
    assert "venus" in edited("  atlas: {}", "  atlas: {}\n  venus: {}").hosts


def test_anchors_merges_and_own_keys_for_them() -> None:
    text = MINIMAL.replace("name: small", "x-small: &small {memory: 1 GiB, disk: 20 GiB}\nname: small")
    text = text.replace("192.168.5.20}", "192.168.5.20, <<: *small}")
    text = text.replace("192.168.5.21}", "192.168.5.21, <<: [*small, {cores: 3, disk: 9 GiB}], disk: 30 GiB}")
    first, second = parse_lab(text).machines
    assert (first.memory, first.disk, first.cores) == (1024, 20480, 2)
    assert (second.memory, second.disk, second.cores) == (1024, 30720, 3)


def test_a_mistake_in_a_merged_part_is_told_where_it_stands() -> None:
    text = MINIMAL.replace("name: small", "x-small: &small {memory: 1 GB}\nname: small")
    with pytest.raises(InputError) as caught:
        parse_lab(text.replace("192.168.5.21}", "192.168.5.21, <<: *small}"))
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.column, mistake.where) == (1, 26, "vms.two.memory")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: small", "name: no"),  # no boolean in YAML 1.2
        ("name: small", '"name": !!str small'),
        ("192.168.5.21}", "192.168.5.21, labels: {since: 2024-01-01}}"),  # a date stays a text
        ("192.168.5.21}", '192.168.5.21, labels: {disk: "7"}, taints: ["a.example/b:NoExecute"]}'),
        ("gateway: 192.168.5.1\n", "gateway: 192.168.5.1\n  dns: [192.168.5.1, 9.9.9.9]\n"),
        ("load_balancer: [192.168.5.50-192.168.5.59]", "load_balancer: [192.168.5.50, 192.168.5.70 - 192.168.5.80]"),
        ("  load_balancer: [192.168.5.50-192.168.5.59]\n", ""),  # the nodes' own load balancer
        ("url: ssh://git@git.example.net/lab.git", "url: git@git.example.net:lab.git"),
        ("nfs://scale.lan:/mnt/tank/backups", "s3://backups@eu-central-1/lab"),
        ("token: env:K3S_TOKEN", "token: sops:../secrets/k3s.yaml#data.token"),
        ("  token: env:K3S_TOKEN", "  token: env:K3S_TOKEN\n  config: {node-label: [a=b], kubelet-arg: []}"),
        ("cidr: 192.168.5.0/24", "cidr: 192.168.0.0/16\n  vip: 192.168.7.7"),
    ],
)
def test_accepted(old: str, new: str) -> None:
    lab = edited(old, new)
    assert parse_lab(dump_lab(lab)) == lab


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_lab(path) == parse_lab(MINIMAL)


@given(st.integers(1, 10**9))
def test_sizes_survive_writing(mib: int) -> None:
    assert parse_size(format_size(mib)) == mib


# Whatever the file holds, there is a lab or a list of mistakes.

_TEXT = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="ab:-?[]{}&*!|>'\"%@`#,\n\t 01.<~=\\", max_size=60),
    st.lists(st.sampled_from(MINIMAL.splitlines(keepends=True)), max_size=30).map("".join),
)
_KEYS = st.sampled_from(
    ["vms", "hosts", "network", "cidr", "gateway", "address", "k3s", "token", "one", "memory", "<<", "x-a", "tls"]
)
_TREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS | st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


def lab_or_mistakes(text: str) -> None:
    try:
        lab = parse_lab(text)
    except InputError:
        return
    assert parse_lab(dump_lab(lab)) == lab


@given(_TEXT)
def test_any_text_gives_a_lab_or_mistakes(text: str) -> None:
    lab_or_mistakes(text)


@given(st.binary(max_size=60))
def test_any_bytes_give_mistakes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    with pytest.raises(InputError):
        load_lab(path)


@given(st.integers(0, len(MINIMAL)), st.integers(0, 30), st.text(max_size=6))
def test_any_damage_gives_a_lab_or_mistakes(start: int, length: int, new: str) -> None:
    lab_or_mistakes(MINIMAL[:start] + new + MINIMAL[start + length :])


def paths_of(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(found for key, child in children for found in paths_of(child, (*path, key)))]


@given(st.data())
def test_any_tree_in_place_of_a_value_gives_a_lab_or_mistakes(data: st.DataObject) -> None:
    import io

    yaml = YAML(typ="safe", pure=True)
    tree = yaml.load(MINIMAL)
    path = data.draw(st.sampled_from(paths_of(tree)[1:]))
    inner = tree
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = data.draw(_TREE)
    stream = io.StringIO()
    yaml.dump(tree, stream)
    lab_or_mistakes(stream.getvalue())


@st.composite
def labs(draw: st.DrawFn) -> Lab:
    tree = YAML(typ="safe", pure=True).load(MINIMAL)
    size = st.integers(5120, 10**6).map(lambda mib: f"{mib} MiB")
    names = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)
    hosts = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    sizing = st.fixed_dictionaries({}, optional={"cores": st.integers(1, 64), "memory": size, "disk": size})
    tree["hosts"] = {name: {"vm": draw(sizing), "server": draw(sizing)} for name in hosts}
    vms = draw(st.lists(names, min_size=1, max_size=12, unique=True))
    optional = {
        "memory": size,
        "labels": st.dictionaries(st.sampled_from(["a", "b.example/c"]), st.sampled_from(["x", "", "1"])),
        "taints": st.sampled_from([["a=b:NoSchedule"], ["a:NoExecute", "b:NoSchedule"]]),
    }
    tree["vms"] = {
        name: {
            "role": "server" if number == 0 else draw(st.sampled_from(["server", "agent"])),
            "host": draw(st.sampled_from(hosts)),
            "address": f"192.168.5.{100 + number}",
            **draw(st.fixed_dictionaries({}, optional=optional)),
        }
        for number, name in enumerate(vms)
    }
    return Lab.model_validate(tree)


@given(labs())
def test_a_lab_survives_writing(lab: Lab) -> None:
    again = parse_lab(dump_lab(lab))
    assert again == lab
    assert again.machines == lab.machines
