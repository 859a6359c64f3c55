"""Derive the twin's table of built-in types from the official client's models; run it to write the table anew."""

import json
import re
from pathlib import Path
from typing import Any

from kubernetes.client import models

import labkit.twin.kube

TABLE = Path(labkit.twin.kube.__file__).parent / "data" / "types.json"
ROOTS = """
    V1ConfigMap V1Endpoints CoreV1Event EventsV1Event V1LimitRange V1Namespace V1Node V1PersistentVolumeClaim
    V1PersistentVolume V1Pod V1PodTemplate V1ReplicationController V1ResourceQuota V1Secret V1ServiceAccount
    V1Service V1ControllerRevision V1DaemonSet V1Deployment V1ReplicaSet V1StatefulSet V1CronJob V1Job
    V1PodDisruptionBudget V1CSIDriver V1CSINode V1CSIStorageCapacity V1StorageClass V1VolumeAttachment
    V1VolumeAttributesClass V1Lease V1EndpointSlice V1Ingress V1IngressClass V1NetworkPolicy V1IPAddress
    V1ServiceCIDR V1ClusterRole V1ClusterRoleBinding V1Role V1RoleBinding V1CustomResourceDefinition V1APIService
    V1PriorityClass V1RuntimeClass V1MutatingWebhookConfiguration V1ValidatingWebhookConfiguration
    V1ValidatingAdmissionPolicy V1ValidatingAdmissionPolicyBinding V2HorizontalPodAutoscaler
    V1CertificateSigningRequest V1Scale V1Eviction V1Binding V1SelfSubjectAccessReview V1SubjectAccessReview
    V1LocalSubjectAccessReview V1SelfSubjectRulesReview V1TokenReview V1SelfSubjectReview
    AuthenticationV1TokenRequest V1DeleteOptions
    """
SCALARS = {"str": "s", "int": "i", "bool": "b", "float": "n", "datetime": "t", "bytes": "y", "object": "o"}
QUANTITY_MAPS = {
    "limits", "requests", "capacity", "allocatable", "hard", "used", "overhead", "default", "defaultRequest",
    "max", "min", "maxLimitRequestRatio", "allocatedResources", "podFixed",
}  # fmt: skip
QUANTITIES = {"sizeLimit", "divisor", "maximumVolumeSize", "averageValue"}


def code(name: str, text: str) -> str:
    """Shorten one type of the client: `List[V1Pod]` is `[V1Pod]`, `Dict[str, str]` is `{s}`."""
    if found := re.fullmatch(r"List\[(.+)\]", text):
        return f"[{code('', found[1])}]"
    if found := re.fullmatch(r"Dict\[str, (.+)\]", text):
        return "{q}" if name in QUANTITY_MAPS and found[1] == "str" else f"{{{code('', found[1])}}}"
    if text == "str" and name in QUANTITIES:
        return "q"
    return SCALARS.get(text, text)


def derive() -> dict[str, dict[str, str]]:
    """Return every type that the roots reach: name -> field -> code."""
    types: dict[str, dict[str, str]] = {}
    waiting = ROOTS.split()
    while waiting:
        name = waiting.pop()
        if name in types:
            continue
        model: Any = getattr(models, name)
        fields = {model.attribute_map[f]: t for f, t in model.openapi_types.items()}
        types[name] = {field: code(field, text) for field, text in sorted(fields.items())}
        waiting += [word for text in types[name].values() for word in re.findall(r"[A-Z]\w+", text)]
    return dict(sorted(types.items()))


if __name__ == "__main__":
    rows = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in derive().items())
    TABLE.write_text(f"{{\n{rows}\n}}\n")
