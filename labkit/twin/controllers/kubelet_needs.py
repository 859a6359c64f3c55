"""What a pod needs before its containers can be made: Secrets, ConfigMaps, bound claims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.twin.kube.door import Api, Object

from .objects import name_of, namespace_of, spec_of, status_of
from .volume_rules import claims_of

Need = tuple[str, str, str]


class Needs:
    """Find out what a pod lacks, and remember which pods wait for what."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._waiting: dict[Need, set[tuple[str, str]]] = {}

    def missing(self, pod: Object) -> tuple[list[str], list[str]]:
        """Return what keeps the volumes from being mounted, and what keeps the environment from being made."""
        self.forget(namespace_of(pod), name_of(pod))
        mounts = [self._text(pod, n, volume) for volume, n in _volume_needs(pod) if self._lacks(pod, n)]
        claims = [
            self._wait(pod, ("persistentvolumeclaims", namespace_of(pod), name), f'claim "{name}" is not bound')
            for name, claim in claims_of(self._api, pod).items()
            if claim is None or status_of(claim).get("phase") != "Bound"
        ]
        variables = [self._text(pod, n, "") for n in _variable_needs(pod) if self._lacks(pod, n)]
        return [*mounts, *claims], variables

    def waiting_for(self, resource: str, namespace: str, name: str) -> list[tuple[str, str]]:
        """Return the pods that wait for an object."""
        return sorted(self._waiting.get((resource, namespace, name), ()))

    def forget(self, namespace: str, name: str) -> None:
        """Forget what a pod waited for."""
        for need in [n for n, pods in self._waiting.items() if (namespace, name) in pods]:
            self._waiting[need].discard((namespace, name))
            if not self._waiting[need]:
                del self._waiting[need]

    def _lacks(self, pod: Object, need: tuple[str, str]) -> bool:
        return self._api.get(need[0], need[1], namespace_of(pod)) is None

    def _text(self, pod: Object, need: tuple[str, str], volume: str) -> str:
        resource, name = need
        text = f'{resource.removesuffix("s")} "{name}" not found'
        if volume:
            text = f'MountVolume.SetUp failed for volume "{volume}" : {text}'
        return self._wait(pod, (resource, namespace_of(pod), name), text)

    def _wait(self, pod: Object, need: Need, text: str) -> str:
        self._waiting.setdefault(need, set()).add((namespace_of(pod), name_of(pod)))
        return text


def _volume_needs(pod: Object) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield (volume, (resource, name)) for each object that must be there to mount a volume."""
    for volume in spec_of(pod).get("volumes") or []:
        sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        for source in sources:
            secret, config = source.get("secret"), source.get("configMap")
            if secret and not secret.get("optional"):
                yield volume["name"], ("secrets", secret.get("secretName") or secret.get("name", ""))
            if config and not config.get("optional"):
                yield volume["name"], ("configmaps", config.get("name", ""))


def _variable_needs(pod: Object) -> Iterator[tuple[str, str]]:
    """Yield (resource, name) for each object that a container's environment comes from."""
    spec = spec_of(pod)
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        sources: list[dict[str, Any]] = list(container.get("envFrom") or [])
        sources += [v["valueFrom"] for v in container.get("env") or [] if v.get("valueFrom")]
        for source in sources:
            for field, resource in FIELDS.items():
                found = source.get(field)
                if found and not found.get("optional"):
                    yield resource, found["name"]


FIELDS = {
    "secretRef": "secrets",
    "configMapRef": "configmaps",
    "secretKeyRef": "secrets",
    "configMapKeyRef": "configmaps",
}
