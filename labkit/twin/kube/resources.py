"""The resources that the server knows without any CRD: one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labkit.twin.kube.builtin_shapes import shape_of
from labkit.twin.kube.shapes import Shape
from labkit.twin.kube.status import qualified

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, eq=False)
class ScalePaths:
    """Where a scalable object keeps its replicas; `selector` may be empty."""

    spec: str = ".spec.replicas"
    status: str = ".status.replicas"
    selector: str = ".spec.selector"


@dataclass(frozen=True, eq=False)
class Resource:
    """One resource in one version, as discovery shows it and as the store keeps it.

    `generation` counts changes of the spec; `returns_deleted` answers a delete with the object;
    `version_spec` is the entry of the CRD's `spec.versions` for a custom kind, None for a built-in one.
    """

    group: str
    version: str
    plural: str
    kind: str
    shape: Shape
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    status: bool = False
    scale: ScalePaths | None = None
    generation: bool = False
    returns_deleted: bool = False
    stored: bool = True
    list_kind: str = ""
    subresources: tuple[tuple[str, str, str, tuple[str, ...]], ...] = ()
    version_spec: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """The name that all versions share: `pods`, `deployments.apps`."""
        return qualified(self.plural, self.group)

    @property
    def group_version(self) -> str:
        """The apiVersion of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def custom(self) -> bool:
        """Whether a CRD brought it."""
        return self.version_spec is not None


# group/version | plural | kind | short names | marks:
#   c cluster-scoped   s status   r scale   g counts generations   d a delete answers with the object
#   a category all     n no deletecollection                        x not stored (create only)
_TABLE = """
v1 bindings Binding - x
v1 configmaps ConfigMap cm -
v1 endpoints Endpoints ep -
v1 events Event ev - CoreV1Event
v1 limitranges LimitRange limits -
v1 namespaces Namespace ns cns
v1 nodes Node no cs
v1 persistentvolumeclaims PersistentVolumeClaim pvc sd
v1 persistentvolumes PersistentVolume pv csd
v1 pods Pod po sgda
v1 podtemplates PodTemplate - gd
v1 replicationcontrollers ReplicationController rc srga
v1 resourcequotas ResourceQuota quota sd
v1 secrets Secret - -
v1 serviceaccounts ServiceAccount sa d
v1 services Service svc sda
apps/v1 controllerrevisions ControllerRevision - -
apps/v1 daemonsets DaemonSet ds sga
apps/v1 deployments Deployment deploy srga
apps/v1 replicasets ReplicaSet rs srga
apps/v1 statefulsets StatefulSet sts srga
autoscaling/v2 horizontalpodautoscalers HorizontalPodAutoscaler hpa sa V2HorizontalPodAutoscaler
batch/v1 cronjobs CronJob cj sga
batch/v1 jobs Job - sga
policy/v1 poddisruptionbudgets PodDisruptionBudget pdb sg
storage.k8s.io/v1 csidrivers CSIDriver - cd
storage.k8s.io/v1 csinodes CSINode - cd
storage.k8s.io/v1 csistoragecapacities CSIStorageCapacity - -
storage.k8s.io/v1 storageclasses StorageClass sc cd
storage.k8s.io/v1 volumeattachments VolumeAttachment - csd
storage.k8s.io/v1 volumeattributesclasses VolumeAttributesClass vac cd
coordination.k8s.io/v1 leases Lease - -
discovery.k8s.io/v1 endpointslices EndpointSlice - g
networking.k8s.io/v1 ingressclasses IngressClass - cg
networking.k8s.io/v1 ingresses Ingress ing sg
networking.k8s.io/v1 ipaddresses IPAddress ip c
networking.k8s.io/v1 networkpolicies NetworkPolicy netpol g
networking.k8s.io/v1 servicecidrs ServiceCIDR - cs
rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding - c
rbac.authorization.k8s.io/v1 clusterroles ClusterRole - c
rbac.authorization.k8s.io/v1 rolebindings RoleBinding - -
rbac.authorization.k8s.io/v1 roles Role - -
apiextensions.k8s.io/v1 customresourcedefinitions CustomResourceDefinition crd,crds csg
apiregistration.k8s.io/v1 apiservices APIService - cs
scheduling.k8s.io/v1 priorityclasses PriorityClass pc cg
node.k8s.io/v1 runtimeclasses RuntimeClass - c
admissionregistration.k8s.io/v1 mutatingwebhookconfigurations MutatingWebhookConfiguration - cg
admissionregistration.k8s.io/v1 validatingwebhookconfigurations ValidatingWebhookConfiguration - cg
admissionregistration.k8s.io/v1 validatingadmissionpolicies ValidatingAdmissionPolicy - csg
admissionregistration.k8s.io/v1 validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding - cg
certificates.k8s.io/v1 certificatesigningrequests CertificateSigningRequest csr cs
authorization.k8s.io/v1 localsubjectaccessreviews LocalSubjectAccessReview - x
authorization.k8s.io/v1 selfsubjectaccessreviews SelfSubjectAccessReview - cx
authorization.k8s.io/v1 selfsubjectrulesreviews SelfSubjectRulesReview - cx
authorization.k8s.io/v1 subjectaccessreviews SubjectAccessReview - cx
authentication.k8s.io/v1 selfsubjectreviews SelfSubjectReview - cx
authentication.k8s.io/v1 tokenreviews TokenReview - cx
"""
_RWX = ("get", "patch", "update")
_PROXY = ("create", "delete", "get", "patch", "update")
# Subresources beside status and scale: name, kind, group/version when it is another, verbs.
_MORE: dict[str, tuple[tuple[str, str, str, tuple[str, ...]], ...]] = {
    "namespaces": (("finalize", "Namespace", "", ("update",)),),
    "nodes": (("proxy", "NodeProxyOptions", "", _PROXY),),
    "pods": (
        ("attach", "PodAttachOptions", "", ("create", "get")),
        ("binding", "Binding", "", ("create",)),
        ("ephemeralcontainers", "Pod", "", _RWX),
        ("eviction", "Eviction", "policy/v1", ("create",)),
        ("exec", "PodExecOptions", "", ("create", "get")),
        ("log", "Pod", "", ("get",)),
        ("portforward", "PodPortForwardOptions", "", ("create", "get")),
        ("proxy", "PodProxyOptions", "", _PROXY),
        ("resize", "Pod", "", _RWX),
    ),
    "serviceaccounts": (("token", "TokenRequest", "authentication.k8s.io/v1", ("create",)),),
    "services": (("proxy", "ServiceProxyOptions", "", _PROXY),),
    "certificatesigningrequests": (("approval", "CertificateSigningRequest", "", _RWX),),
}
_SINGULAR_IS_PLURAL = {"endpoints"}


