"""Look up every secret reference of the lab file without keeping any value."""

from __future__ import annotations

from labkit.facts.endpoints import Reference, ReferenceFacts
from labkit.lab import Lab
from labkit.lab.references import walk_references
from labkit.systems.access import Access


def read_references(lab: Lab, access: Access) -> ReferenceFacts:
    """Return each secret reference with what is wrong with it."""
    return ReferenceFacts(
        references=tuple(
            Reference(where=where, reference=text, problem=access.secrets.check(text) or "")
            for where, text in walk_references(lab)
        )
    )
