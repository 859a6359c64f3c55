"""What was asked of the twin: requests and writes per system, clones side by side."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Counters:
    """Count requests, writes and clones since the start or the last reset."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.clones = 0
        self.cloning = 0
        self.most_cloning = 0

    def request(self, system: str) -> int:
        """Count one request; return how many there were."""
        self.requests[system] += 1
        return self.requests[system]

    def write(self, system: str) -> None:
        """Count one request that asks for a change."""
        self.writes[system] += 1

    def clone_begins(self) -> None:
        """Count a clone that has begun."""
        self.clones += 1
        self.cloning += 1
        self.most_cloning = max(self.most_cloning, self.cloning)

    def clone_ends(self) -> None:
        """Take note that a clone has ended, however it ended."""
        self.cloning -= 1

    def reset(self) -> None:
        """Begin to count anew; clones that run stay known."""
        self.requests.clear()
        self.writes.clear()
        self.clones = 0
        self.most_cloning = self.cloning

    def view(self) -> dict[str, Any]:
        """Return all numbers as plain data; every system that the twin has is named."""
        systems = sorted({"proxmox", "guests", "kubernetes", *self.requests, *self.writes})
        return {
            "requests": {name: self.requests[name] for name in systems},
            "writes": {name: self.writes[name] for name in systems},
            "clones": {"count": self.clones, "side_by_side": self.most_cloning, "running": self.cloning},
        }
