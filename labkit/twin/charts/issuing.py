"""X.509 certificates that cert-manager asks the twin's authority for."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_CURVES: dict[int, ec.EllipticCurve] = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
_YEARS = dt.timedelta(days=3650)


@dataclass(frozen=True)
class Issued:
    """A certificate with its chain and key, in PEM, and when it is valid."""

    chain: str
    key: str
    not_before: dt.datetime
    not_after: dt.datetime


class Issuer:
    """A certificate authority whose certificate is in a file; it stands for the one that the lab's ACME account has."""

    def __init__(self, file: Path, name: str) -> None:
        self.file = file
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        now = dt.datetime.now(dt.UTC)
        built = _builder(self._name, self._name, self._key.public_key(), now - dt.timedelta(days=1), now + _YEARS)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        built = built.add_extension(_usage(signs=True), critical=True)
        self.pem = _pem(built.sign(self._key, hashes.SHA256()))
        file.write_text(self.pem)

    def issue(
        self, names: Sequence[str], days: float, *, common: str = "", algorithm: str = "RSA", size: int = 0
    ) -> Issued:
        """Sign a new key for host names and addresses."""
        key = new_key(algorithm, size)
        start = dt.datetime.now(dt.UTC).replace(microsecond=0)
        end = start + dt.timedelta(days=days)
        hosts = [_general(name) for name in names]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])] if common else [])
        built = _builder(subject, self._name, key.public_key(), start, end)
        for extension, critical in (
            (x509.SubjectAlternativeName(hosts), not common),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(signs=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ):
            built = built.add_extension(extension, critical=critical)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ).decode()
        return Issued(_pem(built.sign(self._key, hashes.SHA256())) + self.pem, private, start, end)


def new_key(algorithm: str, size: int) -> Key:
    """Make a private key as a Certificate asks for it."""
    if algorithm == "ECDSA":
        return ec.generate_private_key(_CURVES.get(size, _CURVES[256]))
    return rsa.generate_private_key(public_exponent=65537, key_size=size or 2048)


def read_certificate(pem: str) -> x509.Certificate | None:
    """Read the first certificate of a chain; None when it is none."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the host names and addresses of a certificate."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, start: dt.datetime,
    end: dt.datetime,
) -> x509.CertificateBuilder:  # fmt: skip
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, content_commitment=False, key_encipherment=not signs, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
