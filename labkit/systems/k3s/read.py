"""Read the cluster: nodes, pods, budgets, volumes, each with one call, side by side."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from labkit.errors import LabError, SystemDown
from labkit.facts.k3s import DoorFacts, K3sFacts, KubeconfigSeen
from labkit.facts.kubernetes import BudgetRow, NodeRow, PodRow, VolumeRow
from labkit.facts.selectors import matches
from labkit.lab import Lab, Machine
from labkit.lab.k3sconfig import token_password
from labkit.systems.access import Access
from labkit.systems.guests import lab_token
from labkit.systems.k3s.cluster import ask_servers, note_credentials, open_cluster
from labkit.systems.k3s.kubeconfig import compare, expiry, fingerprint
from labkit.systems.k3s.vip import is_vip_taken, vip_answers
from labkit.systems.kubernetes import Cluster, Credentials, KubeError

LONGHORN = "/apis/longhorn.io/v1beta2"
_DOOR = "/v1-k3s/client-ca.crt"


def read_k3s(lab: Lab, access: Access) -> K3sFacts:
    """Return what the API of any server shows; a lab without a cluster is no error."""
    now = datetime.now(UTC)
    problem = "no server has a kubeconfig"
    for machine, credentials in ask_servers(lab, access):
        try:
            return _read_at(lab, access, machine, credentials)
        except LabError as exc:
            problem = exc.message
    return K3sFacts(problem=problem, vip=is_vip_taken(lab, access), read_at=now)


def _read_at(lab: Lab, access: Access, machine: Machine, credentials: Credentials) -> K3sFacts:
    with Cluster(access, [str(machine.address)], credentials) as cluster:
        nodes = [parse_node(item) for item in cluster.items("/api/v1/nodes")]
        note_credentials(lab, access, credentials)
        vip = vip_answers(lab, access, credentials)
        return K3sFacts(
            up=True,
            server=machine.name,
            ca=fingerprint(credentials.ca),
            vip=vip,
            expires=expiry(credentials),
            kubeconfig=_compare(lab, access, credentials, vip=vip),
            nodes=tuple(sorted(nodes, key=lambda node: node.name)),
            read_at=datetime.now(UTC),
            **_read_rest(cluster),
        )


def _compare(lab: Lab, access: Access, credentials: Credentials, *, vip: bool) -> KubeconfigSeen:
    try:
        return compare(lab, access, credentials, vip=vip)
    except (OSError, ValueError):
        return KubeconfigSeen(state="stale")


def _read_rest(cluster: Cluster) -> dict[str, Any]:
    """Pods with their budgets, volumes, and the API's own health, side by side."""
    questions: tuple[Callable[[], Any], ...] = (
        lambda: list(cluster.items("/apis/policy/v1/poddisruptionbudgets")),
        lambda: cluster.table("/api/v1/pods"),
        lambda: read_volumes(cluster),
        cluster.unhealthy,
    )
    with ThreadPoolExecutor(max_workers=len(questions)) as pool:
        budgets, pods, volumes, unhealthy = pool.map(lambda ask: ask(), questions)
    rows = [parse_pod(pods.cell(row, "node"), pods.cell(row, "status"), pods.cell(row, "ready"), row.metadata, budgets)
            for row in pods.rows]  # fmt: skip
    return {
        "pods": tuple(rows),
        "budgets": tuple(parse_budget(item) for item in budgets),
        "volumes": volumes,
        "unhealthy": unhealthy,
    }


def parse_node(item: Mapping[str, Any]) -> NodeRow:
    """Return the row of a Node object."""
    meta, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    labels = {str(key): str(value) for key, value in (meta.get("labels") or {}).items()}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    ready = conditions.get("Ready") or {}
    server = labels.get("node-role.kubernetes.io/control-plane") == "true"
    voter = conditions.get("EtcdIsVoter")
    annotations = (meta.get("annotations") or {}).items()
    return NodeRow(
        name=meta["name"],
        ready=ready.get("status") == "True",
        problem=_problem(ready),
        version=str((status.get("nodeInfo") or {}).get("kubeletVersion") or ""),
        server=server,
        voter=None if voter is None else voter.get("status") == "True",
        address=next((a["address"] for a in status.get("addresses") or () if a["type"] == "InternalIP"), ""),
        labels=labels,
        taints=tuple(show_taint(taint) for taint in spec.get("taints") or ()),
        annotations={key: str(value) for key, value in annotations if key.startswith("labkit/")},
        schedulable=not spec.get("unschedulable"),
    )  # fmt: skip


