"""The checks of built-in kinds that clients meet: required fields, and those that may not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.twin.kube.clone import clone
from labkit.twin.kube.door import Object
from labkit.twin.kube.names import check_annotations, check_labels
from labkit.twin.kube.quantity import parse_quantity
from labkit.twin.kube.status import Cause, denied, required, unsupported, wrong

Check = Callable[[Object, Object | None], list[Cause]]
_IMMUTABLE = "field is immutable"
_POD_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_CLAIM_TEXT = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


def check(key: str, new: Object, old: Object | None) -> list[Cause]:
    """Return what is wrong with an object of a built-in kind; `old` is None for a new one."""
    meta = new["metadata"]
    causes = check_labels(meta.get("labels", {}), "metadata.labels")
    causes += check_annotations(meta.get("annotations", {}), "metadata.annotations")
    found = _CHECKS.get(key)
    return causes + (found(new, old) if found else [])


def _containers(spec: Object, field: str) -> list[Cause]:
    causes = []
    if not spec.get("containers"):
        causes.append(required(f"{field}.containers"))
    volumes = {volume.get("name") for volume in spec.get("volumes", ())}
    for part in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(part, ())):
            place = f"{field}.{part}[{index}]"
            causes += [required(f"{place}.{k}") for k in ("name", "image") if not container.get(k)]
            for number, mount in enumerate(container.get("volumeMounts", ())):
                if mount.get("name") not in volumes:
                    where = f"{place}.volumeMounts[{number}].name"
                    text = f'Not found: "{mount.get("name")}"'
                    causes.append(Cause(where, "FieldValueNotFound", text))
    policy = spec.get("restartPolicy", "Always")
    if policy not in ("Always", "OnFailure", "Never"):
        allowed = ("Always", "OnFailure", "Never")
        causes.append(unsupported(f"{field}.restartPolicy", policy, allowed))
    return causes


def _pod(new: Object, old: Object | None) -> list[Cause]:
    causes = _containers(new["spec"], "spec")
    if old is not None and _fixed_pod(new["spec"], old["spec"]) != _fixed_pod(old["spec"], old["spec"]):
        causes.append(denied("spec", _POD_TEXT))
    return causes


def _fixed_pod(spec: Object, old: Object) -> Object:
    """Return the spec without what may change; tolerations may only be added."""
    kept = {k: v for k, v in spec.items() if k not in ("activeDeadlineSeconds", "tolerations", "schedulingGates")}
    kept = clone(kept)
    for part in ("containers", "initContainers"):
        for container in kept.get(part, ()):
            container.pop("image", None)
    wanted = old.get("tolerations", [])
    kept["tolerations"] = all(t in spec.get("tolerations", []) for t in wanted)
    return kept


def _selects(new: Object, old: Object | None) -> list[Cause]:
    """Check a controller's selector against its template."""
    spec = new["spec"]
    selector = spec.get("selector")
    labels = spec.get("template", {}).get("metadata", {}).get("labels", {})
    causes = []
    if not selector:
        causes.append(required("spec.selector"))
    elif any(labels.get(k) != v for k, v in selector.get("matchLabels", {}).items()):
        text = "`selector` does not match template `labels`"
        causes.append(wrong("spec.template.metadata.labels", labels, text))
    causes += _containers(spec.get("template", {}).get("spec", {}), "spec.template.spec")
    policy = spec.get("template", {}).get("spec", {}).get("restartPolicy", "Always")
    if policy != "Always":
        causes.append(unsupported("spec.template.spec.restartPolicy", policy, ("Always",)))
    if (spec.get("replicas") or 0) < 0:
        text = "must be greater than or equal to 0"
        causes.append(wrong("spec.replicas", spec["replicas"], text))
    if old is not None and old["spec"].get("selector") != selector:
        causes.append(wrong("spec.selector", selector, _IMMUTABLE))
    return causes


_STATEFUL_FREE = {
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
}  # fmt: skip
_STATEFUL_TEXT = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def _stateful_set(new: Object, old: Object | None) -> list[Cause]:
    causes = _selects(new, None)
    if old is not None:
        before = {k: v for k, v in old["spec"].items() if k not in _STATEFUL_FREE}
        if before != {k: v for k, v in new["spec"].items() if k not in _STATEFUL_FREE}:
            causes.append(denied("spec", _STATEFUL_TEXT))
    return causes


def _job(new: Object, old: Object | None) -> list[Cause]:
    spec = new["spec"]
    causes = _job_template(spec, "spec")
    if old is not None and not spec.get("suspend"):
        for part in ("template", "selector", "completions", "completionMode"):
            if part in old["spec"] and old["spec"][part] != spec.get(part):
                causes.append(wrong(f"spec.{part}", spec.get(part), _IMMUTABLE))
    return causes


