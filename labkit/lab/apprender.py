"""Render the folder of an app in the form of the lab's repository: only the files that it needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from labkit.lab.apps import AppSpec
from labkit.lab.models import Model

SECRET = "secret.yaml"  # noqa: S105  # the name of a file
FILES = ("deployment.yaml", "service.yaml", "ingress.yaml", "pv.yaml", "pvc.yaml", SECRET)
"""The files of an app, in the order in which its kustomization lists them."""


class RepoForm(Model):
    """How this repository writes its apps, as its other apps show."""

    folder: str = "kubernetes/apps"
    """Where the folders of apps are."""
    namespace: str = "default"
    tls_secret: str
    """The Secret with the certificate of the hosts."""
    ingress_class: str = "traefik-external"
    entry_points: tuple[str, ...] = ("websecure",)
    middleware: tuple[str, str] = ("authelia", "authelia")
    """Namespace and name of the middleware that asks Authelia."""
    storage_class: str = "longhorn"
    nfs_options: tuple[str, ...] = ("nfsvers=4.2", "hard", "noatime")
    nas: str = "scale.lan"
    listed: str = ""
    """A kustomization above the apps that lists them; empty when Flux takes all folders."""
    pins: dict[str, str] = Field(default_factory=dict)
    """Volumes that the app's claims in Git are pinned to, by claim."""


def render_app(app: AppSpec, form: RepoForm) -> dict[str, str]:
    """Return the files of an app by name, all but its secret, which is rendered when its values are known."""
    trees: dict[str, list[dict[str, Any]]] = {
        "deployment.yaml": [_deployment(app)],
        "service.yaml": [_service(app)],
        "ingress.yaml": [_ingress(app, form)],
    }
    if app.nfs:
        trees["pv.yaml"] = [_persistent_volume(app, one.name, form) for one in app.nfs]
    if app.nfs or app.volume:
        trees["pvc.yaml"] = _claims(app, form)
    names = [name for name in FILES if name in trees or (name == SECRET and app.secret_keys)]
    trees["kustomization.yaml"] = [
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": form.namespace,
         "resources": names}
    ]  # fmt: skip
    return {name: dump(*documents) for name, documents in trees.items()}


def render_secret(app: AppSpec, values: Mapping[str, str]) -> str:
    """Return the app's Secret in clear, ready to be encrypted."""
    return dump({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": app.name}, "type": "Opaque",
                 "stringData": {key: _quoted(values[key]) for key in app.secret_keys}})  # fmt: skip


