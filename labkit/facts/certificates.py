"""What was read of certificates in the cluster: cert-manager's own objects, and the Secrets that are served. Pure.

Keys never become facts: of a Secret only its certificate is looked at.
"""

from __future__ import annotations

from datetime import datetime

from labkit.facts.proxmox import Fact


class IssuerRow(Fact):
    """An Issuer or ClusterIssuer."""

    kind: str
    namespace: str = ""
    name: str
    ready: bool
    problem: str = ""

    @property
    def id(self) -> str:
        """`ClusterIssuer/letsencrypt`, `Issuer/default/ca`."""
        return "/".join(filter(None, (self.kind, self.namespace, self.name)))


class CertificateRow(Fact):
    """A Certificate of cert-manager."""

    namespace: str
    name: str
    secret: str
    hosts: tuple[str, ...] = ()
    issuer: str = ""
    ready: bool = False
    problem: str = ""
    """Why it is not ready."""
    issuing: str = ""
    """What the condition Issuing says while a certificate is being had; "" otherwise."""
    not_after: datetime | None = None
    renewal: datetime | None = None
    """When cert-manager means to renew it."""
    failed_attempts: int = 0
    last_failure: datetime | None = None
    requests: tuple[datetime, ...] = ()
    """When its requests of the last days were made, as far as they are kept."""

    @property
    def id(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class ServedCertificate(Fact):
    """A Secret of type kubernetes.io/tls, by its certificate."""

    namespace: str
    name: str
    hosts: tuple[str, ...] = ()
    issuer: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    fingerprint: str = ""
    """SHA-256 of the certificate; "" when there is none that can be read."""
    reflects: str = ""
    """The Secret that it is a copy of, `namespace/name`."""
    copies_to: tuple[str, ...] = ()
    """The namespaces that reflector is told to copy it to; patterns."""

    @property
    def id(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class CertificateFacts(Fact):
    """All certificates of the cluster."""

    installed: bool = False
    """Whether cert-manager's kinds are there."""
    issuers: tuple[IssuerRow, ...] = ()
    certificates: tuple[CertificateRow, ...] = ()
    served: tuple[ServedCertificate, ...] = ()
    namespaces: tuple[str, ...] = ()
    read_at: datetime

    def secret(self, identity: str) -> ServedCertificate | None:
        """Return a Secret by `namespace/name`."""
        return next((one for one in self.served if one.id == identity), None)