def _job_template(spec: Object, field: str) -> list[Cause]:
    pod = spec.get("template", {}).get("spec", {})
    causes = _containers(pod, f"{field}.template.spec")
    if pod.get("restartPolicy", "Always") == "Always":
        place = f"{field}.template.spec.restartPolicy"
        causes.append(unsupported(place, "Always", ("OnFailure", "Never")))
    return causes


def _cron_job(new: Object, _old: Object | None) -> list[Cause]:
    spec = new["spec"]
    causes = _job_template(spec["jobTemplate"]["spec"], "spec.jobTemplate.spec")
    schedule = str(spec.get("schedule", ""))
    if not schedule:
        causes.append(required("spec.schedule"))
    elif not schedule.startswith("@") and len(schedule.split()) != 5:
        text = f"expected exactly 5 fields, found {len(schedule.split())}: {schedule.split()}"
        causes.append(wrong("spec.schedule", schedule, text))
    return causes


def _service(new: Object, old: Object | None) -> list[Cause]:
    spec = new["spec"]
    causes = []
    if spec["type"] not in ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"):
        allowed = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
        causes.append(unsupported("spec.type", spec["type"], allowed))
    headless = spec.get("clusterIP") == "None"
    if not spec.get("ports") and spec["type"] != "ExternalName" and not headless:
        causes.append(required("spec.ports"))
    if spec["type"] == "ExternalName" and not spec.get("externalName"):
        causes.append(required("spec.externalName"))
    for index, port in enumerate(spec.get("ports", ())):
        if len(spec["ports"]) > 1 and not port.get("name"):
            causes.append(required(f"spec.ports[{index}].name"))
        if not 1 <= int(port.get("port") or 0) <= 65535:
            text = "must be between 1 and 65535, inclusive"
            causes.append(wrong(f"spec.ports[{index}].port", port.get("port", 0), text))
    had = (old or {}).get("spec", {}).get("clusterIP")
    if had and spec["type"] != "ExternalName" and spec.get("clusterIP") != had:
        causes.append(wrong("spec.clusterIPs[0]", spec.get("clusterIPs"), "may not change once set"))
    return causes


def _secret(new: Object, old: Object | None) -> list[Cause]:
    causes = []
    if old is not None and old.get("type") != new.get("type"):
        causes.append(wrong("type", new.get("type"), _IMMUTABLE))
    if new.get("type") == "kubernetes.io/tls":
        wanted = ("tls.crt", "tls.key")
        causes += [required(f"data[{k}]") for k in wanted if k not in new.get("data", {})]
    if new.get("type") == "kubernetes.io/dockerconfigjson" and ".dockerconfigjson" not in new.get("data", {}):
        causes.append(required("data[.dockerconfigjson]"))
    return causes + _frozen(new, old)


def _frozen(new: Object, old: Object | None) -> list[Cause]:
    """Check a Secret or ConfigMap that says it is immutable."""
    if old is None or not old.get("immutable"):
        return []
    causes = []
    if not new.get("immutable"):
        causes.append(denied("immutable", "field is immutable when `immutable` is set"))
    causes += [
        denied(part, "field is immutable when `immutable` is set")
        for part in ("data", "binaryData")
        if new.get(part) != old.get(part)
    ]
    return causes


def _claim(new: Object, old: Object | None) -> list[Cause]:
    spec = new["spec"]
    causes = []
    if not spec.get("accessModes"):
        causes.append(required("spec.accessModes", "at least 1 access mode is required"))
    if "storage" not in spec.get("resources", {}).get("requests", {}):
        causes.append(required("spec.resources[storage]"))
    return causes if old is None or causes else _claim_change(new, old)


def _claim_change(new: Object, old: Object) -> list[Cause]:
    if _fixed_claim(new["spec"], old["spec"]) != _fixed_claim(old["spec"], old["spec"]):
        return [denied("spec", _CLAIM_TEXT)]
    wanted, had = (part["spec"]["resources"]["requests"]["storage"] for part in (new, old))
    place = "spec.resources.requests.storage"
    if parse_quantity(wanted) < parse_quantity(had):
        if parse_quantity(wanted) < parse_quantity(old["status"].get("capacity", {}).get("storage", "0")):
            return [denied(place, "field can not be less than status.capacity")]
        return [denied(place, "field can not be less than previous value")]
    if wanted != had and old["status"].get("phase") != "Bound":
        return [denied("spec", _CLAIM_TEXT)]
    return []


def _fixed_claim(spec: Object, old: Object) -> Object:
    kept = {k: v for k, v in spec.items() if k not in ("resources", "volumeAttributesClassName")}
    if not old.get("volumeName"):  # the binder fills these in
        kept.pop("volumeName", None)
    if "storageClassName" not in old:
        kept.pop("storageClassName", None)
    return kept


