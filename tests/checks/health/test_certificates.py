"""What the report says of certificates: a cluster that is well, and what it must find."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from labkit.checks.health import Area, certificates
from labkit.facts.certificates import CertificateFacts, CertificateRow, IssuerRow, ServedCertificate
from tests.checks.health.scenes import NOW, Row, found

MODULE = certificates
ISSUER = IssuerRow(kind="ClusterIssuer", name="letsencrypt", ready=True)
WILDCARD = CertificateRow(namespace="traefik", name="efym-net", secret="efym-net-tls", ready=True,
                          not_after=NOW + timedelta(days=60), renewal=NOW + timedelta(days=30),
                          requests=(NOW - timedelta(days=30),))  # fmt: skip
SOURCE = ServedCertificate(namespace="traefik", name="efym-net-tls", hosts=("efym.net", "*.efym.net"),
                           not_after=NOW + timedelta(days=60), fingerprint="aa",
                           copies_to=("default", "auth.*"))  # fmt: skip
COPY = SOURCE.model_copy(update={"namespace": "default", "reflects": SOURCE.id, "copies_to": ()})
OTHER = COPY.model_copy(update={"namespace": "authelia"})
SPACES = ("default", "traefik", "authelia", "kube-system")


def facts(*served: ServedCertificate, certificate: CertificateRow = WILDCARD, issuer: IssuerRow = ISSUER) -> Any:
    return CertificateFacts(installed=True, issuers=(issuer,), certificates=(certificate,),
                            served=served or (SOURCE, COPY, OTHER), namespaces=SPACES, read_at=NOW)  # fmt: skip


def changed(**what: Any) -> CertificateRow:
    return WILDCARD.model_copy(update=what)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (facts(), []),
        (facts(SOURCE.model_copy(update={"not_after": NOW + timedelta(days=15)}), COPY, OTHER),
         [("certificates.expiry", "warning", "efym.net, *.efym.net (Secret traefik/efym-net-tls)",
           "until 2026-05-19 (15 days)")]),
        (facts(SOURCE.model_copy(update={"not_after": NOW - timedelta(days=2)}), COPY, OTHER),
         [("certificates.expiry", "error", "efym.net, *.efym.net (Secret traefik/efym-net-tls)",
           "expired 2 days ago")]),
        (facts(certificate=changed(ready=False, problem="MissingData: no key")),
         [("certificates.ready", "error", "Certificate traefik/efym-net", "MissingData: no key")]),
        (facts(certificate=changed(ready=False, problem="DoesNotExist", issuing="Issuing")), []),
        (facts(certificate=changed(failed_attempts=3, last_failure=NOW - timedelta(hours=5))),
         [("certificates.renewal", "warning", "Certificate traefik/efym-net",
           "3 failed attempts, last 5 hours ago, until 2026-07-03 (60 days)")]),
        (facts(certificate=changed(renewal=NOW - timedelta(days=3))),
         [("certificates.renewal", "warning", "Certificate traefik/efym-net",
           "due 3 days ago, until 2026-07-03 (60 days)")]),
        (facts(certificate=changed(renewal=NOW - timedelta(hours=2))), []),
        (facts(issuer=ISSUER.model_copy(update={"ready": False, "problem": "ErrRegisterACMEAccount"})),
         [("certificates.issuer", "error", "ClusterIssuer/letsencrypt", "ErrRegisterACMEAccount")]),
        (facts(certificate=changed(requests=tuple(NOW - timedelta(days=day) for day in range(4)))),
         [("certificates.rate-limit", "warning", "Certificate traefik/efym-net",
           "4; Let's Encrypt refuses after 5")]),
        (facts(SOURCE, COPY.model_copy(update={"fingerprint": "bb", "not_after": NOW + timedelta(days=3)}), OTHER),
         [("certificates.copies", "error", "Secret default/efym-net-tls",
           "another one (until 2026-05-07 (3 days))")]),
        (facts(SOURCE, COPY),
         [("certificates.copies", "error", "Secret authelia/efym-net-tls", "none")]),
        (facts(COPY), [("certificates.copies", "warning", "Secret default/efym-net-tls", "that is gone")]),
        (facts(SOURCE.model_copy(update={"copies_to": (), "fingerprint": "", "not_after": None})),
         [("certificates.readable", "warning", "Secret traefik/efym-net-tls", "none that can be read")]),
    ],
)  # fmt: skip
def test_certificates(seen: CertificateFacts, expected: list[Row]) -> None:
    assert found(Area.CERTIFICATES, certificates=seen) == expected


def test_a_pattern_that_is_no_regular_expression_is_a_name() -> None:
    source = SOURCE.model_copy(update={"copies_to": ("*", "default")})
    assert found(Area.CERTIFICATES, certificates=facts(source, COPY)) == []
