"""The secrets of the example repository: marks in the data files, filled in from a seed, and kept for redaction."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_MARK = re.compile(r"@(secret|digest|rsa)\(([a-z0-9-]+)\)")
_ROUNDS = 310_000
_KEY_BITS = 2048


class Secrets:
    """Make a value for each name; the same seed and name give the same value (an RSA key is made anew).

    `values` holds all clear values that were handed out.
    """

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self.values: dict[str, str] = {}

    def clear(self, name: str) -> str:
        """Return the secret text of a name: 43 characters."""
        if name not in self.values:
            raw = hashlib.sha256(self._seed + b"\0" + name.encode()).digest()
            self.values[name] = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        return self.values[name]

    def digest(self, name: str) -> str:
        """Return the digest of a name's secret in the form that Authelia reads."""
        return _pbkdf2(self.clear(name), hashlib.sha256(self._seed + name.encode()).digest()[:16])

    def rsa(self, name: str) -> str:
        """Return an RSA private key in PEM."""
        if name not in self.values:
            self.values[name] = _rsa_pem()
        return self.values[name]

    def fill(self, text: str) -> str:
        """Replace every mark of a text: `@secret(name)`, `@digest(name)`, `@rsa(name)`."""
        makers = {"secret": self.clear, "digest": self.digest, "rsa": self.rsa}
        return _MARK.sub(lambda match: makers[match[1]](match[2]), text)


@lru_cache(maxsize=32)
def _pbkdf2(secret: str, salt: bytes) -> str:
    raw = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, _ROUNDS)
    return f"$pbkdf2-sha512${_ROUNDS}${_adapted(salt)}${_adapted(raw)}"


def _adapted(raw: bytes) -> str:
    """Base64 as these digests write it: a dot for the plus, no padding."""
    return base64.b64encode(raw).decode().rstrip("=").replace("+", ".")


def _rsa_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
