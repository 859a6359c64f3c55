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


IN_CLUSTER: tuple[Ailment, ...] = (
    ailment("release-suspended", "flux.suspended", "HelmRelease/reflector/reflector",
            step("object", resource="helmreleases.helm.toolkit.fluxcd.io", name="reflector", namespace="reflector",
                 merge={"spec": {"suspend": True}})),
    ailment("image-changed-by-hand", "flux.drift",
            "Deployment/default/whoami (kubernetes/apps/whoami/deployment.yaml:1)",
            *_changed("deployments.apps", "whoami", "default", {"spec": {"template": {"spec": {"containers": [
                {"name": "whoami", "image": "docker.io/traefik/whoami:v0.0.1", "ports": [{"containerPort": 80}]}
            ]}}}})),
    ailment("secret-in-clear", "git.secret-in-configmap", "kubernetes/apps/legacy.yaml:5",
            _commit("kubernetes/apps/legacy.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: legacy, "
                    "namespace: default}\ndata:\n  password: correct-horse-battery\n"), early=True),
    ailment("certificate-forgotten", "certificates.expiry", "old.{domain} (Secret default/old-tls)",
            step("certificate", name="old-tls", namespace="default", hosts=["old.{domain}"], days=5)),
    ailment("renewal-fails", "certificates.renewal", "Certificate cert-manager/efym-net",
            step("object", resource="certificates.cert-manager.io", name="efym-net", namespace="cert-manager",
                 merge={"status": {"failedIssuanceAttempts": 3}})),
    ailment("app-scaled-away", "ingress.status", "https://linkding.{domain}",
            *_changed("deployments.apps", "linkding", "default", {"spec": {"replicas": 0}})),
)  # fmt: skip
