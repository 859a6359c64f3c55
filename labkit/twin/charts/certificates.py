"""What cert-manager does when it runs: issuers get ready, Certificates get a real certificate in their Secret."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509

from labkit.facts.kept import UNTIL
from labkit.twin.charts.issuing import Issued, Issuer, names_of, read_certificate
from labkit.twin.controllers.framework import Result
from labkit.twin.controllers.objects import (
    annotations_of,
    condition,
    is_deleting,
    is_true,
    labels_of,
    meta,
    name_of,
    namespace_of,
    owner_reference,
    spec_of,
    stamp,
    status_of,
    with_condition,
)
from labkit.twin.flux.durations import parse_duration
from labkit.twin.flux.gate import DEPLOYMENTS, GatedController, has_labels
from labkit.twin.kube.door import Clock, Event, Object
from labkit.twin.kube.local import LocalApi

CERTIFICATES = "certificates.cert-manager.io"
REQUESTS = "certificaterequests.cert-manager.io"
ISSUERS = {"Issuer": "issuers.cert-manager.io", "ClusterIssuer": "clusterissuers.cert-manager.io"}
_GROUP = "cert-manager.io"
_NINETY_DAYS = "2160h"
_OWN_SPACE = "cert-manager"
ACME = 40.0
"""Twin seconds that a DNS challenge takes."""
_LOCAL = 1.0


class _Program(GatedController):
    """A loop of cert-manager's controller."""

    def is_program(self, deployment: Object) -> bool:
        """Tell by the chart's labels."""
        return has_labels(deployment, name="cert-manager", component="controller")

    def status(self, resource: str, obj: Object, **fields: Any) -> None:
        """Write fields of an object's status."""
        self.api.patch(resource, name_of(obj), {"status": fields}, namespace_of(obj), subresource="status")


class Issuers(_Program):
    """Make Issuers and ClusterIssuers ready."""

    name = "cert-manager-issuers"
    resources = tuple(ISSUERS.values())
    watches = (*ISSUERS.values(), "secrets", DEPLOYMENTS)

    def keys(self, event: Event) -> list[tuple[str, str, str]]:
        """Return the issuer, or those that want a secret."""
        if event.resource != "secrets":
            return [(event.resource, namespace_of(event.object), name_of(event.object))]
        return [
            (resource, namespace_of(one), name_of(one)) for resource in self.resources
            for one in self.api.list(resource) if not is_true(one, "Ready")
        ]  # fmt: skip

    async def reconcile(self, key: tuple[str, str, str]) -> Result:
        """Register the account of one issuer."""
        resource, namespace, name = key
        obj = self.api.get(resource, name, namespace) if self.awake else None
        generation = meta(obj or {}).get("generation")
        known = condition(obj or {}, "Ready") or {}
        done = known.get("status") == "True" and known.get("observedGeneration") == generation
        if obj is None or is_deleting(obj) or done:
            return None
        await self.clock.sleep(2.0)
        ready, reason, message, more = self._outcome(obj)
        text = "True" if ready else "False"
        now = status_of(self.api.get(resource, name, namespace) or obj).get("conditions")
        conditions = with_condition(now, "Ready", text, self.now(), reason=reason, message=message,
                                    observedGeneration=generation)  # fmt: skip
        if known.get("message") != message or ready:
            self.status(resource, obj, conditions=conditions, **more)
        return None if ready else 60.0

    def _outcome(self, obj: Object) -> tuple[bool, str, str, dict[str, Any]]:
        spec, space = spec_of(obj), namespace_of(obj) or _OWN_SPACE
        if acme := spec.get("acme"):
            self._account(acme["privateKeySecretRef"]["name"], space)
            number = int(meta(obj)["uid"][:8], 16)
            state = {"uri": f"{acme['server'].rpartition('/')[0]}/acme/acct/{number}",
                     "lastRegisteredEmail": acme.get("email", "")}  # fmt: skip
            text = "The ACME account was registered with the ACME server"
            return True, "ACMEAccountRegistered", text, {"acme": state}
        if authority := spec.get("ca"):
            found = self.api.get("secrets", authority["secretName"], space)
            if found is None:
                text = f'Error getting keypair for CA issuer: secrets "{authority["secretName"]}" not found'
                return False, "ErrGetKeyPair", text, {}
            return True, "KeyPairVerified", "Signing CA verified", {}
        return True, "IsReady", "", {}

    def _account(self, name: str, space: str) -> None:
        if self.api.get("secrets", name, space) is None:
            key = base64.b64encode(f"account key {name}".encode()).decode()
            self.api.create("secrets", {"metadata": {"name": name, "namespace": space}, "type": "Opaque",
                                        "data": {"tls.key": key}})  # fmt: skip