def _problem(ready: Mapping[str, Any]) -> str:
    if ready.get("status") == "True":
        return ""
    return str(ready.get("message") or ready.get("reason") or "not ready")


def show_taint(taint: Mapping[str, Any]) -> str:
    """Return a taint as the lab file writes it: key=value:Effect."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def parse_pod(
    node: str, status: str, ready: str, metadata: Mapping[str, Any], budgets: Iterable[Mapping[str, Any]]
) -> PodRow:
    """Return the row of a pod from its cells in a Table, its metadata, and all budgets."""
    namespace, labels = metadata.get("namespace", ""), metadata.get("labels") or {}
    owners = metadata.get("ownerReferences") or ()
    owner = next((str(one["kind"]) for one in owners if one.get("controller")), "")
    matching = [
        str(budget["metadata"]["name"])
        for budget in budgets
        if budget["metadata"].get("namespace") == namespace
        and matches((budget.get("spec") or {}).get("selector"), labels)
    ]
    return PodRow(namespace=namespace, name=metadata.get("name", ""), node="" if node == "<none>" else node,
                  status=status, ready=ready, owner=owner, budgets=tuple(matching))  # fmt: skip


def parse_budget(item: Mapping[str, Any]) -> BudgetRow:
    """Return the row of a PodDisruptionBudget object."""
    status = item.get("status") or {}
    return BudgetRow(
        namespace=item["metadata"]["namespace"],
        name=item["metadata"]["name"],
        allowed=int(status.get("disruptionsAllowed") or 0),
        healthy=int(status.get("currentHealthy") or 0),
        desired=int(status.get("desiredHealthy") or 0),
        expected=int(status.get("expectedPods") or 0),
    )


def read_volumes(cluster: Cluster) -> tuple[VolumeRow, ...] | None:
    """Return Longhorn's volumes with the nodes of their healthy replicas; None without Longhorn."""
    try:
        volumes = list(cluster.items(f"{LONGHORN}/volumes"))
        replicas = list(cluster.items(f"{LONGHORN}/replicas"))
    except KubeError as exc:
        if exc.status == 404:
            return None
        raise
    held: dict[str, set[str]] = {}
    for replica in replicas:
        spec, status = replica.get("spec") or {}, replica.get("status") or {}
        # A detached volume has stopped replicas: they are whole unless they failed.
        if not spec.get("failedAt") and status.get("currentState") in ("running", "stopped") and spec.get("healthyAt"):
            held.setdefault(str(spec.get("volumeName")), set()).add(str(spec.get("nodeID")))
    return tuple(
        VolumeRow(
            name=volume["metadata"]["name"],
            state=str((volume.get("status") or {}).get("state") or ""),
            robustness=str((volume.get("status") or {}).get("robustness") or ""),
            replicas=tuple(sorted(held.get(volume["metadata"]["name"], ()))),
        )
        for volume in volumes
    )


def read_door(lab: Lab, access: Access) -> DoorFacts:
    """Ask each server for what only a joiner gets, with a wrong token and with the lab's own.

    Raises:
        SystemDown: there is no cluster to ask.
    """
    right = token_password(lab_token(lab, access) or "")
    cluster = open_cluster(lab, access)
    wrong = f"{right[:-1]}{'0' if right[-1:] != '0' else '1'}" if right else "wrong"
    asked = {server.name: str(server.address) for server in lab.servers}
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        refused = pool.map(lambda host: knock(access, host, cluster.credentials, wrong), asked.values())
        taken = pool.map(lambda host: knock(access, host, cluster.credentials, right), asked.values())
        return DoorFacts(
            wrong=dict(zip(asked, refused, strict=True)),
            right=dict(zip(asked, taken, strict=True)),
            read_at=datetime.now(UTC),
        )


def knock(access: Access, host: str, credentials: Credentials, password: str) -> int | None:
    """Return the HTTP status with which a server answers a joiner that has this token; None for no answer."""
    plain = base64.b64encode(f"node:{password}".encode()).decode()
    anonymous = Cluster(access, [host], Credentials(ca=credentials.ca))
    try:
        anonymous.request("GET", _DOOR, accept="*/*", headers={"Authorization": f"Basic {plain}"}, timeout=10.0)
    except KubeError as exc:
        return exc.status
    except SystemDown:
        return None
    finally:
        anonymous.close()
    return 200
