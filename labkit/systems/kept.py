"""Secrets with certificates: a copy of them encrypted for Git, and from there back into a new cluster."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from typing import Any

from cryptography import x509
from ruamel.yaml import YAML

from labkit.errors import StepFailed
from labkit.facts.kept import UNTIL
from labkit.lab import Lab
from labkit.plan import Change
from labkit.redaction import remember
from labkit.systems.access import Access, Step
from labkit.systems.git import checked_out, fetch
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster
from labkit.systems.objects import Paths, apply_object, list_objects
from labkit.systems.repository.decrypt import public_keys
from labkit.systems.sops import decrypt, encrypt_for

_GROUP = "/apis/cert-manager.io/v1"
_OWN_SPACE = "cert-manager"
Item = Mapping[str, Any]


def put_back(lab: Lab, access: Access, change: Change, _step: Step) -> str:
    """Create a kept Secret in the cluster, and its namespace; one that is there already stays as it is.

    Raises:
        StepFailed: it is not in the file, the age key does not open that, or the API refuses it.
    """
    cluster = open_cluster(lab, access)
    space, _, name = change.target.partition("/")
    if cluster.find(f"/api/v1/namespaces/{space}/secrets/{name}") is not None:
        return "there already"
    with checked_out(fetch(lab, access)) as tree:
        text = decrypt(tree, str(change.after["file"]), access.secrets.resolve(lab.git.age_key))
    secret = next((one for one in parse(text) if _place(one) == change.target), None)
    if secret is None:
        raise StepFailed(f"{change.after['file']}: expected Secret {change.target} in it, got none")
    paths = Paths(cluster)
    apply_object(cluster, paths, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    apply_object(cluster, paths, secret)
    return f"Secret {change.target}"


def parse(text: str) -> list[dict[str, Any]]:
    """Return the Secrets of a decrypted file; their values are remembered for redaction."""
    found = [one for one in YAML(typ="safe", pure=True).load_all(text) if isinstance(one, dict)]
    for one in found:
        for value in (one.get("data") or {}).values():
            remember(str(value))
    return found


def _place(one: Item) -> str:
    metadata = one.get("metadata") or {}
    return f"{metadata.get('namespace') or 'default'}/{metadata.get('name')}"


def keep_certificates(lab: Lab, access: Access) -> tuple[str, tuple[str, ...]]:
    """Return an encrypted file with every Secret that cert-manager had from an ACME server, and their names.

    The keys of the ACME accounts are in it as well. It is encrypted for the lab's age key.

    Raises:
        StepFailed: there is nothing to keep.
        SystemDown: the cluster does not answer.
    """
    cluster = open_cluster(lab, access)
    secrets = list(_chosen(cluster))
    if not secrets:
        raise StepFailed("certificates: expected some of an ACME server in the cluster, got none to keep",
                         next_step="look at them: kubectl get certificates -A")  # fmt: skip
    recipients = public_keys(access.secrets.resolve(lab.git.age_key))
    return encrypt_for(recipients, render(secrets)), tuple(_place(one) for one in secrets)


def _chosen(cluster: Cluster) -> Iterator[dict[str, Any]]:
    issuers: dict[tuple[str, str, str], Item] = {}
    for kind, plural in (("Issuer", "issuers"), ("ClusterIssuer", "clusterissuers")):
        for one in list_objects(cluster, f"{_GROUP}/{plural}"):
            space = str(one["metadata"].get("namespace") or "")
            if (one.get("spec") or {}).get("acme"):
                issuers[kind, space, str(one["metadata"]["name"])] = one
    wanted = [f"{space or _OWN_SPACE}/{one['spec']['acme']['privateKeySecretRef']['name']}"
              for (_, space, _), one in issuers.items()]  # fmt: skip
    for one in list_objects(cluster, f"{_GROUP}/certificates"):
        ref, space = one["spec"]["issuerRef"], str(one["metadata"]["namespace"])
        kind = ref.get("kind") or "Issuer"
        if (kind, space if kind == "Issuer" else "", ref["name"]) in issuers:
            wanted.append(f"{space}/{one['spec']['secretName']}")
    for name in dict.fromkeys(wanted):
        space, _, short = name.partition("/")
        found = cluster.find(f"/api/v1/namespaces/{space}/secrets/{short}")
        if found is not None and found.get("data"):
            yield copy_of(found)


def copy_of(secret: Item) -> dict[str, Any]:
    """Return a Secret as it is kept: without what its cluster gave it, with the end of its certificate. Pure."""
    metadata = secret["metadata"]
    notes = {str(k): str(v) for k, v in (metadata.get("annotations") or {}).items()}
    notes = {k: v for k, v in notes.items() if not k.startswith(("kubectl.kubernetes.io/", "labkit/"))}
    if ends := _end(secret["data"]):
        notes[UNTIL] = ends
    for value in secret["data"].values():
        remember(str(value))
    kept = {"name": metadata["name"], "namespace": metadata["namespace"], "annotations": dict(sorted(notes.items())),
            "labels": dict(sorted((metadata.get("labels") or {}).items()))}  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Secret", "type": str(secret.get("type") or "Opaque"),
        "metadata": {key: value for key, value in kept.items() if value}, "data": dict(secret["data"]),
    }  # fmt: skip


def _end(data: Item) -> str:
    try:
        chain = base64.b64decode(str(data.get("tls.crt") or ""))
        return x509.load_pem_x509_certificate(chain).not_valid_after_utc.isoformat().replace("+00:00", "Z")
    except (ValueError, binascii.Error):
        return ""


def render(secrets: Iterable[Item]) -> str:
    """Return Secrets as one YAML text, in clear. Pure."""
    out = StringIO()
    YAML(typ="safe", pure=True).dump_all([dict(one) for one in secrets], out)
    return out.getvalue()