def builtin_resources() -> list[Resource]:
    """Return every built-in resource in the order of the table."""
    return [_row(line.split()) for line in _TABLE.strip().split("\n")]


def _row(words: list[str]) -> Resource:
    group_version, plural, kind, short, marks, *types = words
    group, _, version = group_version.rpartition("/")
    verbs: tuple[str, ...] = ("create",) if "x" in marks else VERBS
    if "n" in marks:
        verbs = tuple(verb for verb in verbs if verb != "deletecollection")
    return Resource(
        group=group,
        version=version,
        plural=plural,
        kind=kind,
        shape=shape_of(types[0] if types else f"V1{kind}"),
        namespaced="c" not in marks,
        singular=plural if plural in _SINGULAR_IS_PLURAL else kind.lower(),
        short_names=() if short == "-" else tuple(short.split(",")),
        categories=_categories(marks, group),
        verbs=verbs,
        status="s" in marks,
        scale=ScalePaths() if "r" in marks else None,
        generation="g" in marks,
        returns_deleted="d" in marks,
        stored="x" not in marks,
        list_kind=f"{kind}List",
        subresources=_MORE.get(plural, ()),
    )


def _categories(marks: str, group: str) -> tuple[str, ...]:
    if group == "apiextensions.k8s.io":
        return ("api-extensions",)
    if group == "admissionregistration.k8s.io":
        return ("api-extensions",)
    return ("all",) if "a" in marks else ()