def dump(*documents: Mapping[str, Any]) -> str:
    """Write YAML as the repository does: two spaces, lists indented, no line folded."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 1 << 16
    parts = []
    for one in documents:
        stream = StringIO()
        yaml.dump(one, stream)
        parts.append(stream.getvalue())
    return "---\n".join(parts)


def _quoted(value: str) -> str:
    """Quote what YAML would read as something else than a text."""
    plain = YAML(typ="safe", pure=True)
    try:
        same = plain.load(value) == value and value == value.strip() and "\n" not in value
    except Exception:  # noqa: BLE001  # whatever the parser makes of it, quotes are right
        same = False
    words = ("yes", "no", "on", "off", "y", "n", "true", "false", "null", "~")
    return value if same and value.lower() not in words else DoubleQuotedScalarString(value)


def _labels(app: AppSpec) -> dict[str, str]:
    return {"app": app.name}


def _deployment(app: AppSpec) -> dict[str, Any]:
    spec: dict[str, Any] = {"replicas": app.replicas}
    if app.volume or app.nfs:
        spec["strategy"] = {"type": "Recreate"}
    spec["selector"] = {"matchLabels": _labels(app)}
    pod: dict[str, Any] = {"containers": [_container(app)]}
    volumes = [one.name for one in (app.volume, *app.nfs) if one is not None]
    if volumes:
        pod["volumes"] = [
            {"name": name, "persistentVolumeClaim": {"claimName": f"{app.name}-{name}"}} for name in volumes
        ]
    spec["template"] = {"metadata": {"labels": _labels(app)}, "spec": pod}
    metadata = {"name": app.name, "labels": _labels(app)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _container(app: AppSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"name": app.name, "image": app.image}
    if app.args:
        found["args"] = [_quoted(one) for one in app.args]
    env = dict(app.env)
    if app.authentication == "oidc" and app.oidc is not None and app.oidc.id_key:
        env[app.oidc.id_key] = app.name
    if env:
        found["env"] = [{"name": name, "value": _quoted(value)} for name, value in env.items()]
    if app.secret_keys:
        found["envFrom"] = [{"secretRef": {"name": app.name}}]
    found["ports"] = [{"name": "http", "containerPort": app.port}]
    found["readinessProbe"] = {"httpGet": {"path": app.health, "port": "http"}}
    found["resources"] = {"requests": {"cpu": app.cpu, "memory": app.memory}, "limits": {"memory": app.memory}}
    mounts: list[dict[str, Any]] = []
    if app.volume:
        mounts.append({"name": app.volume.name, "mountPath": app.volume.mount})
    mounts += [{"name": one.name, "mountPath": one.mount, **({"readOnly": True} if one.read_only else {})}
               for one in app.nfs]  # fmt: skip
    if mounts:
        found["volumeMounts"] = mounts
    return found


def _service(app: AppSpec) -> dict[str, Any]:
    ports = [{"name": "http", "port": app.port, "targetPort": "http"}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": app.name},
            "spec": {"selector": _labels(app), "ports": ports}}  # fmt: skip


def _ingress(app: AppSpec, form: RepoForm) -> dict[str, Any]:
    route: dict[str, Any] = {"kind": "Rule", "match": f"Host(`{app.host}`)"}
    if app.needs_login:
        space, name = form.middleware
        route["middlewares"] = [{"name": name, "namespace": space}]
    route["services"] = [{"name": app.name, "port": app.port}]
    metadata: dict[str, Any] = {"name": app.name}
    if form.ingress_class:
        metadata["annotations"] = {"kubernetes.io/ingress.class": form.ingress_class}
    return {
        "apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "metadata": metadata,
        "spec": {"entryPoints": list(form.entry_points), "routes": [route], "tls": {"secretName": form.tls_secret}},
    }  # fmt: skip


def _persistent_volume(app: AppSpec, name: str, form: RepoForm) -> dict[str, Any]:
    one = next(mount for mount in app.nfs if mount.name == name)
    return {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{app.name}-{name}"},
        "spec": {
            "capacity": {"storage": one.size}, "accessModes": [_mode(one.read_only)],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": DoubleQuotedScalarString(""),
            "mountOptions": list(form.nfs_options), "nfs": {"server": one.server or form.nas, "path": one.export},
        },
    }  # fmt: skip


def _mode(read_only: bool) -> str:
    return "ReadOnlyMany" if read_only else "ReadWriteMany"


def _claims(app: AppSpec, form: RepoForm) -> list[dict[str, Any]]:
    found = []
    if app.volume:
        labels = {"recurring-job.longhorn.io/source": "enabled",
                  f"recurring-job-group.longhorn.io/{app.volume.backup}": "enabled"}  # fmt: skip
        name = f"{app.name}-{app.volume.name}"
        metadata = {"name": name, **({"labels": labels} if app.volume.backup else {})}
        spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "storageClassName": form.storage_class,
                                "resources": {"requests": {"storage": app.volume.size}}}  # fmt: skip
        # A volume that does not exist yet cannot be named: only a pin that Git has already is kept.
        if name in form.pins:
            spec["volumeName"] = form.pins[name]
        found.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    for one in app.nfs:
        name = f"{app.name}-{one.name}"
        found.append({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": [_mode(one.read_only)], "storageClassName": DoubleQuotedScalarString(""),
                     "resources": {"requests": {"storage": one.size}}, "volumeName": name},
        })  # fmt: skip
    return found
