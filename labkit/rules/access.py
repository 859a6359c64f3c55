"""What a report may do in a cluster: read, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

READ = ("get", "list", "watch")
_CORE = (
    "configmaps", "endpoints", "events", "limitranges", "namespaces", "nodes", "persistentvolumeclaims",
    "persistentvolumes", "pods", "replicationcontrollers", "resourcequotas", "serviceaccounts", "services",
)  # fmt: skip
_GROUPS = (
    "acme.cert-manager.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps", "autoscaling", "batch",
    "cert-manager.io", "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io", "helm.cattle.io",
    "helm.toolkit.fluxcd.io", "image.toolkit.fluxcd.io", "k3s.cattle.io", "kustomize.toolkit.fluxcd.io",
    "longhorn.io", "metallb.io", "metrics.k8s.io", "networking.k8s.io", "node.k8s.io",
    "notification.toolkit.fluxcd.io", "policy", "scheduling.k8s.io", "source.toolkit.fluxcd.io", "storage.k8s.io",
    "traefik.io", "upgrade.cattle.io",
)  # fmt: skip
_URLS = ("/healthz", "/livez", "/livez/*", "/metrics", "/readyz", "/readyz/*", "/version")


def read_roles(name: str, namespace: str, *, secrets: bool) -> list[dict[str, Any]]:
    """Return the roles of a service account that only reads, and their bindings.

    Args:
        name: of the service account, and of the roles.
        namespace: of the service account.
        secrets: whether it may read Secrets too, in a role of their own: certificates and Flux's keys are compared.
    """
    rules: list[dict[str, Any]] = [
        {"apiGroups": [""], "resources": list(_CORE), "verbs": list(READ)},
        {"apiGroups": list(_GROUPS), "resources": ["*"], "verbs": list(READ)},
        {"nonResourceURLs": list(_URLS), "verbs": ["get"]},
    ]
    found = _role_with_binding(f"{name}-read", rules, name, namespace)
    if secrets:
        some = [{"apiGroups": [""], "resources": ["secrets"], "verbs": list(READ)}]
        found += _role_with_binding(f"{name}-read-secrets", some, name, namespace)
    return found


def may(roles: Sequence[Mapping[str, Any]], verb: str, group: str, resource: str) -> bool:
    """Tell whether roles allow a verb on a resource of a group, as the API decides it."""
    return any(
        _holds(rule.get("verbs"), verb) and _holds(rule.get("apiGroups"), group)
        and (_holds(rule.get("resources"), resource))
        for role in roles if role["kind"] in ("ClusterRole", "Role") for rule in role["rules"]
    )  # fmt: skip


def _holds(values: Any, wanted: str) -> bool:
    return "*" in (values or ()) or wanted in (values or ())


def _role_with_binding(
    role: str, rules: Sequence[Mapping[str, Any]], account: str, namespace: str
) -> list[dict[str, Any]]:
    labels = {"app.kubernetes.io/name": "labkit", "app.kubernetes.io/managed-by": "labkit"}
    api = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": role, "labels": dict(labels)},
         "rules": list(rules)},
        {"apiVersion": f"{api}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": role, "labels": dict(labels)},
         "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
         "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]},
    ]  # fmt: skip
