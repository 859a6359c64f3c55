"""Does a pod fit a node: selectors, affinity, taints, resources, ports, spread. Pure functions on pod and node.

Each reason is the text that the real scheduler counts in its FailedScheduling message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.twin.kube.door import Object

from .objects import labels_of, match_expression, matches, name_of, namespace_of, quantity, spec_of, status_of

NOT_MATCHED = "node(s) didn't match Pod's node affinity/selector"
CORDONED = "node(s) were unschedulable"
PORTS = "node(s) didn't have free ports for the requested pod ports"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
AFFINITY = "node(s) didn't match pod affinity rules"
SPREAD = "node(s) didn't match pod topology spread constraints"
VOLUME_NODE = "node(s) had volume node affinity conflict"
UNRESOLVABLE = (NOT_MATCHED, CORDONED, AFFINITY, VOLUME_NODE, "node(s) had untolerated taint")
UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass
class Place:
    """A node with the pods on it and what they ask for."""

    node: Object
    pods: list[Object] = field(default_factory=list)
    used: dict[str, float] = field(default_factory=dict)

    def add(self, pod: Object) -> None:
        """Count a pod in."""
        self.pods.append(pod)
        for name, amount in requests(pod).items():
            self.used[name] = self.used.get(name, 0.0) + amount


def requests(pod: Object) -> dict[str, float]:
    """Return what a pod asks for: the sum of its containers, or its largest init container if more."""
    total: dict[str, float] = {}
    for container in spec_of(pod).get("containers") or []:
        for name, amount in _requests(container).items():
            total[name] = total.get(name, 0.0) + amount
    for container in spec_of(pod).get("initContainers") or []:
        for name, amount in _requests(container).items():
            total[name] = max(total.get(name, 0.0), amount)
    return total


def _requests(container: Mapping[str, Any]) -> dict[str, float]:
    found = (container.get("resources") or {}).get("requests") or {}
    return {name: quantity(amount) for name, amount in found.items()}


def reason_against(pod: Object, place: Place, places: Iterable[Place]) -> str | None:
    """Return the first reason why a pod cannot go to a node; None when it can."""
    spec, node = spec_of(pod), place.node
    if spec_of(node).get("unschedulable") and not _tolerates_cordon(spec):
        return CORDONED
    taint = first_untolerated(spec, node, ("NoSchedule", "NoExecute"))
    if taint is not None:
        return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if not matches_node(spec, node):
        return NOT_MATCHED
    if host_ports(pod) & {p for other in place.pods for p in host_ports(other)}:
        return PORTS
    return _lacking(pod, place) or _against_pods(pod, place, list(places))


def _tolerates_cordon(spec: Mapping[str, Any]) -> bool:
    taint = {"key": UNSCHEDULABLE_TAINT, "effect": "NoSchedule"}
    return any(tolerates(t, taint) for t in spec.get("tolerations") or [])


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Tell whether one toleration covers one taint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def first_untolerated(spec: Mapping[str, Any], node: Object, effects: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the first taint of a node, of these effects, that a pod spec does not tolerate."""
    for taint in spec_of(node).get("taints") or []:
        tolerated = any(tolerates(t, taint) for t in spec.get("tolerations") or [])
        if taint.get("effect") in effects and not tolerated:
            return dict(taint)
    return None


def matches_node(spec: Mapping[str, Any], node: Object) -> bool:
    """Tell whether a node has the name, the labels and the affinity terms that a pod spec asks for."""
    if spec.get("nodeName") and spec["nodeName"] != name_of(node):
        return False
    selector = spec.get("nodeSelector") or {}
    if not selector.items() <= labels_of(node).items():
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED)
    return affinity is None or matches_terms(affinity, node)


def matches_terms(selector: Mapping[str, Any], node: Object) -> bool:
    """Match a NodeSelector: any of its terms, all requirements of a term; an empty term matches nothing."""
    return any(_matches_term(t, node) for t in selector.get("nodeSelectorTerms") or [])


def _matches_term(term: Mapping[str, Any], node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    by_name = {"metadata.name": name_of(node)}
    return all(match_expression(e, labels_of(node)) for e in expressions) and all(
        match_expression(f, by_name) for f in fields
    )


def preference(spec: Mapping[str, Any], node: Object) -> int:
    """Return the weight of the preferred node affinity terms that a node meets."""
    terms = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "preferredDuringSchedulingIgnoredDuringExecution"
    )
    return sum(int(t["weight"]) for t in terms or [] if _matches_term(t["preference"], node))


def host_ports(pod: Object) -> set[tuple[str, int]]:
    """Return the (protocol, port) pairs that a pod wants on its node."""
    ports = [p for c in spec_of(pod).get("containers") or [] for p in c.get("ports") or []]
    return {(p.get("protocol", "TCP"), int(p["hostPort"])) for p in ports if p.get("hostPort")}


def _lacking(pod: Object, place: Place) -> str | None:
    allocatable = status_of(place.node).get("allocatable") or {}
    if len(place.pods) + 1 > quantity(allocatable.get("pods", "110")):
        return "Too many pods"
    for name, amount in sorted(requests(pod).items()):
        if amount and place.used.get(name, 0.0) + amount > quantity(allocatable.get(name, "0")):
            return f"Insufficient {name}"
    return None


def _against_pods(pod: Object, place: Place, places: list[Place]) -> str | None:
    """Check the rules that look at other pods."""
    affinity = spec_of(pod).get("affinity") or {}
    for term in (affinity.get("podAntiAffinity") or {}).get(REQUIRED) or []:
        if _peers(pod, term, place, places):
            return ANTI_AFFINITY
    for term in (affinity.get("podAffinity") or {}).get(REQUIRED) or []:
        anywhere = [p for other in places for p in other.pods if _is_peer(pod, term, p)]
        itself = not anywhere and matches(term.get("labelSelector"), labels_of(pod))
        if not itself and not _peers(pod, term, place, places):
            return AFFINITY
    for rule in spec_of(pod).get("topologySpreadConstraints") or []:
        if rule.get("whenUnsatisfiable") == "DoNotSchedule" and _skew(pod, rule, place, places) > rule["maxSkew"]:
            return SPREAD
    return None


def _peers(pod: Object, term: Mapping[str, Any], place: Place, places: list[Place]) -> list[Object]:
    key = term["topologyKey"]
    domain = labels_of(place.node).get(key)
    same = [p for p in places if domain is not None and labels_of(p.node).get(key) == domain]
    return [other for one in same for other in one.pods if _is_peer(pod, term, other)]


def _is_peer(pod: Object, term: Mapping[str, Any], other: Object) -> bool:
    spaces = term.get("namespaces") or [namespace_of(pod)]
    return namespace_of(other) in spaces and matches(term.get("labelSelector"), labels_of(other))


def _skew(pod: Object, rule: Mapping[str, Any], place: Place, places: list[Place]) -> int:
    """Return the skew that would result; a node without the key is not allowed at all."""
    key, counts = rule["topologyKey"], dict[str, int]()
    for one in places:
        domain = labels_of(one.node).get(key)
        if domain is not None and matches_node({**spec_of(pod), "nodeName": ""}, one.node):
            peers = sum(_is_peer(pod, rule, p) for p in one.pods)
            counts[domain] = counts.get(domain, 0) + peers
    here = labels_of(place.node).get(key)
    if here is None or here not in counts:
        return int(rule["maxSkew"]) + 1
    return counts[here] + 1 - min(counts.values())
