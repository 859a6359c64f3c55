"""The certificates of one k3s cluster: a CA for servers, one for clients, and what they sign."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labkit.twin.state import write_whole

_CA_LIFE, _DAYS = timedelta(days=3650), 365.0
_FIXED = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
          "localhost", "127.0.0.1", "::1")  # fmt: skip


@dataclass(frozen=True)
class Pki:
    """The CAs of a cluster, in PEM; `made` is the date from which they are valid."""

    server_ca: str
    server_key: str
    client_ca: str
    client_key: str
    made: float

    @property
    def ca_hash(self) -> str:
        """The hash in the long form of the cluster's token."""
        return hashlib.sha256(self.server_ca.encode()).hexdigest()

    def plain(self) -> dict[str, str | float]:
        """Return all of it as plain data."""
        return asdict(self)

    def server_context(self, folder: Path, name: str, hosts: Iterable[str]) -> ssl.SSLContext:
        """Return what the TLS server of a node needs; clients may show a certificate, which is verified."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.load_serving(context, folder, name, hosts)
        context.load_verify_locations(cadata=self.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def load_serving(
        self, context: ssl.SSLContext, folder: Path, name: str, hosts: Iterable[str], *, days: float = _DAYS
    ) -> str:
        """Have a TLS server show a new certificate that lasts so many days; return it."""
        subject = _named("k3s", "k3s")
        alternatives = x509.SubjectAlternativeName([_general(host) for host in dict.fromkeys((*_FIXED, *hosts))])
        cert, key = _issue(
            subject, (self.server_ca, self.server_key), ExtendedKeyUsageOID.SERVER_AUTH, self.made, alternatives,
            days=days,
        )  # fmt: skip
        place = folder / f"{name}.pem"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(place, cert + self.server_ca + key)
        context.load_cert_chain(place)
        return cert

    def leaf(self, common: str, group: str, *, serving: bool, days: float = _DAYS) -> tuple[str, str]:
        """Return a certificate of the cluster and its key, in PEM."""
        if serving:
            return _issue(_named(common, group), (self.server_ca, self.server_key), ExtendedKeyUsageOID.SERVER_AUTH,
                          self.made, days=days)  # fmt: skip
        return _issue(_named(common, group), (self.client_ca, self.client_key), ExtendedKeyUsageOID.CLIENT_AUTH,
                      self.made, days=days)  # fmt: skip

    def kubeconfig(self, *, days: float = _DAYS) -> str:
        """Return a kubeconfig of the administrator, as k3s writes it."""
        cert, key = self.leaf("system:admin", "system:masters", serving=False, days=days)
        cluster = {"certificate-authority-data": _data(self.server_ca), "server": "https://127.0.0.1:6443"}
        user = {"client-certificate-data": _data(cert + self.client_ca), "client-key-data": _data(key)}
        document = {
            "apiVersion": "v1", "clusters": [{"cluster": cluster, "name": "default"}],
            "contexts": [{"context": {"cluster": "default", "user": "default"}, "name": "default"}],
            "current-context": "default", "kind": "Config", "preferences": {},
            "users": [{"name": "default", "user": user}],
        }  # fmt: skip
        return yaml.safe_dump(document, sort_keys=False, width=1 << 20)


def _named(common: str, group: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def make_pki(now: float) -> Pki:
    """Make the CAs of a new cluster; they are valid from `now` on."""
    server_ca, server_key = _make_ca("k3s-server-ca", now)
    client_ca, client_key = _make_ca("k3s-client-ca", now)
    return Pki(server_ca, server_key, client_ca, client_key, float(int(now)))


def _make_ca(name: str, now: float) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}@{int(now)}")])
    start = datetime.fromtimestamp(int(now), UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(start + _CA_LIFE)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signed = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign", "digital_signature", "key_encipherment"), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM).decode(), _private(key)


def _issue(
    subject: x509.Name,
    authority: tuple[str, str],
    purpose: x509.ObjectIdentifier,
    made: float,
    alternatives: x509.SubjectAlternativeName | None = None,
    *,
    days: float = _DAYS,
) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    ca = x509.load_pem_x509_certificate(authority[0].encode())
    ca_key = serialization.load_pem_private_key(authority[1].encode(), password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)  # noqa: S101  # all of ours are
    end = datetime.now(UTC) + timedelta(days=days)
    start = min(datetime.fromtimestamp(made, UTC), end - timedelta(days=1))
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(ca.subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start)
    builder = builder.not_valid_after(end)
    builder = builder.add_extension(_usage("digital_signature", "key_encipherment"), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    signed = builder.sign(ca_key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode(), _private(key)


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*names: str) -> x509.KeyUsage:
    fields = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
              "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{field: field in names for field in fields})


def _data(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()
