"""Chance that can be repeated: the same lab, seed and words give the same bytes."""

from __future__ import annotations

import hashlib
import uuid


class Seed:
    """Derive ids, keys and addresses from a number, the lab's name and some words."""

    def __init__(self, number: int, lab: str) -> None:
        self._start = f"labkit twin\0{number}\0{lab}"

    def bytes(self, *words: object) -> bytes:
        """Return 32 bytes."""
        text = "\0".join([self._start, *(str(word) for word in words)])
        return hashlib.sha256(text.encode()).digest()

    def hex(self, *words: object, length: int = 32) -> str:
        """Return up to 64 hexadecimal digits."""
        return self.bytes(*words).hex()[:length]

    def uuid(self, *words: object) -> str:
        """Return a random-looking UUID."""
        return str(uuid.UUID(bytes=self.bytes(*words)[:16], version=4))

    def mac(self, *words: object) -> str:
        """Return a MAC address under the prefix that Proxmox uses."""
        tail = self.bytes(*words)[:3]
        return "BC:24:11:" + ":".join(f"{byte:02X}" for byte in tail)
