"""What k3s makes of its settings and tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.twin.guests.files import Files
from labkit.twin.k3s.data import seal, unseal
from labkit.twin.k3s.errors import Fatal
from labkit.twin.k3s.pki import Pki
from labkit.twin.k3s.settings import Settings, kubeconfig_mode, read_settings
from labkit.twin.k3s.tokens import read_token

CONFIG = "/etc/rancher/k3s/config.yaml"


def read(tmp_path: Path, *arguments: str, environment: dict[str, str] | None = None, **files: str) -> Settings:
    guest = Files(tmp_path / "root")
    for name, text in files.items():
        path = CONFIG if name == "config" else f"{CONFIG}.d/{name}.yaml"
        guest.put(path, text)
    return read_settings(guest, arguments, environment or {})


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("cluster-init: true", "cluster-init", ("true",)),
        ("disable: [traefik, servicelb]", "disable", ("traefik", "servicelb")),
        ("disable: traefik,servicelb", "disable", ("traefik", "servicelb")),
        ("tls-san: 10.0.0.1", "tls-san", ("10.0.0.1",)),
        ("node-label:\n- a=b,c\n- d=e", "node-label", ("a=b,c", "d=e")),
        ("etcd-snapshot-retention: 20", "etcd-snapshot-retention", ("20",)),
        ("token: 0123", "token", ("83",)),
        ('token: "0123"', "token", ("0123",)),
        ("server:", "server", ("",)),
        ("", "server", ()),
    ],
)
def test_a_value_of_the_file_becomes_texts(tmp_path: Path, text: str, key: str, values: tuple[str, ...]) -> None:
    assert read(tmp_path, config=text).all(key) == values


@pytest.mark.parametrize(
    ("text", "mode"),
    [('write-kubeconfig-mode: "0640"', 0o640), ("write-kubeconfig-mode: 0644", 0o420), ("debug: true", 0o600),
     ("write-kubeconfig-mode: '600'", 0o600)],
)  # fmt: skip
def test_an_unquoted_mode_is_another_one(tmp_path: Path, text: str, mode: int) -> None:
    assert kubeconfig_mode(read(tmp_path, config=text)) == mode


def test_a_mode_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="invalid syntax"):
        kubeconfig_mode(read(tmp_path, config="write-kubeconfig-mode: 0o644x"))


def test_drop_ins_count_in_order_of_their_names_and_flags_most(tmp_path: Path) -> None:
    files = {"config": "disable: [traefik]\nnode-name: a", "a": "node-name: b\ndisable+: [servicelb]",
             "b": "node-name: c"}  # fmt: skip
    settings = read(tmp_path, "--tls-san", "x", "--tls-san=y", **files)
    assert settings.one("node-name") == "c"
    assert settings.all("disable") == ("traefik", "servicelb")
    assert settings.all("tls-san") == ("x", "y")
    assert read(tmp_path, "--disable", "coredns", **files).all("disable") == ("coredns",)


def test_the_environment_counts_least_and_files_hold_tokens(tmp_path: Path) -> None:
    environment = {"K3S_URL": "https://a:6443", "K3S_TOKEN": "one", "K3S_CLUSTER_INIT": "true"}
    settings = read(tmp_path, environment=environment, config="server: https://b:6443")
    assert (settings.one("server"), settings.one("token")) == ("https://b:6443", "one")
    assert settings.on("cluster-init")
    held = Files(tmp_path / "root")
    held.put("/root/token", "secret\n")
    assert read_settings(held, ["--token-file=/root/token"], {}).one("token") == "secret"
    with pytest.raises(Fatal, match="no such file"):
        read_settings(held, ["--token-file=/root/none"], {})


@pytest.mark.parametrize("text", ["a: [", "- a", "just words", "a: b: c"])
def test_a_broken_file_is_fatal(tmp_path: Path, text: str) -> None:
    with pytest.raises(Fatal, match="failed to load"):
        read(tmp_path, config=text)


def test_servers_compare_what_they_must_share(tmp_path: Path) -> None:
    plain = read(tmp_path, config="disable: [traefik]").critical()
    assert plain == read(tmp_path, config="disable: [coredns]\ncluster-cidr: 10.42.0.0/16").critical()
    assert plain != read(tmp_path, config="disable: [servicelb]").critical()
    assert plain != read(tmp_path, config="flannel-backend: host-gw").critical()


@pytest.mark.parametrize(
    ("text", "password", "user"),
    [("abc", "abc", "server"), (" abc\n", "abc", "server"), (f"K10{'a' * 64}::node:x:y", "x:y", "node"),
     ("server::abc", "abc", "server")],
)  # fmt: skip
def test_tokens_have_two_forms(text: str, password: str, user: str) -> None:
    token = read_token(text)
    assert (token.password, token.user) == (password, user)


@pytest.mark.parametrize("text", ["", "  ", "K10abc", f"K10{'a' * 63}::server:x"])
def test_other_tokens_are_refused(text: str) -> None:
    with pytest.raises(Fatal, match="failed to normalize token"):
        read_token(text)


@given(st.text(), st.text())
def test_only_the_same_token_opens_what_is_sealed(password: str, other: str) -> None:
    pki = Pki("a", "b", "c", "d", 1.0)
    assert unseal(seal(pki, password), password) == pki
    if password != other:
        with pytest.raises(Fatal, match="encrypted with different token"):
            unseal(seal(pki, password), other)
