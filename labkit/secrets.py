"""The one place for secrets: references are resolved here, and everything that a run writes is redacted here.

A reference is a text `scheme:rest`: `env:NAME`, `file:path`, `sops:file#key.path`, `keyring:service/name`.
Every value that is resolved is remembered, and `redact` replaces it in every text that leaves the process.
"""

from __future__ import annotations

import base64
import urllib.parse
from threading import Lock

_MASK = "«secret»"
_MIN_LENGTH = 6  # shorter values would blank out innocent words
_known: set[str] = set()
_guard = Lock()


def remember(value: str) -> str:
    """Register a secret so that `redact` hides it from now on; returns it unchanged."""
    forms = {value, urllib.parse.quote(value, safe=""), base64.b64encode(value.encode()).decode()}
    # A key or a certificate is also hidden when a program prints it line by line.
    forms.update(line.strip() for line in value.splitlines() if len(line.strip()) >= 16)
    with _guard:
        _known.update(form for form in forms if len(form) >= _MIN_LENGTH)
    return value


def redact(text: str) -> str:
    """Replace every known secret in a text, longest first, in plain, URL-encoded and base64 form."""
    with _guard:
        known = sorted(_known, key=len, reverse=True)
    for value in known:
        if value in text:
            text = text.replace(value, _MASK)
    return text
