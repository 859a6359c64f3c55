"""config.yaml: what is in it, that any YAML reader gets back what was meant, and when two are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from labkit.lab import Lab, load_lab
from labkit.lab.addresses import address_clashes
from labkit.lab.k3sconfig import config_differences, render_config, token_form, token_password, wanted_config

ROOT = Path(__file__).parents[2]
TOKEN = "K10" + "ab" * 32 + "::server:s3cret"


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(ROOT / "parameters/lab.yaml")


def read(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_the_first_server_founds_the_cluster(lab: Lab) -> None:
    assert wanted_config(lab, lab.servers[0], None) == {
        "cluster-init": True,
        "node-name": "k3s-master-01",
        "node-ip": "192.168.5.20",
        "node-label": ["topology.kubernetes.io/zone=hades"],
        "tls-san": ["192.168.5.20", "192.168.5.21", "192.168.5.22", "192.168.5.23"],
        "write-kubeconfig-mode": "0600",
        "etcd-snapshot-schedule-cron": "0 */6 * * *",
        "etcd-snapshot-retention": 20,
        "disable": ["servicelb", "traefik", "local-storage"],
    }


def test_others_join_and_an_agent_has_nothing_of_a_server(lab: Lab) -> None:
    agent = next(machine for machine in lab.machines if machine.role == "agent")
    config = wanted_config(lab, agent, "https://192.168.5.20:6443")
    assert list(config) == ["server", "node-name", "node-ip", "node-label"]


def test_the_labs_own_keys_are_for_servers(lab: Lab) -> None:
    extra = {"tls-san": ["k3s.lan"], "etcd-expose-metrics": True}
    other = lab.model_copy(update={"k3s": lab.k3s.model_copy(update={"config": extra})})
    config = wanted_config(other, lab.servers[0], None)
    assert config["tls-san"][-1] == "k3s.lan"  # type: ignore[index]
    assert config["etcd-expose-metrics"] is True


def test_the_mode_stays_a_text(lab: Lab) -> None:
    document = read(render_config(wanted_config(lab, lab.servers[0], None), "secret"))
    assert document["write-kubeconfig-mode"] == "0600"
    assert document["token"] == "secret"


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x7f\u2028\u2029\ufeff\ufffe\uffff"))


@given(token=texts, value=texts, items=st.lists(texts, min_size=1))
def test_what_is_written_is_read_back(token: str, value: str, items: list[str]) -> None:
    wanted = {"a": value, "b": items, "c": True, "d": 7}
    assert read(render_config(wanted, token)) == {"token": token, **wanted}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "same"),
    [
        ({"disable": "servicelb,traefik,local-storage"}, True),
        ({"disable": ["traefik", "local-storage", "servicelb"]}, True),
        ({"disable": ["traefik"]}, False),
        ({"etcd-snapshot-retention": "20"}, True),
        ({"write-kubeconfig-mode": 384}, False),
        ({"cluster-init": None, "server": "https://192.168.5.22:6443"}, True),
        ({"cluster-init": None, "server": "https://192.168.9.9:6443"}, False),
        ({"by-hand": "x"}, False),
    ],
)
def test_settings_are_compared_by_meaning(lab: Lab, seen: dict[str, Any], same: bool) -> None:
    wanted = wanted_config(lab, lab.servers[0], None)
    there = {key: value for key, value in {**wanted, **seen}.items() if value is not None}
    assert (config_differences(lab, wanted, there) == {}) is same


@pytest.mark.parametrize(
    ("token", "form"),
    [("abc123", "short"), (TOKEN, "full"), ("a b", "odd"), ('a"b', "odd"), ("K10abc::server:x", "odd"), ("", "odd")],
)
def test_the_form_of_a_token(token: str, form: str) -> None:
    assert token_form(token) == form


def test_the_part_of_a_token_that_counts() -> None:
    assert token_password(TOKEN) == "s3cret"
    assert token_password("s3cret") == "s3cret"


def test_addresses_that_clash(lab: Lab) -> None:
    assert address_clashes(lab, ["192.168.5.20", "fe80::1", "10.42.0.1"]) == []
    assert address_clashes(lab, ["192.168.5.52"]) == ["192.168.5.52, inside 192.168.5.50-192.168.5.59"]
    network = lab.network.model_copy(update={"vip": lab.servers[0].address})
    assert address_clashes(lab.model_copy(update={"network": network}), ["192.168.5.20"])
