"""What the server fills in when a field of a built-in kind is left out."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from labkit.twin.kube.door import Object

Default = Callable[[Object], None]


def apply_defaults(key: str, obj: Object) -> None:
    """Fill in the defaults of one object in place; `key` names its resource."""
    found = _DEFAULTS.get(key)
    if found:
        found(obj)


def _put(obj: Object, **values: Any) -> None:
    for key, value in values.items():
        obj.setdefault(key, value)


def pod_spec(spec: Object) -> None:
    """Fill in a pod's spec, also that of a template."""
    for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
        _container(container)
    for volume in spec.get("volumes", ()):
        _volume(volume)
    _put(
        spec,
        dnsPolicy="ClusterFirst",
        restartPolicy="Always",
        schedulerName="default-scheduler",
        securityContext={},
        terminationGracePeriodSeconds=30,
    )
    if "serviceAccountName" in spec:
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif "serviceAccount" in spec:
        spec["serviceAccountName"] = spec["serviceAccount"]


def _container(container: Object) -> None:
    image = str(container.get("image", "")).rpartition("/")[2]
    latest = ":" not in image or image.endswith(":latest")
    _put(
        container,
        imagePullPolicy="Always" if latest and "@" not in image else "IfNotPresent",
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    limits = container["resources"].get("limits", {})
    if limits:
        requests = container["resources"].setdefault("requests", {})
        for name, amount in limits.items():
            requests.setdefault(name, amount)
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            _probe(container[probe])
    for entry in container.get("env", ()):
        if "fieldRef" in entry.get("valueFrom", {}):
            entry["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")


def _probe(probe: Object) -> None:
    _put(probe, failureThreshold=3, periodSeconds=10, successThreshold=1, timeoutSeconds=1)
    if "httpGet" in probe:
        _put(probe["httpGet"], path="/", scheme="HTTP")


def _volume(volume: Object) -> None:
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}
    for source in ("configMap", "secret", "downwardAPI", "projected"):
        if source in volume:
            volume[source].setdefault("defaultMode", 420)
    for part in volume.get("projected", {}).get("sources", ()):
        if "serviceAccountToken" in part:
            part["serviceAccountToken"].setdefault("expirationSeconds", 3600)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")


def _template(spec: Object) -> None:
    pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))
    spec["template"].setdefault("metadata", {})