class Certificates(_Program):
    """Issue, renew and adopt certificates."""

    name = "cert-manager-certificates"
    resources = (CERTIFICATES,)
    watches = (CERTIFICATES, *ISSUERS.values(), "secrets", DEPLOYMENTS)

    def __init__(self, api: LocalApi, clock: Clock, authority: Issuer) -> None:
        super().__init__(api, clock)
        self._authority = authority

    def keys(self, event: Event) -> list[tuple[str, str]]:
        """Return the certificate, those of a Secret, or those that wait for an issuer."""
        obj = event.object
        if event.resource == CERTIFICATES:
            return [(namespace_of(obj), name_of(obj))]
        if event.resource == "secrets":
            found = self.api.list(CERTIFICATES, namespace_of(obj))
            found = [one for one in found if spec_of(one).get("secretName") == name_of(obj)]
        else:
            found = [one for one in self.api.list(CERTIFICATES) if not is_true(one, "Ready")]
        return [(namespace_of(one), name_of(one)) for one in found]

    async def reconcile(self, key: tuple[str, str]) -> Result:
        """Bring one certificate up to date."""
        obj = self.api.get(CERTIFICATES, key[1], key[0]) if self.awake else None
        if obj is None or is_deleting(obj):
            return None
        secret = self.api.get("secrets", spec_of(obj)["secretName"], key[0])
        reason, message = why_issue(obj, secret, self.clock.now())
        if not reason and not is_true(obj, "Issuing"):
            return self._keep(obj, secret or {})
        issuer = self._issuer(obj)
        ready = is_true(obj, "Ready") and reason in {"", "Renewing"}
        if reason and not ready:
            self._say(obj, "Ready", "False", reason, message)
        asked = condition(obj, "Issuing") or {}
        if asked.get("status") != "True":
            self._say(obj, "Issuing", "True", reason or "ManuallyTriggered", message)
            self.events.normal(obj, "Issuing", message or "The certificate re-issuance was manually triggered")
        if issuer is None or not is_true(issuer, "Ready"):
            return None
        request = self._request(obj)
        if why := self._blocked(issuer):
            self._answer(request, "Pending", why)
            return 30.0
        await self.clock.sleep(ACME if spec_of(issuer).get("acme") else _LOCAL)
        return await self._issue(obj, issuer, request)

    def _issuer(self, obj: Object) -> Object | None:
        ref = spec_of(obj)["issuerRef"]
        kind = ref.get("kind") or "Issuer"
        return self.api.get(ISSUERS.get(kind, ISSUERS["Issuer"]), ref["name"],
                            "" if kind == "ClusterIssuer" else namespace_of(obj))  # fmt: skip

    def _blocked(self, issuer: Object) -> str:
        """Say which secret of a solver is missing, so that the challenge cannot be answered."""
        for solver in (spec_of(issuer).get("acme") or {}).get("solvers") or []:
            for provider in (solver.get("dns01") or {}).values():
                ref = provider.get("apiTokenSecretRef") if isinstance(provider, Mapping) else None
                space = namespace_of(issuer) or _OWN_SPACE
                if ref and self.api.get("secrets", ref["name"], space) is None:
                    return f'error getting cloudflare secret: secrets "{ref["name"]}" not found'
        return ""

    async def _issue(self, obj: Object, issuer: Object, request: Object) -> Result:
        key = (namespace_of(obj), name_of(obj))
        spec = spec_of(obj)
        names = [*(spec.get("dnsNames") or []), *(spec.get("ipAddresses") or [])]
        private = spec.get("privateKey") or {}
        days = parse_duration(spec.get("duration"), parse_duration(_NINETY_DAYS)) / 86400
        issued = await asyncio.to_thread(
            self._authority.issue, names or [spec.get("commonName", "")], days, common=_common(spec),
            algorithm=private.get("algorithm", "RSA"), size=int(private.get("size") or 0),
        )  # fmt: skip
        obj = self.api.get(CERTIFICATES, key[1], key[0]) or obj
        self._store(obj, issuer, issued)
        self._answer(request, "Issued", "Certificate fetched from issuer successfully", issued)
        revision = int(status_of(obj).get("revision") or 0) + 1
        now = status_of(self.api.get(CERTIFICATES, key[1], key[0]) or obj).get("conditions") or []
        left = [one for one in now if one["type"] != "Issuing"]
        self.status(CERTIFICATES, obj, conditions=left, revision=revision, lastFailureTime=None)
        self.events.normal(obj, "Issuing", "The certificate has been successfully issued")
        return 0.0

    def _store(self, obj: Object, issuer: Object, issued: Issued) -> None:
        self.api.apply(secret_for(obj, issuer, issued), manager="cert-manager-certificates-issuing", force=True)

    def _request(self, obj: Object) -> Object:
        number = int(status_of(obj).get("revision") or 0) + 1
        name = f"{name_of(obj)}-{number}"
        found = self.api.get(REQUESTS, name, namespace_of(obj))
        if found is not None:
            return found
        body = {
            "metadata": {"name": name, "namespace": namespace_of(obj), "ownerReferences": [owner_reference(obj)],
                         "annotations": {f"{_GROUP}/certificate-name": name_of(obj),
                                         f"{_GROUP}/certificate-revision": str(number)}},
            "spec": {"issuerRef": spec_of(obj)["issuerRef"], "request": _encoded("certificate signing request")},
        }  # fmt: skip
        return self.api.create(REQUESTS, body)

    def _answer(self, request: Object, reason: str, message: str, issued: Issued | None = None) -> None:
        now = self.now()
        conditions = with_condition([], "Approved", "True", now, reason="cert-manager.io",
                                    message="Certificate request has been approved by cert-manager.io")  # fmt: skip
        status = "True" if issued else "False"
        conditions = with_condition(conditions, "Ready", status, now, reason=reason, message=message)
        more = {"certificate": _encoded(issued.chain)} if issued else {}
        if self.api.get(REQUESTS, name_of(request), namespace_of(request)) is not None:
            self.status(REQUESTS, request, conditions=conditions, **more)

    def _keep(self, obj: Object, secret: Object) -> float:
        """Write what is known about a certificate that is fine; return the seconds until it is to be renewed."""
        found = read_certificate(_decoded(secret, "tls.crt"))
        if found is None:
            return 0.0
        self._decorate(obj, secret)
        renewal = renewal_of(spec_of(obj), found)
        fields = {"notBefore": _date(found.not_valid_before_utc), "notAfter": _date(found.not_valid_after_utc),
                  "renewalTime": _date(renewal)}  # fmt: skip
        ready = condition(obj, "Ready") or {}
        current = ready.get("status") == "True" and ready.get("observedGeneration") == meta(obj).get("generation")
        if not current or any(status_of(obj).get(key) != value for key, value in fields.items()):
            self.status(CERTIFICATES, obj, **fields)
            self._say(obj, "Ready", "True", "Ready", "Certificate is up to date and has not expired")
        return max(1.0, (renewal.timestamp() - self.clock.now()) / self.clock.scale)

    def _decorate(self, obj: Object, secret: Object) -> None:
        """Keep annotations and labels of the Secret as its template says."""
        template = spec_of(obj).get("secretTemplate") or {}
        notes, labels = template.get("annotations") or {}, template.get("labels") or {}
        if not (notes.items() <= annotations_of(secret).items() and labels.items() <= labels_of(secret).items()):
            change = {"metadata": {"annotations": notes, "labels": labels}}
            self.api.patch("secrets", name_of(secret), change, namespace_of(secret))

    def _say(self, obj: Object, kind: str, status: str, reason: str, message: str) -> None:
        now = status_of(self.api.get(CERTIFICATES, name_of(obj), namespace_of(obj)) or obj).get("conditions")
        conditions = with_condition(now, kind, status, self.now(), reason=reason, message=message,
                                    observedGeneration=meta(obj).get("generation", 1))  # fmt: skip
        self.status(CERTIFICATES, obj, conditions=conditions)


