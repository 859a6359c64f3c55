"""A schedule as an app folder of the GitOps repository: CronJobs, what they may read, their lab files. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml.scalarstring import LiteralScalarString

from labkit.lab.apprender import dump
from labkit.rules.access import read_roles
from labkit.rules.portable import CONFIG, KUBECONFIG, SECRETS, PortableLab, kubeconfig
from labkit.rules.scheduling import Job

SECRET = "secret.yaml"  # noqa: S105  # the name of a file
TEMPLATE = "secret.yaml.template"
WORK = "/var/lib/labkit"
_USER = 1000
_FINDINGS = (1, 2, 3, 5)
"""Exit statuses after which running it again gives nothing else; 4 is a system that did not answer."""


@dataclass(frozen=True)
class Part:
    """One lab of the folder: its job, its lab for the pod, and whether that runs in the lab's own cluster."""

    job: Job
    lab: PortableLab
    inside: bool


@dataclass(frozen=True)
class Folder:
    """What is the same for all labs of a folder."""

    name: str
    namespace: str
    image: str
    storage_class: str = ""
    size: str = "1Gi"
    secrets: bool = True
    encrypted: bool = False
    """Whether the folder has its encrypted Secret already."""


def render_folder(folder: Folder, parts: Sequence[Part]) -> dict[str, str]:
    """Return the files of the app folder by name; `secret.yaml.template` is for a person to fill in and encrypt."""
    several = len(parts) > 1
    trees: dict[str, list[dict[str, Any]]] = {
        "namespace.yaml": [_namespace(folder)],
        "serviceaccount.yaml": [_account(folder)],
        "rbac.yaml": read_roles(folder.name, folder.namespace, secrets=folder.secrets),
        "configmap.yaml": [_config(folder, part) for part in parts],
        "pvc.yaml": [_claim(folder, shared=several)],
        "cronjob.yaml": [job for part in parts for job in _cronjobs(folder, part, several=several)],
    }
    names = [*trees, *([SECRET] if folder.encrypted else [])]
    trees["kustomization.yaml"] = [{"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
                                    "namespace": folder.namespace, "resources": names}]  # fmt: skip
    files = {name: dump(*documents) for name, documents in trees.items()}
    if any(part.lab.keys for part in parts):
        files[TEMPLATE] = _template(folder, parts)
    return files


def cronjob_name(folder: Folder, part: Part, *, several: bool) -> str:
    """Return the name of a lab's CronJob: the folder's, with the lab's behind it when there are several."""
    return f"{folder.name}-{part.job.lab}" if several else folder.name


