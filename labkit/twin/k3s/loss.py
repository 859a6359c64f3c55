"""Loss of etcd's data: the copy of one server is gone, or everything of k3s on its machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.errors import StepFailed
from labkit.twin.k3s import places
from labkit.twin.k3s.commands import kill_all, uninstall
from labkit.twin.k3s.scenario import build

if TYPE_CHECKING:
    from labkit.twin.k3s.system import K3s


class Loss:
    """Take data away from servers, as a dead disk does.

    Attributes:
        actions: for the control server: `lose-etcd` (`name`, and `whole` for all of k3s on the machine).
    """

    def __init__(self, k3s: K3s) -> None:
        self._k3s = k3s
        self.actions = {"lose-etcd": self.lose}

    async def lose(self, given: dict[str, Any]) -> None:
        """Destroy the etcd data of a server, and with `whole` everything that k3s ever put on its machine."""
        guest = self._k3s.guests.named(str(given["name"]))
        if guest is None or guest.phase != "up":
            raise StepFailed(f"lose-etcd: expected a VM of the twin that runs, got {given['name']}")
        host = self._k3s.host(guest)
        await kill_all(host)
        if given.get("whole"):
            await uninstall(host)
        for path in (places.ETCD, *((places.NODE_PASSWORD,) if given.get("whole") else ())):
            if guest.files.exists(path):
                guest.files.remove(path, recursive=True)

    async def begin(self) -> None:
        """Make the scenario `quorum-lost`: as many servers are as new as it takes, the first among them.

        A single server has only lost its database; its snapshots are there.
        """
        servers = self._k3s.world.lab.servers
        await build(self._k3s, self._k3s.world.lab.k3s.version)
        for machine in servers[: len(servers) - len(servers) // 2]:
            await self.lose({"name": machine.name, "whole": len(servers) > 1})
