from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from labkit.facts.proxmox import Node, ProxmoxFacts, Storage, VmConfig, VmRow

ROOT = Path(__file__).parents[2]
NINE = (ROOT / "tests/data/proxmox/nine.json").read_text()
sizes = st.integers(min_value=0, max_value=2**50)
names = st.text(alphabet="abcdef-0123456789", min_size=1, max_size=12)
texts = st.text(max_size=20)

facts = st.builds(
    ProxmoxFacts,
    version=st.sampled_from(["8.4.14", "9.1.1"]),
    major=st.sampled_from([8, 9]),
    nodes=st.lists(st.builds(Node, name=names, maxmem=sizes), max_size=3).map(tuple),
    storages=st.lists(st.builds(Storage, node=names, name=names, type=names, avail=sizes), max_size=3).map(tuple),
    vms=st.lists(st.builds(VmRow, vmid=st.integers(100, 999), name=names, node=names, tags=st.just(("a", "b"))),
                 max_size=4).map(tuple),
    configs=st.dictionaries(
        st.integers(100, 999),
        st.builds(VmConfig, values=st.dictionaries(names, texts), pending=st.dictionaries(names, st.none() | texts)),
        max_size=3,
    ),
    privileges=st.none() | st.dictionaries(names, st.lists(names, max_size=3).map(tuple), max_size=3),
    read_at=st.datetimes(),
)  # fmt: skip


@given(facts)
def test_round_trip(seen: ProxmoxFacts) -> None:
    assert ProxmoxFacts.model_validate_json(seen.model_dump_json()) == seen


def test_lookups() -> None:
    seen = ProxmoxFacts.model_validate_json(NINE)
    vm = seen.vm("k3s-master-01")
    assert vm is not None
    assert str(vm) == "VM 101 (k3s-master-01) on hades"
    assert seen.by_id(101) == vm
    assert seen.config(vm).values["cores"] == "2"
    assert seen.vm("ubuntu-template-hades") is None
    assert len(seen.templates("hades", "ubuntu-template-hades")) == 1
    assert len(seen.tagged("labkit")) == 9
    assert seen.node("mars") is None
    assert seen.storage("hades", "local-lvm") is not None
    assert {str(address) for _, address in seen.static_addresses()} >= {"192.168.5.20", "192.168.5.34"}


def test_what_waits_wins_over_what_runs() -> None:
    config = VmConfig(values={"cores": "1", "cpu": "host"}, pending={"cores": "2", "cpu": None})
    assert config.wanted == {"cores": "2"}


def test_the_nearest_path_decides_about_a_privilege() -> None:
    seen = ProxmoxFacts.model_validate_json(NINE).model_copy(
        update={"privileges": {"/": ("VM.Audit",), "/vms": ("VM.Clone",), "/vms/9000": ()}}
    )
    assert seen.may("/nodes/hades", "VM.Audit")
    assert seen.may("/vms/101", "VM.Clone")
    assert not seen.may("/vms/101", "VM.Audit")
    assert not seen.may("/vms/9000", "VM.Clone")
