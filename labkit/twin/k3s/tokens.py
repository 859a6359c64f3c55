"""Cluster tokens: `<password>`, or `K10<hash of the CA>::<user>:<password>`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labkit.twin.k3s.errors import Fatal

_FULL = re.compile(r"K10([0-9a-f]{64})::([^:]+):(.+)", re.DOTALL)
_BAD = "failed to normalize token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>"


@dataclass(frozen=True)
class Token:
    """A token taken apart; `ca_hash` is empty for the short form."""

    password: str
    user: str = "server"
    ca_hash: str = ""

    @property
    def full(self) -> str:
        """The long form."""
        return f"K10{self.ca_hash}::{self.user}:{self.password}"


def read_token(text: str) -> Token:
    """Take a token apart; raise Fatal when it has neither form."""
    text = text.strip()
    if match := _FULL.fullmatch(text):
        return Token(match[3], match[2], match[1])
    if not text or text.startswith("K10"):
        raise Fatal(_BAD)
    return Token(text.rpartition("::")[2])
