"""A release of a chart, and the objects that charts are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.twin.kube.door import Object


@dataclass(frozen=True)
class Release:
    """One chart in one version under a name, with its values."""

    name: str
    namespace: str
    chart: str
    version: str
    app_version: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """The name that charts give to their objects."""
        return self.name if self.chart in self.name else f"{self.name}-{self.chart}"

    def value(self, path: str, default: Any = None) -> Any:
        """Return the value at a path with dots; `default` when there is none or it is null."""
        found: Any = self.values
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return default if found is None else found

    def labels(self, component: str = "", name: str = "") -> dict[str, str]:
        """Return the labels that charts put on their objects."""
        found = {
            "app.kubernetes.io/name": name or self.chart, "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/version": self.app_version,
            "helm.sh/chart": f"{self.chart}-{self.version}".replace("+", "_"),
        }  # fmt: skip
        return {**found, "app.kubernetes.io/component": component} if component else found


@dataclass(frozen=True)
class Program:
    """A container of a chart: its image, arguments, ports by name, and what it asks for."""

    name: str
    image: str
    args: Sequence[str] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    cpu: str = "20m"
    memory: str = "64Mi"

    def template(self, labels: Mapping[str, str], account: str, tolerations: Sequence[Object] = ()) -> Object:
        """Return the pod template."""
        container: dict[str, Any] = {
            "name": self.name, "image": self.image, "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": self.cpu, "memory": self.memory}},
        }  # fmt: skip
        if self.args:
            container["args"] = list(self.args)
        if self.ports:
            container["ports"] = [
                {"name": name, "containerPort": number, "protocol": "TCP"} for name, number in self.ports.items()
            ]
        spec: dict[str, Any] = {"containers": [container], "serviceAccountName": account}
        if tolerations:
            spec["tolerations"] = list(tolerations)
        return {"metadata": {"labels": dict(labels)}, "spec": spec}


def thing(api_version: str, kind: str, name: str, release: Release, labels: Mapping[str, str], **body: Any) -> Object:
    """Return an object in the release's namespace."""
    about = {"name": name, "namespace": release.namespace, "labels": dict(labels)}
    return {"apiVersion": api_version, "kind": kind, "metadata": about, **body}


def wide(api_version: str, kind: str, name: str, labels: Mapping[str, str], **body: Any) -> Object:
    """Return an object of the whole cluster."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": dict(labels)}, **body}


def account(name: str, release: Release, labels: Mapping[str, str]) -> Object:
    """Return a ServiceAccount."""
    return thing("v1", "ServiceAccount", name, release, labels)


def deployment(
    name: str, release: Release, program: Program, labels: Mapping[str, str], *, replicas: int = 1, user: str = ""
) -> Object:
    """Return a Deployment; its pods are selected by name, instance and component."""
    selector = chosen(labels)
    spec = {
        "replicas": replicas, "selector": {"matchLabels": selector},
        "template": program.template(labels, user or name),
    }  # fmt: skip
    return thing("apps/v1", "Deployment", name, release, labels, spec=spec)


def daemon_set(name: str, release: Release, program: Program, labels: Mapping[str, str], user: str = "") -> Object:
    """Return a DaemonSet that runs on every node, tainted or not."""
    template = program.template(labels, user or name, [{"operator": "Exists"}])
    spec = {"selector": {"matchLabels": chosen(labels)}, "template": template}
    return thing("apps/v1", "DaemonSet", name, release, labels, spec=spec)


def service(name: str, release: Release, labels: Mapping[str, str], ports: Sequence[Object], **spec: Any) -> Object:
    """Return a Service in front of the pods with these labels."""
    body = {"selector": chosen(labels), "ports": list(ports), **spec}
    return thing("v1", "Service", name, release, labels, spec=body)


def port(name: str, number: int, target: str | int = "") -> Object:
    """Return a port of a Service."""
    return {"name": name, "port": number, "protocol": "TCP", "targetPort": target or name}


def chosen(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that pods are selected by."""
    keys = ("app", "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component")
    return {key: labels[key] for key in keys if key in labels}


def admin(name: str, release: Release, labels: Mapping[str, str], user: str) -> list[Object]:
    """Return a ClusterRole and its binding for a ServiceAccount."""
    role = wide("rbac.authorization.k8s.io/v1", "ClusterRole", name, labels,
                rules=[{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}])  # fmt: skip
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject = {"kind": "ServiceAccount", "name": user, "namespace": release.namespace}
    binding = wide("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", name, labels, roleRef=ref, subjects=[subject])
    return [role, binding]
