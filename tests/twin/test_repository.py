"""The example repository: real Git, real encryption, and clean under the checker, until somebody breaks it."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyrage
import pytest
import yaml

from labkit.checks.repository import check_repository
from labkit.errors import Refused
from labkit.lab.loader import load_lab
from labkit.redaction import redact
from labkit.secrets import sops_program
from labkit.systems.repository import read_repository
from labkit.twin.repository import LabValues, lab_values, materialise

ROOT = Path(__file__).parents[2]
KEY = pyrage.x25519.Identity.generate()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return materialise(tmp_path_factory.mktemp("example") / "homelab", age_recipient=str(KEY.to_public()))


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def decrypt(path: Path) -> dict[str, dict[str, str]]:
    env = {"SOPS_AGE_KEY": str(KEY), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sops_program(), "decrypt", path], env=env, capture_output=True, check=True)
    return yaml.safe_load(done.stdout)


def test_it_is_a_git_repository_with_one_commit(example: Path) -> None:
    assert git(example, "status", "--porcelain") == ""
    assert git(example, "rev-list", "--count", "master") == "1"
    assert git(example, "log", "-1", "--format=%an %ae %aI") == "homelab homelab@example.net 2026-01-01T00:00:00+00:00"


def test_it_is_clean_under_the_checker_with_its_key(example: Path) -> None:
    facts = read_repository(example, age_keys=[str(KEY)])
    assert [str(finding) for finding in check_repository(facts)] == []
    assert [build.name.partition("/")[2] for build in facts.clusters[0].builds] == [
        "flux-system", "apps", "infrastructure-configs", "infrastructure-controllers",
    ]  # fmt: skip
    assert len(facts.decryptions) == 4


def test_no_secret_is_in_clear_and_each_is_what_the_app_expects(example: Path) -> None:
    karakeep = decrypt(example / "kubernetes/apps/karakeep/secret.yaml")["stringData"]
    authelia = decrypt(example / "kubernetes/infrastructure/controllers/authelia/secret.yaml")["stringData"]
    texts = "\n".join(git(example, "show", f"HEAD:{path}") for path in git(example, "ls-files").splitlines())
    assert not any(value in texts for value in (*karakeep.values(), authelia["session"]))
    assert authelia["oidc-key.pem"].startswith("-----BEGIN PRIVATE KEY-----\n")
    assert redact(karakeep["NEXTAUTH_SECRET"]) != karakeep["NEXTAUTH_SECRET"]
    config = (example / "kubernetes/infrastructure/controllers/authelia/configmap.yaml").read_text()
    digest = next(line.split('"')[1] for line in config.splitlines() if "client_secret" in line)
    assert digest == pbkdf2(karakeep["OAUTH_CLIENT_SECRET"], digest.split("$")[3])


def pbkdf2(secret: str, salt: str) -> str:
    def decode(text: str) -> bytes:
        return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4))

    raw = hashlib.pbkdf2_hmac("sha512", secret.encode(), decode(salt), 310_000)
    text = base64.b64encode(raw).decode().rstrip("=").replace("+", ".")
    return f"$pbkdf2-sha512$310000${salt}${text}"


def test_the_same_seed_gives_the_same_secrets(example: Path, tmp_path: Path) -> None:
    again = materialise(tmp_path / "again", age_recipient=str(KEY.to_public()), commit=False)
    other = materialise(tmp_path / "other", age_recipient=str(KEY.to_public()), seed=b"other", commit=False)
    name = "kubernetes/apps/linkding/secret.yaml"
    first, second, third = (decrypt(folder / name)["stringData"] for folder in (example, again, other))
    assert first == second != third
    assert not (again / ".git").exists()


def test_it_takes_the_values_of_a_lab(tmp_path: Path) -> None:
    values = LabValues(
        domain="home.example.org",
        ingress="10.0.0.9",
        load_balancer=("10.0.0.9/32", "10.0.0.64/28"),
        nas_host="nas.home",
        backup_target="nfs://nas.home:/backups",
        git_url="ssh://git@127.0.0.1:2222/lab.git",
        git_branch="main",
        git_path="./clusters/home",
        replicas=1,
    )
    folder = materialise(tmp_path / "lab", age_recipient=str(KEY.to_public()), values=values)
    texts = "\n".join(path.read_text() for path in folder.rglob("*.yaml"))
    seed = LabValues()
    for word in (seed.domain, "efym-net", seed.ingress, seed.nas_host, seed.backup_target, seed.git_url):
        assert word not in texts
    assert "home-example-org-tls" in texts
    assert "defaultClassReplicaCount: 1" in texts
    assert (folder / "clusters/home/flux-system/gotk-sync.yaml").is_file()
    assert git(folder, "branch", "--show-current") == "main"
    assert [str(finding) for finding in check_repository(read_repository(folder))] == []


def test_values_come_from_the_lab_file() -> None:
    assert lab_values(load_lab(ROOT / "parameters/lab.yaml")) == LabValues()


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Refused, match="empty folder"):
        materialise(tmp_path, age_recipient=str(KEY.to_public()))


def test_it_has_the_form_of_the_lab(example: Path) -> None:
    apps = example / "kubernetes/apps"
    assert not (apps / "kustomization.yaml").exists()
    assert len(list(apps.iterdir())) >= 6
    for app in apps.iterdir():
        tree = yaml.safe_load((app / "kustomization.yaml").read_text())
        assert tree["namespace"] == "default"
        others = sorted(path.name for path in app.iterdir() if path.stem != "kustomization")
        assert sorted(tree["resources"]) == others
    claims = [doc for path in apps.rglob("pvc.yaml") for doc in yaml.safe_load_all(path.read_text())]
    longhorn = [claim for claim in claims if claim["spec"]["storageClassName"] == "longhorn"]
    assert len(longhorn) >= 4
    assert all(claim["spec"]["volumeName"].startswith("pvc-") for claim in longhorn)
    crds = (example / "kubernetes/clusters/production/flux-system/gotk-components.yaml").read_text()
    assert crds.count("\nkind: CustomResourceDefinition\n") >= 8


APPS = "kubernetes/apps"
CONFIGS = "kubernetes/infrastructure/configs"
CONTROLLERS = "kubernetes/infrastructure/controllers"
ENTRY = "kubernetes/clusters/production/apps.yaml"
LOGIN = "      middlewares:\n        - name: authelia\n          namespace: authelia\n"
SOPS = "  decryption:\n    provider: sops\n    secretRef:\n      name: sops-age\n"
REFLECTOR = "reflection-allowed-namespaces: "


@dataclass(frozen=True)
class Break:
    """A change of one file, and the finding that it must give: in which file, at the first line with these words."""

    id: str
    changed: str
    old: str
    new: str
    words: str
    told: str = ""

    def apply(self, root: Path) -> None:
        file = root / self.changed
        text = file.read_text()
        assert self.old in text
        file.write_text(text.replace(self.old, self.new, 1))

    def expected(self, root: Path) -> tuple[str, str, int]:
        path = self.told or self.changed
        lines = (root / path).read_text().splitlines()
        return self.id, path, next(number for number, line in enumerate(lines, 1) if self.words in line)


LONGHORN, JOBS = f"{CONTROLLERS}/longhorn/helmrelease.yaml", f"{CONFIGS}/longhorn/recurring-jobs.yaml"
WHOAMI, PVE = f"{APPS}/whoami/ingress.yaml", f"{CONFIGS}/hosts/pve.yaml"
CLAIM = f"{APPS}/linkding/pvc.yaml"
BREAKS = [
    Break("build-failed", f"{APPS}/actual/kustomization.yaml", "- pvc.yaml", "- pvcs.yaml", "pvcs"),
    Break("flux-dependency-missing", ENTRY, "name: infrastructure-configs", "name: infra", "name: infra"),
    Break("flux-source-missing", f"{CONTROLLERS}/metallb/helmrelease.yaml", "        name: metallb", "        name: lb",
          "name: lb"),
    Break("flux-api-removed", ENTRY, "fluxcd.io/v1", "fluxcd.io/v1beta2", "v1beta2"),
    Break("traefik-old-group", f"{CONFIGS}/hosts/transport.yaml", "traefik.io", "traefik.containo.us", "containo"),
    Break("longhorn-setting-ignored", LONGHORN, "defaultSettings:", "defaultSettings:\n      backupTarget: nfs://x:/y",
          "nfs://x:/y"),
    Break("longhorn-group-empty", JOBS, "    - default", "    - default\n    - rare", "rare"),
    Break("longhorn-no-backup", CLAIM, "longhorn.io/often", "longhorn.io/never", "labels:"),
    Break("volume-name-twice", CLAIM, "volumeName: pvc-", "volumeName: files-documents # pvc-", "volumeName"),
    Break("route-tls-secret", f"{CONFIGS}/certificates/wildcard.yaml", f"{REFLECTOR}authelia,", REFLECTOR, "secretName",
          f"{CONFIGS}/routes/authelia.yaml"),
    Break("route-tls-host", WHOAMI, "whoami.efym", "who.am.i.efym", "match"),
    Break("route-unprotected", WHOAMI, LOGIN, "", "match"),
    Break("route-middleware", WHOAMI, "          namespace: authelia\n", "", "name: authelia"),
    Break("route-service", WHOAMI, "- name: whoami", "- name: whoamy", "whoamy"),
    Break("host-twice", WHOAMI, "whoami.efym.net", "budget.efym.net", "match"),
    Break("route-port", PVE, "      port: 8006", "      port: 8007", "          port: 8006"),
    Break("traefik-not-allowed", f"{CONTROLLERS}/traefik/helmrelease.yaml", "allowExternalNameServices: true", "x: 1",
          "- name: pve", PVE),
    Break("sops-no-decryption", ENTRY, SOPS, "", "spec:"),
    Break("secret-in-env", f"{APPS}/linkding/deployment.yaml", "name: LD_SUPERUSER_NAME\n              value: admin",
          "name: LD_SUPERUSER_PASSWORD\n              value: R3alPassw0rd", "R3alPassw0rd"),
    Break("image-floating", f"{APPS}/whoami/deployment.yaml", ":v1.11.0", ":latest", "image:"),
    Break("chart-floating", LONGHORN, "version: 1.10.2", "version: 1.10.x", "version: 1.10.x"),
]  # fmt: skip


@pytest.mark.parametrize("one", BREAKS, ids=[one.id for one in BREAKS])
def test_a_break_is_found_at_its_place_and_nothing_else(example: Path, tmp_path: Path, one: Break) -> None:
    root = shutil.copytree(example, tmp_path / "broken", ignore=shutil.ignore_patterns(".git"))
    one.apply(root)
    found = [(f.id, f.file, f.line) for f in check_repository(read_repository(root))]
    assert one.expected(root) in found, found
    assert {name for name, _, _ in found} == {one.id}, found
