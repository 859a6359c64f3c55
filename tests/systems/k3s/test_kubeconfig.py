"""The kubeconfig: what is merged, what stays, what is read back."""

from __future__ import annotations

import base64
import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.x509.oid import NameOID
from ruamel.yaml import YAML

from labkit.errors import InputError, StepFailed
from labkit.lab import Lab, load_lab
from labkit.secrets import Secrets
from labkit.systems.access import Access
from labkit.systems.k3s.kubeconfig import (
    compare,
    expiry,
    fingerprint,
    merge,
    parse_credentials,
    store_kubeconfig,
    stored_credentials,
)
from labkit.systems.kubernetes import Credentials

ROOT = Path(__file__).parents[3]
ENDS = datetime(2027, 8, 10, tzinfo=UTC)
OTHERS = """\
# my clusters
apiVersion: v1
kind: Config
preferences: {}
current-context: work
clusters:
- name: work   # the one at work
  cluster: {server: "https://work.example:6443"}
users:
- name: work
  user:
    token: abcdefgh
contexts:
- name: work
  context:
    cluster: work
    user: work
    namespace: mine
"""


def make(name: str, ends: datetime = ENDS) -> Credentials:
    key = generate_private_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "k3s-client-ca")])
    made = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=365))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Credentials(ca="THE CA", certificate=pem, key=private.decode())


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    return make("system:admin")


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(ROOT / "parameters/lab.yaml")


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(on="twin", secrets=Secrets(overrides={}), state=tmp_path, closed=True)


def load(text: str) -> Any:
    return YAML(typ="safe").load(text)


def test_a_context_is_added_and_all_else_stays(lab: Lab, access: Access, credentials: Credentials) -> None:
    path = access.path(lab.k3s.kubeconfig)
    path.parent.mkdir(parents=True)
    path.write_text(OTHERS)
    assert store_kubeconfig(lab, access, credentials, "https://192.168.5.20:6443") == path
    text = path.read_text()
    for line in ("# my clusters", "- name: work   # the one at work", "current-context: work", "    namespace: mine"):
        assert line in text
    document = load(text)
    assert [entry["name"] for entry in document["contexts"]] == ["work", "homelab"]
    assert document["contexts"][1]["context"] == {"cluster": "homelab", "user": "homelab"}
    assert document["clusters"][1]["cluster"]["server"] == "https://192.168.5.20:6443"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stored_credentials(lab, access) == credentials


