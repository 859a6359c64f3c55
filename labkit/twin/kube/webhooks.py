"""Admission webhooks: what an installed program may complete, change or refuse before an object is stored."""

from __future__ import annotations

from typing import Protocol

from labkit.twin.kube.door import Object


class Webhook(Protocol):
    """One program's say in the objects of one resource; every method may raise ApiError."""

    def admit(self, new: Object, old: Object | None) -> None:
        """Complete or refuse an object that is created (`old` is None) or changed; `new` is changed in place."""
        ...

    def leave(self, old: Object) -> None:
        """Refuse that an object is deleted, by raising."""
        ...
