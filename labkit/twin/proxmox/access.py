"""Who is calling: API tokens of the lab, checked as Proxmox checks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.twin.proxmox.errors import PveError
from labkit.twin.proxmox.privileges import PATHS, Need, reader_privileges, writer_privileges
from labkit.twin.world import World

_SCHEME = "PVEAPIToken="


@dataclass(frozen=True)
class Caller:
    """A token, or root, with what it may do everywhere; `root` may do everything."""

    user: str
    privileges: frozenset[str] = frozenset()
    root: bool = False

    def check(self, needs: Iterable[Need], values: Mapping[str, Any]) -> None:
        """Raise the 403 of Proxmox when a privilege is missing."""
        for need in () if self.root else needs:
            self._check(need, need.path.format_map(_Values(values)))

    def has(self, *privileges: str) -> bool:
        """Tell whether the caller has any of these privileges."""
        return self.root or not self.privileges.isdisjoint(privileges)

    def _check(self, need: Need, path: str) -> None:
        missing = [name for name in need.privileges if name not in self.privileges]
        if need.any and len(missing) == len(need.privileges):
            raise PveError(403, f"Permission check failed ({path}, {'|'.join(missing)})")
        if missing and not need.any:
            raise PveError(403, f"Permission check failed ({path}, {missing[0]})")

    def permissions(self, path: str | None) -> dict[str, dict[str, int]]:
        """Return what /access/permissions answers: path, privilege, 1."""
        rights = dict.fromkeys(sorted(self.privileges), 1)
        return {place: dict(rights) for place in ((path,) if path else PATHS)}


ROOT = Caller("root@pam", root=True)
"""Who acts when a person does something in the web interface."""


class Access:
    """Know the tokens of the lab."""

    def __init__(self, world: World) -> None:
        self._world = world
        proxmox, version = world.lab.proxmox, world.options.proxmox
        self._tokens = {proxmox.token.id: (world.secrets[proxmox.token.secret], writer_privileges(version))}
        if (reader := proxmox.read_token) is not None and reader.id not in self._tokens:
            self._tokens[reader.id] = (world.secrets[reader.secret], reader_privileges(version))

    def authenticate(self, header: str) -> Caller:
        """Return who sent this Authorization header; raise the 401 of Proxmox when nobody."""
        if not header.startswith(_SCHEME):
            raise PveError(401, "No ticket")
        name, _, secret = header.removeprefix(_SCHEME).partition("=")
        if name not in self._tokens:
            raise PveError(401, "no such token")
        expected, _ = self._tokens[name]
        if secret != expected or self._world.faults.has("wrong-token"):
            raise PveError(401, "invalid token value!")
        return self.named(name)

    def named(self, name: str) -> Caller:
        """Return the caller with that token; raise the 400 of Proxmox when there is none."""
        if name not in self._tokens:
            raise PveError(400, f"no such token '{name}'")
        lost = {given[0] for given in self._world.faults.arguments("missing-privilege")}
        return Caller(name, self._tokens[name][1] - lost)


class _Values(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""