def test_a_new_file_has_the_context_as_its_current_one(lab: Lab, access: Access, credentials: Credentials) -> None:
    path = store_kubeconfig(lab, access, credentials, "https://192.168.5.20:6443")
    assert load(path.read_text())["current-context"] == "homelab"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_link_stays_a_link(lab: Lab, access: Access, credentials: Credentials, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    real.write_text("")
    path = access.path(lab.k3s.kubeconfig)
    path.parent.mkdir(parents=True)
    path.symlink_to(real)
    store_kubeconfig(lab, access, credentials, "https://192.168.5.20:6443")
    assert path.is_symlink()
    assert "homelab" in real.read_text()


def test_what_is_no_kubeconfig_is_not_overwritten(lab: Lab, access: Access, credentials: Credentials) -> None:
    path = access.path(lab.k3s.kubeconfig)
    path.parent.mkdir(parents=True)
    path.write_text("- a list\n")
    with pytest.raises(StepFailed, match="expected a kubeconfig"):
        store_kubeconfig(lab, access, credentials, "https://192.168.5.20:6443")
    assert path.read_text() == "- a list\n"


def test_merging_twice_changes_nothing(credentials: Credentials) -> None:
    once = merge(YAML().load(OTHERS), "homelab", credentials, "https://a:6443")
    assert merge(YAML().load(once), "homelab", credentials, "https://a:6443") == once


def test_a_users_namespace_in_the_context_stays(credentials: Credentials) -> None:
    text = merge(YAML().load(OTHERS), "work", credentials, "https://a:6443")
    assert load(text)["contexts"][0]["context"]["namespace"] == "mine"


@pytest.mark.parametrize(
    ("server", "vip", "state"),
    [
        ("https://192.168.5.20:6443", False, "current"),
        ("https://192.168.5.22:6443", False, "current"),  # another server of the lab is as good
        ("https://192.168.9.9:6443", False, "stale"),
        ("https://127.0.0.1:6443", False, "stale"),
    ],
)
def test_how_it_compares(
    lab: Lab, access: Access, credentials: Credentials, server: str, vip: bool, state: str
) -> None:
    assert compare(lab, access, credentials, vip=vip).state == "missing"
    store_kubeconfig(lab, access, credentials, server)
    seen = compare(lab, access, credentials, vip=vip)
    assert (seen.state, seen.expires) == (state, ENDS)


@pytest.mark.parametrize(
    ("offered", "state"),
    [
        (make("system:admin"), "current"),  # another server's own
        (make("system:admin", ENDS + timedelta(days=200)), "stale"),  # k3s has renewed its certificates
        (make("system:admin", ENDS - timedelta(days=200)), "current"),
        (make("somebody"), "stale"),
        (replace(make("system:admin"), ca="ANOTHER CA"), "stale"),
    ],
)
def test_how_it_compares_with_what_is_offered(
    lab: Lab, access: Access, credentials: Credentials, offered: Credentials, state: str
) -> None:
    store_kubeconfig(lab, access, credentials, "https://192.168.5.20:6443")
    assert compare(lab, access, offered, vip=False).state == state


def test_an_answering_virtual_address_is_wanted(lab: Lab, access: Access, credentials: Credentials) -> None:
    network = lab.network.model_copy(update={"vip": lab.servers[0].address + 20})
    other = lab.model_copy(update={"network": network})
    store_kubeconfig(other, access, credentials, "https://192.168.5.20:6443")
    assert compare(other, access, credentials, vip=True).state == "stale"
    store_kubeconfig(other, access, credentials, "https://192.168.5.40:6443")
    assert compare(other, access, credentials, vip=True).state == "current"


@pytest.mark.parametrize("text", ["{}", "contexts: []", "clusters: [{name: a}]"])
def test_an_incomplete_one_has_no_credentials(text: str) -> None:
    assert parse_credentials(load(text), "a") is None


def test_a_token_in_place_of_a_certificate() -> None:
    document = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"certificate-authority-data": base64.b64encode(b"PEM").decode()}}],
        "users": [{"name": "u", "user": {"token": "a-long-token"}}],
    }
    assert parse_credentials(document) == Credentials(ca="PEM", token="a-long-token")


def test_fingerprints_do_not_depend_on_line_ends(credentials: Credentials) -> None:
    assert fingerprint(credentials.ca) == fingerprint(credentials.ca.replace("\n", "\r\n") + "\n")
    assert fingerprint("") == ""
    assert expiry(Credentials(ca="x", token="abcdef")) is None


def test_on_a_twin_the_users_own_files_are_far_away(lab: Lab, access: Access, tmp_path: Path) -> None:
    assert access.path("~/.kube/config") == tmp_path / "files/.kube/config"
    assert access.path("/etc/x/../y").is_relative_to(tmp_path)
    assert Access(on="lab", secrets=Secrets(), state=tmp_path).path("~/x") == Path.home() / "x"


def test_a_new_secret_is_stored_once(tmp_path: Path) -> None:
    secrets = Secrets(base=tmp_path)
    secrets.store("file:keys/token", "a-long-secret")
    assert stat.S_IMODE((tmp_path / "keys/token").stat().st_mode) == 0o600
    assert Secrets(base=tmp_path).resolve("file:keys/token") == "a-long-secret"
    for reference in ("file:keys/token", "env:LABKIT_TEST_NO_SUCH"):
        with pytest.raises(InputError):
            secrets.store(reference, "another-secret")


def test_a_pod_s_kubeconfig_names_files(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("PEM\n")
    (tmp_path / "token").write_text("a-token-of-a-pod\n")
    cluster = {"server": "https://kubernetes.default.svc", "certificate-authority": str(tmp_path / "ca.crt")}
    document = {
        "contexts": [{"name": lab.name, "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"tokenFile": str(tmp_path / "token")}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    moved = lab.model_copy(update={"k3s": lab.k3s.model_copy(update={"kubeconfig": str(tmp_path / "kubeconfig")})})
    access = Access(on="lab", secrets=Secrets(), state=tmp_path)
    assert stored_credentials(moved, access) == Credentials(ca="PEM", token="a-token-of-a-pod")
    assert parse_credentials(document, lab.name) is None  # what a server sends cannot make us read files
    (tmp_path / "token").unlink()
    assert stored_credentials(moved, access) is None