_SOURCES = ("csi", "nfs", "hostPath", "local", "iscsi", "rbd", "fc", "cephfs", "glusterfs", "flexVolume")


def _volume(new: Object, old: Object | None) -> list[Cause]:
    spec = new["spec"]
    causes = []
    if not spec.get("accessModes"):
        causes.append(required("spec.accessModes"))
    if "storage" not in spec.get("capacity", {}):
        causes.append(required("spec.capacity"))
    source = {k: spec[k] for k in _SOURCES if k in spec}
    if not source:
        causes.append(required("spec", "must specify a volume type"))
    if old is not None and source != {k: old["spec"][k] for k in _SOURCES if k in old["spec"]}:
        text = "spec.persistentvolumesource is immutable after creation"
        causes.append(denied("spec.persistentvolumesource", text))
    if old is not None and spec.get("volumeMode") != old["spec"].get("volumeMode"):
        causes.append(wrong("spec.volumeMode", spec.get("volumeMode"), _IMMUTABLE))
    return causes


def _storage_class(new: Object, old: Object | None) -> list[Cause]:
    if not new.get("provisioner"):
        return [required("provisioner")]
    if old is None:
        return []
    fixed = ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode")
    changed = [k for k in fixed if new.get(k) != old.get(k)]
    return [_storage_change(k, new.get(k)) for k in changed]


def _storage_change(field: str, value: Any) -> Cause:
    if field in ("provisioner", "parameters"):
        return denied(field, f"updates to {field} are forbidden.")
    return wrong(field, value, _IMMUTABLE)


def _role_binding(new: Object, old: Object | None) -> list[Cause]:
    if old is not None and new.get("roleRef") != old.get("roleRef"):
        return [wrong("roleRef", new.get("roleRef"), "cannot change roleRef")]
    return []


def _node(new: Object, old: Object | None) -> list[Cause]:
    causes = []
    had, has = ((part or {}).get("spec", {}).get("providerID") for part in (old, new))
    if had and has != had:
        causes.append(denied("spec.providerID", 'node updates may not change providerID except from "" to valid'))
    for index, taint in enumerate(new["spec"].get("taints", ())):
        if taint.get("effect") not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            allowed = ("NoSchedule", "PreferNoSchedule", "NoExecute")
            causes.append(unsupported(f"spec.taints[{index}].effect", taint.get("effect", ""), allowed))
    return causes


def _endpoint_slice(new: Object, old: Object | None) -> list[Cause]:
    causes = []
    if old is not None and new.get("addressType") != old.get("addressType"):
        causes.append(wrong("addressType", new.get("addressType"), _IMMUTABLE))
    for index, endpoint in enumerate(new.get("endpoints") or ()):
        for number, address in enumerate(endpoint.get("addresses", ())):
            if str(address).startswith("127."):
                place = f"endpoints[{index}].addresses[{number}]"
                causes.append(wrong(place, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    return causes


def _budget(new: Object, _old: Object | None) -> list[Cause]:
    spec = new["spec"]
    if "minAvailable" in spec and "maxUnavailable" in spec:
        return [wrong("spec", spec, "minAvailable and maxUnavailable cannot be both set")]
    return []


def _definition(new: Object, _old: Object | None) -> list[Cause]:
    spec = new["spec"]
    wanted = f"{spec['names'].get('plural', '')}.{spec.get('group', '')}"
    causes = []
    if new["metadata"].get("name") != wanted:
        text = 'must be spec.names.plural+"."+spec.group'
        causes.append(wrong("metadata.name", new["metadata"].get("name"), text))
    causes += [required(f"spec.names.{part}") for part in ("plural", "kind") if not spec["names"].get(part)]
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        causes.append(unsupported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced")))
    versions = spec.get("versions") or []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        causes.append(wrong("spec.versions", len(versions), text))
    for index, version in enumerate(versions):
        if "openAPIV3Schema" not in version.get("schema", {}):
            causes.append(required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required"))
    return causes


_CHECKS: dict[str, Check] = {
    "customresourcedefinitions.apiextensions.k8s.io": _definition,
    "pods": _pod,
    "deployments.apps": _selects,
    "replicasets.apps": _selects,
    "daemonsets.apps": _selects,
    "statefulsets.apps": _stateful_set,
    "jobs.batch": _job,
    "cronjobs.batch": _cron_job,
    "services": _service,
    "secrets": _secret,
    "configmaps": _frozen,
    "persistentvolumeclaims": _claim,
    "persistentvolumes": _volume,
    "storageclasses.storage.k8s.io": _storage_class,
    "rolebindings.rbac.authorization.k8s.io": _role_binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _role_binding,
    "nodes": _node,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "poddisruptionbudgets.policy": _budget,
}
