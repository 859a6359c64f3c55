"""The app folder with CronJobs: kubectl builds it, an API server takes it, and what it may do is to read."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from labkit.errors import InputError
from labkit.lab import load_lab
from labkit.lab.loader import parse_lab
from labkit.lab.references import walk_references
from labkit.process import start_program
from labkit.rules.access import may
from labkit.runbooks.scheduling import Asked, InCluster, cluster_files, list_folder, plan_schedule
from labkit.systems.timers import write_files

ROOT = Path(__file__).parents[2]
LAB = (ROOT / "tests" / "data" / "e2e" / "lab.yaml").read_text()
MESSAGES = 'messages: {to: [env:NTFY_URL], quiet: "22:00-07:00", zone: Europe/Berlin}\n'
CLUSTER = InCluster(image="registry.lan/labkit:1")


def lab_file(folder: Path, name: str = "small", more: str = "") -> Path:
    path = folder / name / "parameters" / "lab.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(LAB.replace("name: small\n", f"name: {name}\n") + more)
    return path


def ask(*labs: Path, **more: Any) -> Asked:
    given: dict[str, Any] = {"runbook": "preflight", "labs": labs, "every": "day", "at": "06:30", "on": "lab",
                             "zone": "Europe/Berlin", "how": "kubernetes"}  # fmt: skip
    return Asked(**given | more)


def documents(text: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe", pure=True).load_all(text))


def written(folder: Path, *labs: Path, cluster: InCluster = CLUSTER, **more: Any) -> dict[str, str]:
    files = cluster_files(plan_schedule(ask(*labs, **more)), cluster, folder)
    write_files(folder, files)
    return files


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    log = Path(os.devnull)
    started = start_program([sys.executable, "-m", "labkit.twin.kube", "--port", str(port)], cwd=ROOT, log=log)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{url}/readyz", trust_env=False).text == "ok":
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url
    finally:
        started.terminate()
        started.wait(10)


def kubectl(server: str, home: Path, *words: str) -> str:
    program = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([str(program), "--server", server, *words], capture_output=True, text=True, check=False,
                          timeout=60, env={"PATH": os.environ["PATH"], "HOME": str(home)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_api_server_takes_the_folder_and_its_jobs(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "apps" / "labkit-preflight"
    written(folder, lab_file(tmp_path, more=MESSAGES))
    kubectl(server, tmp_path, "apply", "-f", str(folder / "namespace.yaml"))
    dry = kubectl(server, tmp_path, "apply", "-k", str(folder), "--dry-run=server")
    assert dry.count("created (server dry run)") == 9
    kubectl(server, tmp_path, "apply", "-k", str(folder))
    again = kubectl(server, tmp_path, "apply", "-k", str(folder))
    assert set(re.findall(r"(\w+)$", again, re.MULTILINE)) == {"unchanged"}
    kubectl(server, tmp_path, "-n", "labkit", "create", "job", "now", "--from=cronjob/labkit-preflight")
    selected = kubectl(server, tmp_path, "get", "cronjobs", "-A", "-l", "labkit/schedule=preflight,labkit/lab=small")
    assert selected.count("labkit-preflight") == 1


def test_it_may_read_and_nothing_else(tmp_path: Path) -> None:
    roles = documents(written(tmp_path / "f", lab_file(tmp_path))["rbac.yaml"])
    verbs = {verb for role in roles for rule in role.get("rules", ()) for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch"}
    for group, resource in (("", "pods"), ("", "nodes"), ("apps", "deployments"), ("longhorn.io", "volumes"),
                            ("kustomize.toolkit.fluxcd.io", "kustomizations"), ("", "secrets"),
                            ("cert-manager.io", "certificates"), ("traefik.io", "ingressroutes")):  # fmt: skip
        assert may(roles, "list", group, resource), resource
        for verb in ("create", "update", "patch", "delete", "deletecollection", "impersonate", "escalate"):
            assert not may(roles, verb, group, resource), resource
    for resource in ("pods/exec", "pods/attach", "pods/portforward", "nodes/proxy", "serviceaccounts/token"):
        assert not may(roles, "get", "", resource), resource
    bindings = [role for role in roles if role["kind"] == "ClusterRoleBinding"]
    assert {subject["name"] for one in bindings for subject in one["subjects"]} == {"labkit-preflight"}
    without = documents(
        written(tmp_path / "g", lab_file(tmp_path, "other"), cluster=replace(CLUSTER, secrets=False))["rbac.yaml"]
    )
    assert not may(without, "get", "", "secrets")
    assert may(without, "get", "", "configmaps")


def test_a_pod_can_do_little(tmp_path: Path) -> None:
    job, deliver = documents(written(tmp_path / "f", lab_file(tmp_path, more=MESSAGES))["cronjob.yaml"])
    spec = job["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("30 6 * * *", "Europe/Berlin", "Forbid")
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"], spec["startingDeadlineSeconds"]) == (
        3, 3, 3600)  # fmt: skip
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 43200
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                            "capabilities": {"drop": ["ALL"]}}  # fmt: skip
    assert container["args"] == [
        "-C", "/var/lib/labkit/small", "run", "preflight", "--lab", "/etc/labkit/config/lab.yaml", "--on", "lab",
        "--schedule", "small/preflight kubernetes 30 6 * * * Europe/Berlin",
    ]  # fmt: skip
    assert deliver["metadata"]["name"] == "labkit-preflight-deliver"
    assert deliver["spec"]["schedule"] == "0 7 * * *"
    messenger = deliver["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert messenger["automountServiceAccountToken"] is False
    names = [one["name"] for one in messenger["containers"][0]["env"] if "valueFrom" in one]
    assert names == ["NTFY_URL"]


def test_secrets_stand_there_by_name_only(tmp_path: Path) -> None:
    (tmp_path / "small" / "parameters").mkdir(parents=True)
    file = tmp_path / "small" / "parameters" / "lab.yaml"
    file.write_text(LAB)
    (file.parent / "small_key").write_text("PRIVATE-KEY-OF-MINE")
    files = written(tmp_path / "f", file)
    assert "PRIVATE-KEY-OF-MINE" not in "".join(files.values())
    (config,) = documents(files["configmap.yaml"])
    inside = parse_lab(config["data"]["lab.yaml"])
    assert dict(walk_references(inside))["guests.ssh_key"] == "file:/etc/labkit/secrets/guests-ssh-key"
    assert inside.k3s.kubeconfig == "/etc/labkit/config/kubeconfig"
    kubeconfig = documents(config["data"]["kubeconfig"])[0]
    assert kubeconfig["users"][0]["user"] == {"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"}
    assert inside.model_copy(update={"guests": None, "k3s": None, "git": None}) == load_lab(file).model_copy(
        update={"guests": None, "k3s": None, "git": None}
    )
    (template,) = documents(files["secret.yaml.template"])
    pod = documents(files["cronjob.yaml"])[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    used = {one["valueFrom"]["secretKeyRef"]["key"] for one in pod["containers"][0]["env"] if "valueFrom" in one}
    used |= {item["key"] for volume in pod["volumes"] if "secret" in volume for item in volume["secret"]["items"]}
    assert set(template["stringData"]) == used
    assert set(template["stringData"].values()) == {""}
    assert "SMALL_TOKEN" not in used  # what only writes is not given to a runbook that only reads
    assert "SMALL_READ_TOKEN" in used
    assert "SMALL_TOKEN" in "".join(written(tmp_path / "g", file, runbook="upgrade-k3s").values())


def test_a_secret_is_listed_when_it_is_encrypted_and_refused_in_clear(tmp_path: Path) -> None:
    file, folder = lab_file(tmp_path), tmp_path / "f"
    assert "secret.yaml" not in written(folder, file)["kustomization.yaml"]
    (folder / "secret.yaml").write_text("apiVersion: v1\nstringData: {a: ENC[AES256_GCM,data:x]}\nsops:\n  age: []\n")
    assert "  - secret.yaml\n" in written(folder, file)["kustomization.yaml"]
    (folder / "secret.yaml").write_text("apiVersion: v1\nstringData: {a: oh-no}\n")
    with pytest.raises(
        InputError, match=r"(?s)expected a Secret that sops has encrypted, got one in clear.*sops --enc"
    ):
        written(folder, file)


def test_certificates_go_along_and_must_be_there(tmp_path: Path) -> None:
    ca = tmp_path / "pve.pem"
    text = LAB.replace("proxmox:\n", f"proxmox:\n  tls: {{ca: {ca}}}\n").replace(
        "git: {", 'git: {known_hosts: "git.small.example ssh-ed25519 AAAA", '
    )
    file = tmp_path / "small" / "parameters" / "lab.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(
        InputError, match=r"proxmox.tls.ca of the lab file: .*expected a file that goes into the ConfigMap"
    ):
        written(tmp_path / "f", file)
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    (config,) = documents(written(tmp_path / "f", file)["configmap.yaml"])
    assert config["data"]["proxmox-tls-ca"] == "-----BEGIN CERTIFICATE-----\n"
    inside = parse_lab(config["data"]["lab.yaml"])
    assert inside.proxmox.tls.ca == "/etc/labkit/config/proxmox-tls-ca"
    assert inside.git.known_hosts == "git.small.example ssh-ed25519 AAAA"


def test_several_labs_make_a_cronjob_each(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "apps" / "labkit-preflight"
    files = written(folder, *(lab_file(tmp_path, name) for name in ("here", "there", "yonder")),
                    cluster=replace(CLUSTER, namespace="labs"))  # fmt: skip
    jobs = documents(files["cronjob.yaml"])
    assert [job["metadata"]["name"] for job in jobs] == [
        f"labkit-preflight-{lab}" for lab in ("here", "there", "yonder")
    ]
    assert documents(files["pvc.yaml"])[0]["spec"]["accessModes"] == ["ReadWriteMany"]
    pods = [job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in jobs]
    assert [pod["automountServiceAccountToken"] for pod in pods] == [True, False, False]
    for pod, lab in zip(pods, ("here", "there", "yonder"), strict=True):
        args = pod["containers"][0]["args"]
        assert args[:2] == ["-C", f"/var/lib/labkit/{lab}"]
        assert args[-2:] == ["--overview", "/var/lib/labkit/index.html"]
    assert "kubeconfig:" in files["secret.yaml.template"]
    assert [one["metadata"]["name"] for one in documents(files["secret.yaml.template"])] == [
        f"labkit-preflight-{lab}" for lab in ("here", "there", "yonder")
    ]
    kubectl(server, tmp_path, "apply", "-f", str(folder / "namespace.yaml"))
    assert kubectl(server, tmp_path, "apply", "-k", str(folder)).count("cronjob.batch/") == 3


def test_the_kustomization_above_lists_the_folder(tmp_path: Path) -> None:
    above = tmp_path / "apps" / "kustomization.yaml"
    assert list_folder(tmp_path / "apps" / "labkit-preflight") is None
    above.parent.mkdir()
    above.write_text("kind: Kustomization\nresources:\n  - whoami # mine\n")
    assert list_folder(tmp_path / "apps" / "labkit-preflight") == above
    assert above.read_text() == "kind: Kustomization\nresources:\n  - whoami # mine\n  - labkit-preflight\n"
    assert list_folder(tmp_path / "apps" / "labkit-preflight") is None


@pytest.mark.parametrize(
    ("cluster", "more", "said"),
    [
        (InCluster(), {}, "--image: expected a container image"),
        (replace(CLUSTER, namespace="Big One"), {}, "--namespace: expected lower-case letters"),
        (CLUSTER, {"name": "a" * 50}, "--name: expected a name that makes a CronJob's of at most 52 characters"),
    ],
)
def test_bad_input(cluster: InCluster, more: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        written(tmp_path / "f", lab_file(tmp_path), cluster=cluster, **more)


def test_two_labs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected labs of different names, got 'small twice'"):
        plan_schedule(ask(lab_file(tmp_path / "a"), lab_file(tmp_path / "b")))