def _object(kind: str, version: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": dict(_LABELS)}, **more}


_LABELS = {"app.kubernetes.io/name": "labkit", "app.kubernetes.io/managed-by": "labkit"}


def _namespace(folder: Folder) -> dict[str, Any]:
    found = _object("Namespace", "v1", folder.namespace)
    found["metadata"]["labels"] |= {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return found


def _account(folder: Folder) -> dict[str, Any]:
    return _object("ServiceAccount", "v1", folder.name, automountServiceAccountToken=False)


def _config(folder: Folder, part: Part) -> dict[str, Any]:
    texts = {"lab.yaml": part.lab.text, **part.lab.texts}
    if part.inside:
        texts[KUBECONFIG] = dump(kubeconfig(part.job.lab))
    return _object("ConfigMap", "v1", _of_lab(folder, part),
                   data={name: LiteralScalarString(text) for name, text in texts.items()})  # fmt: skip


def _of_lab(folder: Folder, part: Part) -> str:
    return f"{folder.name}-{part.job.lab}"


def _claim(folder: Folder, *, shared: bool) -> dict[str, Any]:
    spec: dict[str, Any] = {"accessModes": ["ReadWriteMany" if shared else "ReadWriteOnce"],
                            "resources": {"requests": {"storage": folder.size}}}  # fmt: skip
    if folder.storage_class:
        spec["storageClassName"] = folder.storage_class
    found = _object("PersistentVolumeClaim", "v1", folder.name, spec=spec)
    # The history of the reports: it outlives the folder in Git.
    found["metadata"]["annotations"] = {"kustomize.toolkit.fluxcd.io/prune": "disabled"}
    return found


def _cronjobs(folder: Folder, part: Part, *, several: bool) -> list[dict[str, Any]]:
    name, job = cronjob_name(folder, part, several=several), part.job
    overview = ("--overview", f"{WORK}/index.html") if several else ()
    labels = {"labkit/schedule": job.name, "labkit/lab": job.lab, "labkit/runbook": job.runbook}
    times = {"schedule": job.when.cron, "timeZone": job.zone}
    found = [_cronjob(name, times, labels, _pod(folder, part, (*job.run_words("kubernetes"), *overview)))]
    if job.deliver_at is not None:
        hour, minute = job.deliver_at
        times = {"schedule": f"{minute} {hour} * * *", "timeZone": job.quiet_zone or job.zone}
        found.append(_cronjob(f"{name}-deliver", times, {}, _pod(folder, _messenger(part), job.deliver_words)))
    return found


def _messenger(part: Part) -> Part:
    """The part as it tells people: without access to the cluster, and with no secrets but their addresses."""
    keys = tuple(one for one in part.lab.keys if one.where.startswith("messages."))
    return replace(part, lab=replace(part.lab, keys=keys), inside=False)


def _cronjob(name: str, times: Mapping[str, str], labels: Mapping[str, str], pod: Mapping[str, Any]) -> dict[str, Any]:
    found = _object("CronJob", "batch/v1", name)
    found["metadata"]["labels"] |= labels
    found["spec"] = {
        **times,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"spec": {
            "activeDeadlineSeconds": 12 * 3600,
            "backoffLimit": 2,
            "podFailurePolicy": {"rules": [
                {"action": "FailJob", "onExitCodes": {"containerName": "labkit", "operator": "In",
                                                      "values": list(_FINDINGS)}},
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]},
            "template": {"metadata": {"labels": {**_LABELS, **labels}}, "spec": pod},
        }},
    }  # fmt: skip
    return found


def _pod(folder: Folder, part: Part, words: Sequence[str]) -> dict[str, Any]:
    secret = _of_lab(folder, part)
    files = [one for one in part.lab.keys if not one.variable]
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": _of_lab(folder, part)}},
        {"name": "work", "persistentVolumeClaim": {"claimName": folder.name}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if files:
        items = [{"key": one.key, "path": one.key} for one in files]
        volumes.append({"name": "secrets", "secret": {"secretName": secret, "items": items, "optional": True,
                                                      "defaultMode": 0o440}})  # fmt: skip
    return {
        "serviceAccountName": folder.name if part.inside else "default",
        "automountServiceAccountToken": part.inside,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER,
                            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(folder, part, words, secret, with_files=bool(files))],
        "volumes": volumes,
    }  # fmt: skip


def _container(folder: Folder, part: Part, words: Sequence[str], secret: str, *, with_files: bool) -> dict[str, Any]:
    home = f"{WORK}/{part.job.lab}"
    env: list[dict[str, Any]] = [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108  # of the pod's own volume
        {"name": "XDG_STATE_HOME", "value": f"{home}/state"},
    ]
    env += [
        {"name": one.key, "valueFrom": {"secretKeyRef": {"name": secret, "key": one.key, "optional": True}}}
        for one in part.lab.keys
        if one.variable
    ]
    mounts = [
        {"name": "config", "mountPath": CONFIG, "readOnly": True},
        {"name": "work", "mountPath": WORK},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # of the pod's own volume
    ]
    if with_files:
        mounts.append({"name": "secrets", "mountPath": SECRETS, "readOnly": True})
    return {
        "name": "labkit", "image": folder.image, "command": ["labkit"], "args": ["-C", home, *words],
        "workingDir": WORK,
        "env": env, "volumeMounts": mounts,
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip


def _template(folder: Folder, parts: Sequence[Part]) -> str:
    """The Secrets with empty values: a person fills them in, and sops encrypts them before they reach Git."""
    head = [
        "# What the CronJobs of this folder need to know; the values are yours, and never reach Git in clear:",
        f"#   cp {TEMPLATE} {SECRET} and fill it in",
        f"#   sops --encrypt --in-place {SECRET}",
        f"#   add `- {SECRET}` to kustomization.yaml (writing the schedule again does this as well)",
    ]
    documents = []
    for part in parts:
        if not part.lab.keys:
            continue
        lines = ["apiVersion: v1", "kind: Secret", "metadata:", f"  name: {_of_lab(folder, part)}", "type: Opaque",
                 "stringData:"]  # fmt: skip
        for one in part.lab.keys:
            lines += [f"  # {one.where}: {one.reference}", f'  {one.key}: ""']
        documents.append("\n".join(lines) + "\n")
    return "\n".join(head) + "\n" + "---\n".join(documents)