def secret_for(obj: Object, issuer: Object, issued: Issued) -> Object:
    """Return the Secret of a Certificate with what its issuer has given."""
    spec = spec_of(obj)
    template = spec.get("secretTemplate") or {}
    notes = {
        **(template.get("annotations") or {}),
        f"{_GROUP}/alt-names": ",".join(spec.get("dnsNames") or []),
        f"{_GROUP}/certificate-name": name_of(obj), f"{_GROUP}/common-name": _common(spec),
        f"{_GROUP}/ip-sans": ",".join(spec.get("ipAddresses") or []),
        f"{_GROUP}/issuer-group": spec["issuerRef"].get("group") or _GROUP,
        f"{_GROUP}/issuer-kind": issuer["kind"], f"{_GROUP}/issuer-name": name_of(issuer),
        f"{_GROUP}/uri-sans": "",
    }  # fmt: skip
    labels = {**(template.get("labels") or {}), f"controller.{_GROUP}/fao": "true"}
    return {
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": spec["secretName"], "namespace": namespace_of(obj), "annotations": notes,
                     "labels": labels},
        "data": {"tls.crt": _encoded(issued.chain), "tls.key": _encoded(issued.key)},
    }  # fmt: skip


def kept_copies(objects: Sequence[Object], authority: Issuer) -> list[Object]:
    """Return the Secrets that Certificates of an ACME issuer got in a cluster that is gone, as `keep` leaves them."""
    asking = [one for one in objects if one["kind"] in ISSUERS and spec_of(one).get("acme")]
    issuers = {(one["kind"], name_of(one)): one for one in asking}
    found = []
    for one in objects:
        spec = spec_of(one)
        ref = spec.get("issuerRef") or {}
        issuer = issuers.get((ref.get("kind") or "Issuer", ref.get("name", "")))
        if one["kind"] != "Certificate" or issuer is None:
            continue
        names = [*(spec.get("dnsNames") or []), *(spec.get("ipAddresses") or [])]
        issued = authority.issue(names, parse_duration(_NINETY_DAYS) / 86400, common=_common(spec))
        secret = secret_for(one, issuer, issued)
        secret["metadata"]["annotations"][UNTIL] = _date(issued.not_after)
        found.append(secret)
    return found


