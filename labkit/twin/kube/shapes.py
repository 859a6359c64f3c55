"""The shape of typed objects: what a field holds and how lists and maps are merged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["object", "map", "list", "string", "integer", "number", "boolean", "bytes", "time", "quantity", "any"]


@dataclass(slots=True, eq=False)
class Shape:
    """What one place in an object holds.

    `fields` are those of an object; `item` is what a map or list holds. `list_type` and `keys` rule server-side
    apply, `merge_key`, `merges` and `retains` the strategic merge patch. `atomic` maps and objects are owned
    and replaced as a whole; `open` objects keep fields that nobody described.
    """

    kind: Kind = "any"
    name: str = ""
    fields: dict[str, Shape] = field(default_factory=dict)
    item: Shape | None = None
    list_type: Literal["atomic", "set", "map"] = "atomic"
    keys: tuple[str, ...] = ()
    atomic: bool = False
    merge_key: str = ""
    merges: bool = False
    retains: bool = False
    open: bool = False

    def child(self, name: str) -> Shape:
        """Return the shape below a key; ANY where nothing is known."""
        if self.kind == "object":
            return self.fields.get(name) or self.item or ANY
        return (self.item if self.kind == "map" else None) or ANY


ANY = Shape()
"""The shape of a value about which nothing is known: objects are granular, lists atomic."""
