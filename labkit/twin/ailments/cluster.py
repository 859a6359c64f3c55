"""What ails the cluster: its nodes and pods, Flux, certificates, public hosts, and the repository behind it."""

from __future__ import annotations

from typing import Any

from labkit.twin.ailments.ailment import Ailment, Step, ailment, step

_FLUX = "kustomize.toolkit.fluxcd.io"
_LEFT_ALONE = {"metadata": {"annotations": {f"{_FLUX}/reconcile": "disabled"}}}
"""Flux does not undo what somebody did by hand to an object that carries this."""


def _commit(path: str, text: str) -> Step:
    return step("commit", path=path, text=text)


def _changed(resource: str, name: str, namespace: str, merge: Any) -> tuple[Step, ...]:
    """Change an object that Flux applies, so that the change stays."""
    place = {"resource": resource, "name": name, "namespace": namespace}
    return step("object", **place, merge=_LEFT_ALONE), step("object", **place, merge=merge)


def _deployment(name: str, image: str, *, behaviour: dict[str, str] | None = None, **spec: Any) -> Step:
    """Make a Deployment of one pod, whose annotations tell the twin's kubelet how it behaves."""
    labels = {"app": name}
    pod = {"metadata": {"labels": labels, "annotations": behaviour or {}},
           "spec": {"containers": [{"name": name, "image": image}], **spec}}  # fmt: skip
    return _make("deployments.apps", "apps/v1", "Deployment", name,
                 spec={"replicas": 1, "selector": {"matchLabels": labels}, "template": pod})  # fmt: skip


def _make(resource: str, version: str, kind: str, name: str, namespace: str = "default", **body: Any) -> Step:
    about = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return step("make", resource=resource, object={"apiVersion": version, "kind": kind, "metadata": about, **body})


def _node(name: str, merge: Any) -> Step:
    return step("object", resource="nodes", name=name, merge=merge)


OF_NODES: tuple[Ailment, ...] = (
    ailment("node-cordoned", "kubernetes.cordoned", "node {agent5}", _node("{agent5}", {"spec": {
        "unschedulable": True,
        "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
    }}), also=(("longhorn.node", "node {agent5}"),)),
    ailment("zone-label-stale", "kubernetes.zone", "node {agent4}",
            _node("{agent4}", {"metadata": {"labels": {"topology.kubernetes.io/zone": "{host1}"}}})),
    ailment("node-certificates-end", "kubernetes.certificate", "node {agent2}",
            step("certificates", name="{agent2}", days=12)),
    ailment("kubeconfig-ends", "kubernetes.kubeconfig", "kubeconfig {kubeconfig}", step("kubeconfig", days=12)),
    ailment("snapshot-fails", "kubernetes.snapshot-failed", "node {server3}",
            step("snapshots", name="{server3}", error="no space left on device")),
)  # fmt: skip
WORKLOADS: tuple[Ailment, ...] = (
    ailment("app-crashes", "kubernetes.pod-crash", "Deployment default/failing",
            _deployment("failing", "example.net/failing:1", behaviour={
                "twin.labkit/run": "1", "twin.labkit/exit-code": "1",
            })),
    ailment("image-gone", "kubernetes.pod-image", "Deployment default/gone",
            step("bad-image", image="example.net/gone:*"), _deployment("gone", "example.net/gone:1")),
    ailment("job-failed", "kubernetes.job-failed", "Job default/import",
            _make("jobs.batch", "batch/v1", "Job", "import", spec={"backoffLimit": 0, "template": {
                "metadata": {"annotations": {"twin.labkit/exit-code": "1"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "import", "image": "example.net/i:1"}]},
            }})),
    ailment("claim-without-class", "kubernetes.claim", "claim default/scans",
            _make("persistentvolumeclaims", "v1", "PersistentVolumeClaim", "scans", spec={
                "accessModes": ["ReadWriteOnce"], "storageClassName": "local-ssd",
                "resources": {"requests": {"storage": "1Gi"}},
            }),
            step("object", resource="persistentvolumeclaims", namespace="default", name="scans", hours=3)),
    ailment("webhook-of-nobody", "kubernetes.webhook", "validating webhook old-policy",
            _make("validatingwebhookconfigurations.admissionregistration.k8s.io", "admissionregistration.k8s.io/v1",
                  "ValidatingWebhookConfiguration", "old-policy", "", webhooks=[{
                      "name": "check.old-policy.example", "failurePolicy": "Ignore", "sideEffects": "None",
                      "admissionReviewVersions": ["v1"],
                      "clientConfig": {"service": {"name": "old-policy", "namespace": "default", "path": "/"}},
                      "rules": [{"apiGroups": ["example.net"], "apiVersions": ["v1"], "operations": ["CREATE"],
                                 "resources": ["things"]}],
                  }])),
    ailment("budget-too-tight", "kubernetes.budget", "PodDisruptionBudget default/jellyfin",
            _make("poddisruptionbudgets.policy", "policy/v1", "PodDisruptionBudget", "jellyfin", spec={
                "minAvailable": 1, "selector": {"matchLabels": {"app": "jellyfin"}},
            })),
    ailment("quota-used-up", "kubernetes.quota", "ResourceQuota default/limits",
            _make("resourcequotas", "v1", "ResourceQuota", "limits", spec={"hard": {"pods": "400"}},
                  status={"hard": {"pods": "400"}, "used": {"pods": "390"}})),
    ailment("pod-evicted", "kubernetes.pod-evicted", "Pod default/evicted",
            _make("pods", "v1", "Pod", "evicted", spec={
                "nodeName": "{agent1}", "restartPolicy": "Never",
                "containers": [{"name": "evicted", "image": "example.net/evicted:1"}],
            }),
            step("object", resource="pods", namespace="default", name="evicted", merge={"status": {
                "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory.",
                "containerStatuses": None, "conditions": None,
            }})),
)  # fmt: skip
OF_GITOPS: tuple[Ailment, ...] = (
    ailment("release-suspended", "flux.suspended", "HelmRelease/reflector/reflector",
            step("object", resource="helmreleases.helm.toolkit.fluxcd.io", name="reflector", namespace="reflector",
                 merge={"spec": {"suspend": True}})),
    ailment("image-changed-by-hand", "flux.drift",
            "Deployment/default/whoami (kubernetes/apps/whoami/deployment.yaml:1)",
            *_changed("deployments.apps", "whoami", "default", {"spec": {"template": {"spec": {"containers": [
                {"name": "whoami", "image": "docker.io/traefik/whoami:v0.0.1", "ports": [{"containerPort": 80}]}
            ]}}}})),
    ailment("secret-in-clear", "git.secret-plaintext", "kubernetes/apps/legacy.yaml:5",
            _commit("kubernetes/apps/legacy.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: legacy, namespace: "
                    "default}\nstringData:\n  password: vK8-tR2q-Zw5mP0x\n"), early=True),
    ailment("certificate-forgotten", "certificates.expiry", "old.{domain} (Secret default/old-tls)",
            step("certificate", name="old-tls", namespace="default", hosts=["old.{domain}"], days=5)),
    ailment("renewal-fails", "certificates.renewal", "Certificate cert-manager/efym-net",
            step("object", resource="certificates.cert-manager.io", name="efym-net", namespace="cert-manager",
                 merge={"status": {"failedIssuanceAttempts": 3}})),
    ailment("app-scaled-away", "ingress.status", "https://karakeep.{domain}",
            *_changed("deployments.apps", "karakeep", "default", {"spec": {"replicas": 0}})),
)  # fmt: skip
IN_CLUSTER = (*OF_NODES, *WORKLOADS, *OF_GITOPS)