def why_issue(obj: Object, secret: Object | None, now: float) -> tuple[str, str]:
    """Return the reason and the sentence why a certificate has to be issued; empty ones when it has not."""
    if secret is None:
        return "DoesNotExist", "Issuing certificate as Secret does not exist"
    chain = _decoded(secret, "tls.crt")
    if not chain or not _decoded(secret, "tls.key"):
        return "MissingData", "Issuing certificate as Secret does not contain any data"
    found = read_certificate(chain)
    if found is None:
        return "InvalidCertificate", "Issuing certificate as Secret contains an invalid certificate"
    return _why_again(spec_of(obj), annotations_of(secret), found, now)


def _why_again(
    spec: Mapping[str, Any], notes: Mapping[str, str], found: x509.Certificate, now: float
) -> tuple[str, str]:
    wanted = (spec["issuerRef"]["name"], spec["issuerRef"].get("kind") or "Issuer")
    names = {*(spec.get("dnsNames") or []), *(spec.get("ipAddresses") or [])}
    rules = (
        ((notes.get(f"{_GROUP}/issuer-name"), notes.get(f"{_GROUP}/issuer-kind")) != wanted, "IncorrectIssuer",
         "Issuing certificate as Secret was previously issued by another issuer"),
        (bool(names) and names_of(found) != names, "SecretMismatch",
         "Existing issued Secret is not up to date for spec: [spec.dnsNames]"),
        (now >= found.not_valid_after_utc.timestamp(), "Expired", "Certificate expired"),
        (now >= renewal_of(spec, found).timestamp(), "Renewing",
         "Renewing certificate as renewal was scheduled"),
    )  # fmt: skip
    return next(((reason, text) for holds, reason, text in rules if holds), ("", ""))


def renewal_of(spec: Mapping[str, Any], certificate: x509.Certificate) -> dt.datetime:
    """Return when a certificate is to be renewed: before its end, by default for a third of its life."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if spec.get("renewBefore"):
        return end - dt.timedelta(seconds=parse_duration(spec["renewBefore"]))
    if spec.get("renewBeforePercentage"):
        return end - (end - start) * int(spec["renewBeforePercentage"]) / 100
    return end - (end - start) / 3


def _common(spec: Mapping[str, Any]) -> str:
    return str(spec.get("commonName") or next(iter(spec.get("dnsNames") or []), ""))


def _date(moment: dt.datetime) -> str:
    return stamp(moment.timestamp())


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(secret: Object, key: str) -> str:
    value = (secret.get("data") or {}).get(key) or ""
    return base64.b64decode(value).decode("utf-8", "replace")
