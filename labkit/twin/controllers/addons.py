"""What k3s deploys by itself: CoreDNS, local-path storage, metrics-server, Traefik, as objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from labkit.twin.kube.door import Api, ApiError, Object

SYSTEM = "kube-system"
MANAGER = "deploy@k3s"
DNS_ADDRESS = "10.43.0.10"
IMAGES = {
    "coredns": "rancher/mirrored-coredns-coredns:1.12.1",
    "local-path-provisioner": "rancher/local-path-provisioner:v0.0.31",
    "metrics-server": "rancher/mirrored-metrics-server:v0.7.2",
    "traefik": "rancher/mirrored-library-traefik:3.3.6",
}
CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}
CRITICAL = {"key": "CriticalAddonsOnly", "operator": "Exists"}
COREFILE = """.:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
      pods insecure
      fallthrough in-addr.arpa ip6.arpa
    }
    prometheus :9153
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
    loadbalance
}
"""


def k3s_addons(disable: Collection[str] = (), *, dns_address: str = DNS_ADDRESS) -> list[Object]:
    """Return the objects that k3s deploys, save the components of its `disable` list.

    Components: coredns, local-storage, metrics-server, traefik. servicelb has no objects of its own: use
    `NodeAddresses` as the balancer unless it is disabled.
    """
    parts = {
        "coredns": _coredns(dns_address),
        "local-storage": _local_storage(),
        "metrics-server": _metrics_server(),
        "traefik": _traefik(),
    }
    return [obj for name, objects in parts.items() if name not in disable for obj in objects]


def install(api: Api, objects: list[Object]) -> None:
    """Apply objects as k3s does on every start of a server; a conflict is decided for k3s."""
    for obj in objects:
        try:
            api.apply(obj, manager=MANAGER, force=True)
        except ApiError as error:
            raise ApiError({**error.status, "message": f"{obj['kind']} {obj['metadata']['name']}: {error}"}) from error


def _coredns(address: str) -> list[Object]:
    labels = {"k8s-app": "kube-dns"}
    shown = {**labels, "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true"}
    ports = [(53, "dns", "UDP"), (53, "dns-tcp", "TCP"), (9153, "metrics", "TCP")]
    service = _service("kube-dns", labels, ports, shown)
    service["spec"] |= {"clusterIP": address, "clusterIPs": [address]}
    container = _container(
        "coredns", ports, cpu="100m", memory="70Mi", path="/ready", port=8181, args=["-conf", "/etc/coredns/Corefile"]
    )
    container["volumeMounts"] = [{"name": "config-volume", "mountPath": "/etc/coredns", "readOnly": True}]
    pod = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "tolerations": [CRITICAL, {**CONTROL_PLANE, "operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "dnsPolicy": "Default",
        "volumes": [{"name": "config-volume", "configMap": {"name": "coredns"}}],
    }
    config = _object("v1", "ConfigMap", "coredns", data={"Corefile": COREFILE})
    return [_account("coredns"), config, _deployment("coredns", labels, container, pod, shown), service]


def _local_storage() -> list[Object]:
    labels = {"app": "local-path-provisioner"}
    container = _container("local-path-provisioner", [], args=["local-path-provisioner", "start"])
    pod = {
        "serviceAccountName": "local-path-provisioner-service-account",
        "priorityClassName": "system-node-critical",
        "tolerations": [CRITICAL, CONTROL_PLANE],
    }
    storage = _object(
        "storage.k8s.io/v1",
        "StorageClass",
        "local-path",
        provisioner="rancher.io/local-path",
        volumeBindingMode="WaitForFirstConsumer",
        reclaimPolicy="Delete",
    )
    storage["metadata"] = {
        "name": "local-path",
        "annotations": {
            "defaultVolumeType": "local",
            "storageclass.kubernetes.io/is-default-class": "true",
        },
    }
    account = _account("local-path-provisioner-service-account")
    return [account, _deployment("local-path-provisioner", labels, container, pod), storage]


def _metrics_server() -> list[Object]:
    labels = {"k8s-app": "metrics-server"}
    ports = [(10250, "https", "TCP")]
    container = _container("metrics-server", ports, cpu="100m", memory="70Mi", path="/readyz", port=10250)
    pod = {
        "serviceAccountName": "metrics-server",
        "priorityClassName": "system-node-critical",
        "tolerations": [CRITICAL, CONTROL_PLANE],
    }
    service = _service("metrics-server", labels, [(443, "https", "TCP")], labels, target="https")
    return [_account("metrics-server"), _deployment("metrics-server", labels, container, pod, labels), service]


def _traefik() -> list[Object]:
    labels = {"app.kubernetes.io/name": "traefik", "app.kubernetes.io/instance": "traefik-kube-system"}
    ports = [(8000, "web", "TCP"), (8443, "websecure", "TCP")]
    container = _container("traefik", ports, path="/ping", port=8080)
    pod = {
        "serviceAccountName": "traefik",
        "priorityClassName": "system-cluster-critical",
        "tolerations": [CRITICAL, CONTROL_PLANE],
    }
    service = _service("traefik", labels, [(80, "web", "TCP"), (443, "websecure", "TCP")], labels, target="")
    service["spec"]["type"] = "LoadBalancer"
    return [_account("traefik"), _deployment("traefik", labels, container, pod, labels), service]


def _object(version: str, kind: str, name: str, **fields: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": SYSTEM}, **fields}


def _account(name: str) -> Object:
    return _object("v1", "ServiceAccount", name)


def _container(
    name: str,
    ports: list[tuple[int, str, str]],
    *,
    cpu: str = "",
    memory: str = "",
    path: str = "",
    port: int = 0,
    args: list[str] | None = None,
) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "image": IMAGES[name], "imagePullPolicy": "IfNotPresent"}
    if ports:
        found["ports"] = [{"containerPort": n, "name": label, "protocol": p} for n, label, p in ports]
    if cpu:
        found["resources"] = {"requests": {"cpu": cpu, "memory": memory}}
    if path:
        found["readinessProbe"] = {"httpGet": {"path": path, "port": port}, "periodSeconds": 2}
    if args:
        found["args"] = args
    return found


def _deployment(
    name: str,
    labels: Mapping[str, str],
    container: dict[str, Any],
    pod: dict[str, Any],
    shown: Mapping[str, str] | None = None,
) -> Object:
    template = {"metadata": {"labels": dict(labels)}, "spec": {**pod, "containers": [container]}}
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    spec = {"replicas": 1, "selector": {"matchLabels": dict(labels)}, "strategy": rolling, "template": template}
    found = _object("apps/v1", "Deployment", name, spec=spec)
    if shown:
        found["metadata"]["labels"] = dict(shown)
    return found


def _service(
    name: str,
    labels: Mapping[str, str],
    ports: list[tuple[int, str, str]],
    shown: Mapping[str, str],
    *,
    target: str | None = None,
) -> Object:
    """Build a Service; `target` names the target port of all, "" means that each has its own name's."""
    listed = []
    for number, label, protocol in ports:
        aim = number if target is None else (target or label)
        listed.append({"name": label, "port": number, "protocol": protocol, "targetPort": aim})
    found = _object("v1", "Service", name, spec={"selector": dict(labels), "ports": listed})
    found["metadata"]["labels"] = dict(shown)
    return found
