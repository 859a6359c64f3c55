"""The notification controller: its objects are ready, and nobody is told."""

from __future__ import annotations

from labkit.twin.controllers.framework import Result
from labkit.twin.controllers.objects import meta
from labkit.twin.flux.base import FluxController, Marks
from labkit.twin.flux.gate import DEPLOYMENTS
from labkit.twin.kube.door import Object

_RECEIVERS = "receivers.notification.toolkit.fluxcd.io"


class Receivers(FluxController):
    """Give a Receiver the path of its webhook."""

    name = program = "notification-controller"
    resource = _RECEIVERS
    watches = (_RECEIVERS, DEPLOYMENTS)

    async def work(self, obj: Object) -> Result:
        """Write that the Receiver is there."""
        path = f"/hook/{str(meta(obj)['uid']).replace('-', '')}"
        text = f"Receiver initialized for path: {path}"
        marks = Marks().true("Ready", "Succeeded", text)
        self.mark(obj, marks, webhookPath=path, observedGeneration=meta(obj).get("generation", 1), **self.handled(obj))
        return None
