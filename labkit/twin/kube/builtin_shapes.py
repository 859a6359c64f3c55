"""The shapes of built-in kinds: field types from a table of data, merge rules from the API's documentation."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import cast

from labkit.twin.kube.shapes import ANY, Kind, Shape

_SCALARS: dict[str, Kind] = {
    "s": "string",
    "i": "integer",
    "b": "boolean",
    "n": "number",
    "t": "time",
    "y": "bytes",
    "q": "quantity",
}

# Lists that server-side apply merges by keys; the strategic merge patch uses the first key alone.
# A leading ~ means: the strategic merge patch replaces the list all the same.
_KEYED = """
V1ObjectMeta.ownerReferences uid
V1PodSpec.containers name
V1PodSpec.initContainers name
V1PodSpec.ephemeralContainers name
V1PodSpec.volumes name retain
V1PodSpec.imagePullSecrets name
V1PodSpec.hostAliases ip
V1PodSpec.schedulingGates name
V1PodSpec.resourceClaims name retain
V1PodSpec.topologySpreadConstraints topologyKey,whenUnsatisfiable
V1Container.env name
V1Container.ports containerPort,protocol
V1Container.volumeMounts mountPath
V1Container.volumeDevices devicePath
V1EphemeralContainer.env name
V1EphemeralContainer.ports containerPort,protocol
V1EphemeralContainer.volumeMounts mountPath
V1EphemeralContainer.volumeDevices devicePath
V1ResourceRequirements.claims ~name
V1PodStatus.conditions type
V1PodStatus.podIPs ip
V1ServiceSpec.ports port,protocol
V1ServiceStatus.conditions type
V1NodeStatus.conditions type
V1NodeStatus.addresses type
V1NamespaceStatus.conditions type
V1ServiceAccount.secrets name
V1PersistentVolumeClaimStatus.conditions type
V1DeploymentStatus.conditions type
V1ReplicaSetStatus.conditions type
V1DaemonSetStatus.conditions type
V1StatefulSetStatus.conditions type
V1ReplicationControllerStatus.conditions type
V1JobStatus.conditions ~type
V1PodDisruptionBudgetStatus.conditions type
V1CustomResourceDefinitionStatus.conditions ~type
V1APIServiceStatus.conditions type
V1CertificateSigningRequestStatus.conditions ~type
V2HorizontalPodAutoscalerStatus.conditions type
V1MutatingWebhookConfiguration.webhooks name
V1ValidatingWebhookConfiguration.webhooks name
"""
# A leading ~ as above; the others are merged as sets by the strategic merge patch, too.
_SETS = """
V1ObjectMeta.finalizers
V1NodeSpec.podCIDRs
~V1Endpoint.addresses
~V1UncountedTerminatedPods.failed
~V1UncountedTerminatedPods.succeeded
"""
# Merged by the strategic merge patch alone; server-side apply replaces them.
_STRATEGIC_ONLY = "V1PodStatus.hostIPs=ip V1ObjectMeta.managedFields= V1NodeStatus.images="
_RETAINING = "V1DeploymentSpec.strategy"
_ATOMIC_TYPES = """
V1LabelSelector V1ObjectReference V1LocalObjectReference V1TypedLocalObjectReference V1SecretKeySelector
V1ConfigMapKeySelector V1ObjectFieldSelector V1ResourceFieldSelector V1NodeSelector V1NodeSelectorTerm
V1ScopeSelector V1OwnerReference V1SecretReference V1TopologySelectorTerm V1RoleRef RbacV1Subject
V1FileKeySelector
"""
_ATOMIC_FIELDS = {"V1PodSpec.nodeSelector", "V1ServiceSpec.selector", "V1ReplicationControllerSpec.selector"}


@cache
def _types() -> dict[str, dict[str, str]]:
    text = files("labkit.twin.kube").joinpath("data/types.json").read_text("utf-8")
    return cast("dict[str, dict[str, str]]", json.loads(text))


@cache
def _keyed() -> dict[str, tuple[tuple[str, ...], bool, bool]]:
    """Return field -> (keys, merged by the strategic patch, retains only the keys it names)."""
    rules = {}
    for line in _KEYED.split("\n"):
        if line:
            field, keys, *more = line.split()
            rules[field] = (tuple(keys.lstrip("~").split(",")), not keys.startswith("~"), bool(more))
    return rules


@cache
def shape_of(name: str) -> Shape:
    """Return the shape of one built-in type, for example `V1Pod`.

    Raises:
        KeyError: there is no such type.
    """
    shape = Shape("object", name=re.sub(r"^(Core|Apps|Events|Rbac)?V\d", "", name))
    shape.atomic = name in _ATOMIC_TYPES.split()
    shape.fields = _Fields(name)
    return shape


class _Fields(dict[str, Shape]):
    """The fields of a type, made when first asked for: types may hold themselves."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.type_name = name
        self.codes = _types()[name]

    def __contains__(self, key: object) -> bool:
        return key in self.codes

    def get(self, key: str, default: Shape | None = None) -> Shape | None:  # type: ignore[override]
        """Return the shape of a field."""
        found = super().get(key)
        if found is None and key in self.codes:
            found = self[key] = _field(f"{self.type_name}.{key}", self.codes[key])
        return default if found is None else found


def _field(place: str, code: str) -> Shape:
    if code == "o":
        return ANY
    if code in _SCALARS:
        return Shape(_SCALARS[code])
    if code[0] == "{":
        return Shape("map", item=_field("", code[1:-1]), atomic=place in _ATOMIC_FIELDS)
    if code[0] == "[":
        return _list(place, _field("", code[1:-1]))
    return _retaining(code) if place in _RETAINING else shape_of(code)


def _retaining(code: str) -> Shape:
    plain = shape_of(code)
    return Shape("object", name=plain.name, fields=plain.fields, retains=True)


def _list(place: str, item: Shape) -> Shape:
    shape = Shape("list", item=item)
    if place in _keyed():
        shape.list_type = "map"
        shape.keys, merged, shape.retains = _keyed()[place]
        shape.merge_key = shape.keys[0] if merged else ""
    elif place in _SETS.replace("~", "").split():
        shape.list_type = "set"
        shape.merges = place in _SETS.split()
    else:
        for pair in _STRATEGIC_ONLY.split():
            if pair.split("=")[0] == place:
                shape.merge_key = pair.split("=")[1]
    return shape
