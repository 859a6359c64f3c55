"""Read certificates in the cluster: a handful of lists, side by side; keys are dropped where they are read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from labkit.facts.certificates import CertificateFacts, CertificateRow, IssuerRow, ServedCertificate
from labkit.lab import Lab
from labkit.systems.access import Access
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.kubernetes import Cluster, KubeError
from labkit.systems.objects import list_objects

_GROUP = "/apis/cert-manager.io/v1"
_REFLECTOR = "reflector.v1.k8s.emberstack.com/"
_OWNER = "cert-manager.io/certificate-name"
Item = Mapping[str, Any]


def read_certificates(lab: Lab, access: Access) -> CertificateFacts:
    """Return what is there of certificates; without the right to read Secrets, what cert-manager says alone.

    Raises:
        SystemDown: the cluster does not answer.
    """
    cluster = open_cluster(lab, access)
    lists = {name: f"{_GROUP}/{name}" for name in ("issuers", "clusterissuers", "certificates", "certificaterequests")}
    with ThreadPoolExecutor(max_workers=len(lists) + 2) as pool:
        pending = {name: pool.submit(_list, cluster, path) for name, path in lists.items()}
        secrets = pool.submit(_tls_secrets, cluster)
        spaces = pool.submit(cluster.table, "/api/v1/namespaces")
        found = {name: future.result() for name, future in pending.items()}
        return CertificateFacts(
            installed=found["certificates"] is not None,
            issuers=tuple(_issuer(item, kind) for name, kind in (("issuers", "Issuer"),
                          ("clusterissuers", "ClusterIssuer")) for item in found[name] or ()),
            certificates=tuple(_certificate(item, found["certificaterequests"] or ()) for item in found["certificates"]
                               or ()),
            served=secrets.result(),
            namespaces=tuple(str(row.metadata.get("name")) for row in spaces.result().rows),
            read_at=datetime.now(UTC),
        )  # fmt: skip


def _list(cluster: Cluster, path: str) -> list[Item] | None:
    """Return the objects of a kind; None where there is no such kind."""
    try:
        return list(list_objects(cluster, path))
    except KubeError as exc:
        if exc.status == 404:
            return None
        raise


def _tls_secrets(cluster: Cluster) -> tuple[ServedCertificate, ...]:
    try:
        items = cluster.items("/api/v1/secrets", fieldSelector="type=kubernetes.io/tls")
        return tuple(_served(item) for item in items)
    except KubeError as exc:
        if exc.status == 403:
            return ()
        raise


def _issuer(item: Item, kind: str) -> IssuerRow:
    metadata, ready = item["metadata"], _condition(item, "Ready")
    good = ready.get("status") == "True"
    return IssuerRow(kind=kind, namespace=str(metadata.get("namespace") or "") if kind == "Issuer" else "",
                     name=str(metadata["name"]), ready=good, problem="" if good else _words(ready))  # fmt: skip


def _certificate(item: Item, requests: Iterable[Item]) -> CertificateRow:
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    ready, issuing = _condition(item, "Ready"), _condition(item, "Issuing")
    current = int(ready.get("observedGeneration") or metadata.get("generation") or 0)
    good = ready.get("status") == "True" and current >= int(metadata.get("generation") or 0)
    reference = spec.get("issuerRef") or {}
    mine = [
        one["metadata"] for one in requests
        if one["metadata"].get("namespace") == metadata.get("namespace")
        and (one["metadata"].get("annotations") or {}).get(_OWNER) == metadata["name"]
    ]  # fmt: skip
    return CertificateRow(
        namespace=str(metadata.get("namespace")),
        name=str(metadata["name"]),
        secret=str(spec.get("secretName") or ""),
        hosts=tuple(dict.fromkeys([*filter(None, [spec.get("commonName")]), *(spec.get("dnsNames") or ())])),
        issuer=f"{reference.get('kind') or 'Issuer'}/{reference.get('name')}",
        ready=good,
        problem="" if good else _words(ready),
        issuing=_words(issuing),
        not_after=_moment(status.get("notAfter")),
        renewal=_moment(status.get("renewalTime")),
        failed_attempts=int(status.get("failedIssuanceAttempts") or 0),
        last_failure=_moment(status.get("lastFailureTime")),
        requests=tuple(sorted(filter(None, (_moment(one.get("creationTimestamp")) for one in mine)))),
    )


def _served(item: Item) -> ServedCertificate:
    metadata = item["metadata"]
    notes = metadata.get("annotations") or {}
    names = notes.get(f"{_REFLECTOR}reflection-auto-namespaces") or ""
    wanted = notes.get(f"{_REFLECTOR}reflection-auto-enabled") == "true"
    row = ServedCertificate(
        namespace=str(metadata.get("namespace")),
        name=str(metadata["name"]),
        reflects=str(notes.get(f"{_REFLECTOR}reflects") or ""),
        copies_to=tuple(one.strip() for one in names.split(",") if one.strip()) if wanted else (),
    )
    certificate = _parse((item.get("data") or {}).get("tls.crt") or "")
    if certificate is None:
        return row
    return row.model_copy(update={
        "hosts": _hosts(certificate), "issuer": certificate.issuer.rfc4514_string(),
        "not_before": certificate.not_valid_before_utc, "not_after": certificate.not_valid_after_utc,
        "fingerprint": certificate.fingerprint(SHA256()).hex(),
    })  # fmt: skip


def _parse(text: str) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(base64.b64decode(text))
    except (ValueError, binascii.Error):
        return None


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(one.value) for one in found)
    return tuple(names.get_values_for_type(x509.DNSName))


def _condition(item: Item, kind: str) -> Item:
    found = (one for one in (item.get("status") or {}).get("conditions") or () if one.get("type") == kind)
    return next(found, {})


def _words(condition: Item) -> str:
    return ": ".join(filter(None, (str(condition.get("reason") or ""), str(condition.get("message") or ""))))


def _moment(text: Any) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None
