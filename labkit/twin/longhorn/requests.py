"""When an object that asks for a sync is due: the rule of `syncRequestedAt` and `lastSyncedAt`."""

from __future__ import annotations

from labkit.twin.controllers.objects import spec_of, status_of, uid_of, unstamp
from labkit.twin.kube.door import Object


class Requests:
    """Tell which requests are still open; one that was answered does not count again."""

    def __init__(self) -> None:
        self._answered: dict[str, str] = {}

    def is_due(self, obj: Object) -> bool:
        """Tell whether an object was never synced, or asked for it since."""
        asked, last = spec_of(obj).get("syncRequestedAt"), status_of(obj).get("lastSyncedAt")
        if not last:
            return True
        if not asked:
            return False
        return unstamp(asked) > unstamp(last) or self._answered.get(uid_of(obj), asked) != asked

    def answer(self, obj: Object) -> None:
        """Remember what an object asked for when its sync began."""
        self._answered[uid_of(obj)] = str(spec_of(obj).get("syncRequestedAt") or "")
