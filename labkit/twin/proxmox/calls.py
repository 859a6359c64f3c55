"""One request as a handler sees it, and the table that finds the handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.twin.proxmox.access import Caller
from labkit.twin.proxmox.errors import PveError, parameter_error
from labkit.twin.proxmox.privileges import Need

TRUE = ("1", "true", "on", "yes")


@dataclass
class Call:
    """A request: its words, who asks, and the host whose API was called. `names` are from the path."""

    method: str
    path: str
    params: dict[str, Any]
    caller: Caller
    at: str
    names: dict[str, str] = field(default_factory=dict)

    @property
    def node(self) -> str:
        """The host that the path names."""
        return self.names["node"]

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter as text."""
        return str(self.params.get(name, default))

    def flag(self, name: str) -> bool:
        """Tell whether a boolean parameter is given and true."""
        return self.text(name, "0").lower() in TRUE

    def number(self, name: str, default: int | None = None) -> int:
        """Return a whole number; raise the 400 of Proxmox when it is missing or none."""
        value = self.params.get(name, default)
        if value is None:
            raise parameter_error(**{name: "property is missing and it is not optional"})
        if not str(value).lstrip("-").isdecimal():
            raise parameter_error(**{name: f"type check ('integer') failed - got '{value}'"})
        return int(value)

    def allow(self, *names: str) -> None:
        """Raise the 400 of Proxmox for every parameter but these."""
        text = "property is not defined in schema and the schema does not allow additional properties"
        if unknown := {name: text for name in self.params if name not in names}:
            raise parameter_error(**unknown)

    @property
    def writes(self) -> bool:
        """Whether this asks for a change: everything but GET, and but the guest agent's calls."""
        return self.method not in {"GET", "HEAD"} and "/agent/" not in self.path


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True)
class Route:
    """A method and a path (`/nodes/{node}/qemu`), who answers it, and what it asks for."""

    method: str
    path: str
    handler: Handler
    needs: tuple[Need, ...] = ()


class Routes:
    """Find the route of a request by method and path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._by_size: dict[tuple[str, int], list[tuple[list[str], Route]]] = {}
        for route in routes:
            parts = route.path.strip("/").split("/")
            self._by_size.setdefault((route.method, len(parts)), []).append((parts, route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route and the names in the path, or None."""
        given = path.strip("/").split("/")
        for parts, route in self._by_size.get((method, len(given)), ()):
            if all(part == word or part[0] == "{" for part, word in zip(parts, given, strict=True)):
                names = zip(parts, given, strict=True)
                return route, {part[1:-1]: word for part, word in names if part[0] == "{"}
        return None


def not_implemented(method: str, path: str) -> PveError:
    """Return the answer for a path or method that Proxmox does not have."""
    return PveError(501, f"Method '{method} {path}' not implemented")
