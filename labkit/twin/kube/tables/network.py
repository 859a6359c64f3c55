"""The tables of services, ingresses and endpoints."""

from __future__ import annotations

from typing import Any

from labkit.twin.kube.door import Object
from labkit.twin.kube.selectors import selector_text
from labkit.twin.kube.tables.cells import NONE, UNSET, Cells, created, labels_text, listed, name_of

COLUMNS = {
    "services": "Name Type Cluster-IP External-IP Port(s) Age Selector*",
    "ingresses.networking.k8s.io": "Name Class Hosts Address Ports Age",
    "ingressclasses.networking.k8s.io": "Name Controller Parameters Age",
    "networkpolicies.networking.k8s.io": "Name Pod-Selector Age",
    "endpoints": "Name Endpoints Age",
    "endpointslices.discovery.k8s.io": "Name AddressType Ports Endpoints Age",
    "servicecidrs.networking.k8s.io": "Name CIDRs Age",
    "ipaddresses.networking.k8s.io": "Name ParentRef",
}


def _service(obj: Object, now: float) -> list[Any]:
    spec = obj["spec"]
    return [
        name_of(obj),
        spec.get("type", ""),
        spec.get("clusterIP") or NONE,
        external_address(obj),
        listed(_port(port) for port in spec.get("ports", ())),
        created(obj, now),
        labels_text(spec.get("selector")),
    ]


def external_address(obj: Object) -> str:
    """Return what the column External-IP shows for a service."""
    spec = obj["spec"]
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    own = spec.get("externalIPs", [])
    if spec.get("type") != "LoadBalancer":
        return listed(own)
    entries = obj.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    found = [entry.get("ip") or entry.get("hostname") for entry in entries]
    return listed([*found, *own], "<pending>")


def _port(port: Object) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}"


def _ingress(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec", {})
    hosts = [rule["host"] for rule in spec.get("rules", ()) if rule.get("host")]
    more = f" + {len(hosts) - 3} more..." if len(hosts) > 3 else ""
    entries = obj.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    return [
        name_of(obj),
        spec.get("ingressClassName") or NONE,
        (",".join(hosts[:3]) + more) or "*",
        ",".join(entry.get("ip") or entry.get("hostname", "") for entry in entries),
        "80, 443" if spec.get("tls") else "80",
        created(obj, now),
    ]


def _ingress_class(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec", {})
    found = spec.get("parameters")
    text = NONE
    if found:
        group = f".{found['apiGroup']}" if found.get("apiGroup") else ""
        text = f"{found['kind']}{group}/{found['name']}"
    return [name_of(obj), spec.get("controller", ""), text, created(obj, now)]


def _network_policy(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), selector_text(obj["spec"].get("podSelector")) or NONE, created(obj, now)]


def _endpoints(obj: Object, now: float) -> list[Any]:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets", ())
        for port in subset.get("ports", ())
        for address in subset.get("addresses", ())
    ]
    return [name_of(obj), _few(found), created(obj, now)]


def _endpoint_slice(obj: Object, now: float) -> list[Any]:
    addresses = [address for entry in obj.get("endpoints") or () for address in entry.get("addresses", ())]
    ports = [str(port["port"]) for port in obj.get("ports") or () if port.get("port")]
    return [name_of(obj), obj.get("addressType", ""), _few(ports, UNSET), _few(addresses, UNSET), created(obj, now)]


def _few(words: list[str], empty: str = NONE) -> str:
    more = f" + {len(words) - 3} more..." if len(words) > 3 else ""
    return listed(words[:3], empty) + more


def _service_cidr(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), listed(obj.get("spec", {}).get("cidrs", ())), created(obj, now)]


def _ip_address(obj: Object, _now: float) -> list[Any]:
    parent = obj.get("spec", {}).get("parentRef", {})
    parts = (parent.get("resource"), parent.get("namespace"), parent.get("name"))
    return [name_of(obj), "/".join(part for part in parts if part)]


CELLS: dict[str, Cells] = {
    "services": _service,
    "ingresses.networking.k8s.io": _ingress,
    "ingressclasses.networking.k8s.io": _ingress_class,
    "networkpolicies.networking.k8s.io": _network_policy,
    "endpoints": _endpoints,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "servicecidrs.networking.k8s.io": _service_cidr,
    "ipaddresses.networking.k8s.io": _ip_address,
}
