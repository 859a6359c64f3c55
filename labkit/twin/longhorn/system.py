"""One Longhorn in a cluster: it begins when its manager is there, and ends when that is gone."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from labkit.twin.controllers import Controller, Kubelets, launch
from labkit.twin.controllers.objects import is_deleting, name_of, namespace_of, status_of
from labkit.twin.kube.door import Clock, Event
from labkit.twin.kube.local import LocalApi
from labkit.twin.kube.server import KubeServer
from labkit.twin.longhorn.admission import Admission
from labkit.twin.longhorn.api import Actions
from labkit.twin.longhorn.apps import Apps
from labkit.twin.longhorn.backups import Backups
from labkit.twin.longhorn.csi import Attacher
from labkit.twin.longhorn.hub import Hub
from labkit.twin.longhorn.install import MANAGER, RESOURCES, first_objects, follow_target, version_of
from labkit.twin.longhorn.kubestatus import KubernetesStatus
from labkit.twin.longhorn.names import NAMESPACE, VOLUMES
from labkit.twin.longhorn.nodes import Nodes
from labkit.twin.longhorn.recurring import RecurringJobs
from labkit.twin.longhorn.rest import Rest
from labkit.twin.longhorn.restores import Restores
from labkit.twin.longhorn.snapshots import Snapshots
from labkit.twin.longhorn.systembackups import SystemBackups
from labkit.twin.longhorn.targets import BackupVolumes, Targets
from labkit.twin.longhorn.volumes import Volumes

_DAEMON_SETS, _CONFIGS = "daemonsets.apps", "configmaps"
_log = logging.getLogger(__name__)


class Longhorn(Controller):
    """Watch for longhorn-manager, and do Longhorn's work while it is there.

    Attributes:
        hub: what its parts share.
        apps: the files of volumes.
        actions: what its API does.
        running: whether it works now.
    """

    name = "longhorn"
    watches = (_DAEMON_SETS, _CONFIGS)

    def __init__(self, hub: Hub, server: KubeServer | None = None) -> None:
        super().__init__(hub.api, hub.clock)
        self.hub = hub
        self.apps = Apps(hub)
        self.actions = Actions(hub)
        self._admission = Admission(hub)
        self._tasks: list[asyncio.Task[None]] = []
        if server is not None:
            rest = Rest(hub, self.actions)
            for service in ("longhorn-frontend", "longhorn-backend"):
                server.serve_proxy(NAMESPACE, service, rest.serve)
            server.log_of = self.apps.log

    @property
    def running(self) -> bool:
        """Whether Longhorn works now."""
        return bool(self._tasks)

    def keys(self, event: Event) -> list[str]:
        """Take only the manager and its default resources."""
        if namespace_of(event.object) == NAMESPACE and name_of(event.object) in (MANAGER, RESOURCES):
            return [name_of(event.object)]
        return []

    async def reconcile(self, key: str) -> float | None:
        """Begin, end, or follow a change of the default target."""
        if key == RESOURCES:
            if self.running:
                follow_target(self.hub)
            return None
        manager = self.hub.api.get(_DAEMON_SETS, MANAGER, NAMESPACE)
        if manager is None or is_deleting(manager):
            await self._end()
            return None
        if self.hub.api.core.registry.named(VOLUMES) is None:
            return 1.0
        if not self.running and not status_of(manager).get("numberReady"):
            return None
        version = version_of(manager)
        if self.running and version == self.hub.version:
            return None
        await self._end()
        self.hub.version = version
        self._begin()
        return None

    def _begin(self) -> None:
        _log.info("Longhorn %s begins", self.hub.version)
        self._admission.open()
        first_objects(self.hub)
        hub = self.hub
        hub.on_faults.clear()
        self._tasks = launch(self.api, [
            Nodes(hub), Volumes(hub), Snapshots(hub), Backups(hub), BackupVolumes(hub), Targets(hub), Restores(hub),
            RecurringJobs(hub, self.actions), SystemBackups(hub), KubernetesStatus(hub), Attacher(hub, self.apps),
        ])  # fmt: skip
        if hub.kubelets is not None:
            for node in self.api.list("nodes"):
                hub.kubelets.look_at_node(name_of(node))

    async def _end(self) -> None:
        tasks, self._tasks = self._tasks, []
        self._admission.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self) -> None:
        """Work until cancelled, then end everything."""
        try:
            await super().run()
        finally:
            for task in self._tasks:
                task.cancel()
            self._tasks = []
            self._admission.close()


def start(
    api: LocalApi, clock: Clock, nas: Any, *, folder: Any, server: KubeServer | None = None,
    kubelets: Kubelets | None = None, **more: Any,
) -> tuple[Longhorn, list[asyncio.Task[None]]]:  # fmt: skip
    """Start what waits for Longhorn in a cluster, as tasks on the running loop; cancel them to end it.

    Args:
        api: the cluster's own door.
        clock: the twin's time.
        nas: the exports that backup targets name.
        folder: where the bytes of volumes are kept.
        server: the API server whose proxy answers for Longhorn's REST service.
        kubelets: told when volumes are attached; pods wait for that.
        more: further fields of `Hub`: `disks`, `faults`, `seed`, `pace`, `on_write`.
    """
    longhorn = Longhorn(Hub(api, clock, nas, folder, kubelets=kubelets, **more), server)
    return longhorn, launch(api, [longhorn])
