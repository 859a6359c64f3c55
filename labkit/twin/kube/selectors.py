"""Label and field selectors, with the server's words for those that it cannot read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from labkit.twin.kube.door import Object
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.status import bad_request

Matcher = Callable[[Object], bool]
Test = Callable[[Mapping[str, str]], bool]
_TOKEN = re.compile(r"\s*(==|!=|=|>|<|\(|\)|,|!|[^\s=!<>(),]+)")
_META = ("metadata.name", "metadata.namespace")
_FIELDS = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase", "name"),
    "secrets": ("type",),
    "jobs.batch": ("status.successful",),
    "replicasets.apps": ("status.replicas",),
    "replicationcontrollers": ("status.replicas",),
    "services": ("spec.clusterIP", "spec.type"),
    "certificatesigningrequests.certificates.k8s.io": ("spec.signerName",),
}


def label_matcher(text: str) -> Matcher | None:
    """Return a predicate on objects, None for the selector that takes all.

    Raises:
        ApiError: the selector cannot be read (400).
    """
    tests = parse_labels(text)
    if not tests:
        return None

    def matches(obj: Object) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


def parse_labels(text: str) -> list[Test]:
    """Read a label selector such as `app in (a,b),tier!=x,!gone` into tests on labels."""
    tokens = _TOKEN.findall(text)
    tests: list[Test] = []
    while tokens:
        tests.append(_requirement(tokens))
        if tokens and tokens.pop(0) != ",":
            raise bad_request("unable to parse requirement: found ',' expected: end of string")
    return tests


def _requirement(tokens: list[str]) -> Test:
    if tokens[0] == "!":
        tokens.pop(0)
        key = _take(tokens)
        return lambda labels: key not in labels
    key = _take(tokens)
    if not tokens or tokens[0] == ",":
        return lambda labels: key in labels
    operator = tokens.pop(0)
    if operator in ("in", "notin"):
        values = _values(tokens)
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    return _comparison(key, operator, tokens.pop(0) if tokens and tokens[0] != "," else "")


def _comparison(key: str, operator: str, value: str) -> Test:
    if operator in ("=", "=="):
        return lambda labels: labels.get(key) == value
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    if operator in (">", "<"):
        sign = 1 if operator == ">" else -1
        return lambda labels: labels.get(key, "").isdigit() and (int(labels[key]) - int(value)) * sign > 0
    expected = "in, notin, =, ==, !=, gt, lt"
    raise bad_request(f"unable to parse requirement: found '{operator}', expected: {expected}")


def _take(tokens: list[str]) -> str:
    if not tokens or tokens[0] in (",", "(", ")", "=", "==", "!=", "<", ">"):
        found = tokens[0] if tokens else ""
        raise bad_request(f"unable to parse requirement: found '{found}', expected: identifier")
    return tokens.pop(0)


def _values(tokens: list[str]) -> set[str]:
    if not tokens or tokens[0] != "(":
        raise bad_request(f"unable to parse requirement: found '{tokens[0] if tokens else ''}' expected: '('")
    tokens.pop(0)
    values: set[str] = set()
    while tokens and tokens[0] != ")":
        word = tokens.pop(0)
        if word != ",":
            values.add(word)
    if not tokens:
        raise bad_request("unable to parse requirement: found '', expected: ',' or ')'")
    tokens.pop(0)
    return values


def field_matcher(text: str, resource: Resource) -> Matcher | None:
    """Return a predicate for a field selector such as `spec.nodeName=n1,status.phase!=Failed`.

    Raises:
        ApiError: a field cannot be selected by (400).
    """
    allowed = {*_META, *_FIELDS.get(resource.key, ()), *_selectable(resource)}
    wanted: list[tuple[list[str], str, bool]] = []
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]+?)(==|!=|=)(.*)", part)
        if not found:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        field, operator, value = found.groups()
        if field not in allowed:
            raise bad_request(_unknown_field(field, allowed))
        wanted.append((field.split("."), value, operator != "!="))
    if not wanted:
        return None
    return lambda obj: all((_text(_dig(obj, path)) == value) is equal for path, value, equal in wanted)


def _unknown_field(field: str, allowed: set[str]) -> str:
    if len(allowed) > len(_META):
        return f"field label not supported: {field}"
    return f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def _selectable(resource: Resource) -> list[str]:
    spec = resource.version_spec or {}
    return [entry["jsonPath"].lstrip(".") for entry in spec.get("selectableFields", ())]


def _dig(obj: Any, path: list[str]) -> Any:
    if path == ["source"]:
        return obj.get("source", {}).get("component")
    if path == ["name"]:
        return obj["metadata"]["name"]
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def selector_matches(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether labels match a LabelSelector object; an empty one matches all, none matches nothing."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(entry, labels) for entry in selector.get("matchExpressions") or ())


def _expression(entry: Object, labels: Mapping[str, str]) -> bool:
    key, values = entry["key"], entry.get("values") or ()
    match entry["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
    return key not in labels


def selector_text(selector: Object | None) -> str:
    """Write a LabelSelector object as tables and scales do: `app=web,tier in (a,b)`."""
    found = selector or {}
    parts = [f"{key}={value}" for key, value in sorted((found.get("matchLabels") or {}).items())]
    for entry in found.get("matchExpressions") or ():
        key, values = entry["key"], ",".join(sorted(entry.get("values") or ()))
        form = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        parts.append(form.get(entry["operator"], f"!{key}"))
    return ",".join(parts)