def _pod(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    if spec.get("hostNetwork"):
        for container in spec.get("containers", ()):
            for port in container.get("ports", ()):
                port.setdefault("hostPort", port.get("containerPort"))


def _deployment(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _template(spec)
    _put(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _put(strategy.setdefault("rollingUpdate", {}), maxSurge="25%", maxUnavailable="25%")


def _daemon_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _template(spec)
    _put(spec, revisionHistoryLimit=10)
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _put(strategy.setdefault("rollingUpdate", {}), maxSurge=0, maxUnavailable=1)


def _stateful_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _template(spec)
    _put(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    _put(spec.setdefault("persistentVolumeClaimRetentionPolicy", {}), whenDeleted="Retain", whenScaled="Retain")
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _put(strategy.setdefault("rollingUpdate", {}), partition=0)
    for claim in spec.get("volumeClaimTemplates", ()):
        _put(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
        claim["status"] = {"phase": "Pending"}


def _replica_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _template(spec)
    spec.setdefault("replicas", 1)


def job_spec(spec: Object) -> None:
    """Fill in a job's spec, also that of a cron job's template."""
    _template(spec)


def _job(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    job_spec(spec)
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    _put(
        spec,
        parallelism=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        manualSelector=False,
        podReplacementPolicy="TerminatingOrFailed",
    )


def _cron_job(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    template = spec.setdefault("jobTemplate", {})
    template.setdefault("metadata", {})
    job_spec(template.setdefault("spec", {}))
    _put(
        spec,
        concurrencyPolicy="Allow",
        suspend=False,
        successfulJobsHistoryLimit=3,
        failedJobsHistoryLimit=1,
    )
    obj.setdefault("status", {})


def _service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _put(spec, type="ClusterIP", sessionAffinity="None")
    if spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        config.setdefault("timeoutSeconds", 10800)
    for port in spec.get("ports", ()):
        _put(port, protocol="TCP", targetPort=port.get("port"))
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    for entry in obj.setdefault("status", {}).setdefault("loadBalancer", {}).get("ingress", ()):
        if "ip" in entry:
            entry.setdefault("ipMode", "VIP")


def _secret(obj: Object) -> None:
    for key, text in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(str(text).encode()).decode()
    obj.setdefault("type", "Opaque")


def _volume_claim(obj: Object) -> None:
    obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _volume_object(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _put(spec, persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _storage_class(obj: Object) -> None:
    _put(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _node(obj: Object) -> None:
    obj.setdefault("spec", {})
    found = obj.setdefault("status", {})
    found.setdefault("daemonEndpoints", {"kubeletEndpoint": {"Port": 0}})
    if "capacity" in found:
        found["allocatable"] = {**found["capacity"], **found.get("allocatable", {})}
    info = found.setdefault("nodeInfo", {})
    for key in (
        "architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion",
        "kubeletVersion", "machineID", "operatingSystem", "osImage", "systemUUID",
    ):  # fmt: skip
        info.setdefault(key, "")


def _namespace(obj: Object) -> None:
    obj.setdefault("metadata", {}).setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"].get(
        "name", ""
    )
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("phase", "Active")


def _event(obj: Object) -> None:
    _put(obj, source={}, firstTimestamp=None, lastTimestamp=None, eventTime=None)
    _put(obj, reportingComponent="", reportingInstance="")


def _endpoint_slice(obj: Object) -> None:
    obj.setdefault("endpoints", None)
    if obj.setdefault("ports", None):
        for port in obj["ports"]:
            _put(port, name="", protocol="TCP")


def _endpoints(obj: Object) -> None:
    for subset in obj.get("subsets", ()):
        for port in subset.get("ports", ()):
            port.setdefault("protocol", "TCP")


def _binding(obj: Object) -> None:
    for subject in obj.get("subjects", ()):
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")
    if "roleRef" in obj:
        obj["roleRef"].setdefault("apiGroup", "rbac.authorization.k8s.io")


def _ingress(obj: Object) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    spec.setdefault("policyTypes", ["Ingress", "Egress"] if "egress" in spec else ["Ingress"])


def _budget(obj: Object) -> None:
    obj.setdefault("spec", {})
    _put(
        obj.setdefault("status", {}),
        currentHealthy=0,
        desiredHealthy=0,
        disruptionsAllowed=0,
        expectedPods=0,
    )


def _priority_class(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _csi_driver(obj: Object) -> None:
    _put(
        obj.setdefault("spec", {}),
        attachRequired=True,
        fsGroupPolicy="ReadWriteOnceWithFSType",
        podInfoOnMount=False,
        requiresRepublish=False,
        seLinuxMount=False,
        storageCapacity=False,
        volumeLifecycleModes=["Persistent"],
    )


def _autoscaler(obj: Object) -> None:
    obj.setdefault("spec", {}).setdefault("minReplicas", 1)


def _webhooks(obj: Object) -> None:
    for hook in obj.get("webhooks", ()):
        _put(
            hook,
            failurePolicy="Fail",
            matchPolicy="Equivalent",
            namespaceSelector={},
            objectSelector={},
            timeoutSeconds=10,
        )
        for rule in hook.get("rules", ()):
            rule.setdefault("scope", "*")
        service = hook.get("clientConfig", {}).get("service")
        if service is not None:
            service.setdefault("port", 443)


def _crd(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = str(names.get("kind", ""))
    _put(names, singular=kind.lower(), listKind=f"{kind}List")
    spec.setdefault("conversion", {"strategy": "None"}).setdefault("strategy", "None")


def _replication_controller(obj: Object) -> None:
    _replica_set(obj)


_DEFAULTS: dict[str, Default] = {
    "pods": _pod,
    "podtemplates": _template,
    "replicationcontrollers": _replication_controller,
    "deployments.apps": _deployment,
    "daemonsets.apps": _daemon_set,
    "statefulsets.apps": _stateful_set,
    "replicasets.apps": _replica_set,
    "jobs.batch": _job,
    "cronjobs.batch": _cron_job,
    "services": _service,
    "secrets": _secret,
    "persistentvolumeclaims": _volume_claim,
    "persistentvolumes": _volume_object,
    "storageclasses.storage.k8s.io": _storage_class,
    "csidrivers.storage.k8s.io": _csi_driver,
    "nodes": _node,
    "namespaces": _namespace,
    "events": _event,
    "endpoints": _endpoints,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    "ingresses.networking.k8s.io": _ingress,
    "networkpolicies.networking.k8s.io": _network_policy,
    "poddisruptionbudgets.policy": _budget,
    "priorityclasses.scheduling.k8s.io": _priority_class,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks,
    "customresourcedefinitions.apiextensions.k8s.io": _crd,
}
