"""What the apps do with their volumes: begin afresh on an empty one, and write on when they are told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labkit.twin.controllers.objects import (
    labels_of,
    name_of,
    namespace_of,
    owner_of,
    spec_of,
    status_of,
)
from labkit.twin.controllers.volume_rules import claim_names
from labkit.twin.kube.door import Object
from labkit.twin.longhorn.contents import (
    checksum_lines,
    is_blank,
    range_checksum,
    read_tree,
    tree_checksum,
    write_tree,
)
from labkit.twin.longhorn.hub import Hub, is_attached, is_restoring
from labkit.twin.longhorn.images import allocated
from labkit.twin.longhorn.names import VOLUMES
from labkit.twin.longhorn.trees import first_tree, identity, written_on

_NAMELESS = ("", "Job")
"""Owners of pods that are no app: what looks at a volume does not begin anything on it."""


class Apps:
    """Read and write the files of volumes, as the apps that have them mounted."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def begin(self, volume: str, pod: Object, claim: str) -> None:
        """Have an app that finds an empty volume begin anew, as real apps do: an identity, and first data."""
        head = self.hub.head(volume)
        if head is None or not is_blank(head) or (owner_of(pod) or {}).get("kind", "") in _NAMELESS:
            return
        ident = self.hub.seed.uuid("app", volume, self.hub.chance("app", volume))
        app = labels_of(pod).get("app.kubernetes.io/name") or labels_of(pod).get("app") or claim
        size = int(spec_of(self.hub.get(VOLUMES, volume) or {}).get("size") or 0)
        told = {"app": app, "namespace": namespace_of(pod), "claim": claim}
        write_tree(head, first_tree(self.hub.seed, ident, size, **told))
        self.show_size(volume, head)

    def write(self, volume: str) -> str:
        """Have the app of a volume write one more file; return the checksum of all its files."""
        head = self._head(volume)
        old = read_tree(head)
        files = written_on(self.hub.seed, old)
        if files != old:
            write_tree(head, files)
            self.show_size(volume, head)
        return tree_checksum(files)

    def read(self, volume: str) -> dict[str, bytes]:
        """Return the files of a volume; raise ContentError or LookupError."""
        return read_tree(self._head(volume))

    def put(self, volume: str, files: dict[str, bytes]) -> str:
        """Replace the files of a volume; return their checksum."""
        head = self._head(volume)
        write_tree(head, files)
        self.show_size(volume, head)
        return tree_checksum(files)

    def view(self) -> dict[str, Any]:
        """Return for each volume with files: its claim, whether a pod has it, its writes, and the checksum."""
        found = {}
        for volume in self.hub.list(VOLUMES):
            name = name_of(volume)
            head = None if is_restoring(volume) else self.hub.head(name)
            if head is None or is_blank(head):
                continue
            files = read_tree(head)
            told = identity(files)
            known = status_of(volume).get("kubernetesStatus") or {}
            found[name] = {
                "namespace": known.get("namespace", ""), "claim": known.get("pvcName", ""),
                "instance": told.get("instance", ""), "writes": told.get("writes", 0), "files": len(files),
                "bytes": sum(len(data) for data in files.values()), "checksum": tree_checksum(files),
                "mounted": name in self.mounted(), "from_backup": spec_of(volume).get("fromBackup", ""),
            }  # fmt: skip
        return found

    def write_all(self) -> dict[str, Any]:
        """Have every running app write one more file; return the view."""
        for volume in sorted(self.mounted()):
            self.write(volume)
        return self.view()

    def mounted(self) -> set[str]:
        """Return the volumes that a running pod has mounted."""
        return {
            name_of(v) for v in self.hub.list(VOLUMES)
            if is_attached(v) and not is_restoring(v)
            and any(w["podStatus"] == "Running" for w in self._workloads(v))
        }  # fmt: skip

    def log(self, pod: Object, container: str) -> str:
        """Return what a container that runs sha256sum has written; "" for any other.

        Over files it is a line `sha256  ./path` for each, by path, or, when that is piped into sha256sum again, their
        number and the checksum of those lines. Over ranges `offset:length` of a bare device, which dd reads, it is the
        checksum of all of them.
        """
        spec = spec_of(pod)
        everything = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        chosen: Object = next((c for c in everything if c["name"] == container), {})
        given = [*(chosen.get("command") or ()), *(chosen.get("args") or ())]
        words = " ".join(given)
        if "sha256sum" not in words or status_of(pod).get("phase") not in ("Running", "Succeeded"):
            return ""
        handles = [h for claim in claim_names(pod) if (h := self._handle(claim, namespace_of(pod)))]
        if chosen.get("volumeDevices"):
            return "".join(f"{range_checksum(self._head(handle), given)}  -\n" for handle in handles)
        trees = [self.read(handle) for handle in handles]
        if words.count("sha256sum") == 1:
            return "".join(map(checksum_lines, trees))
        return "".join(f"{len(tree)}\n{tree_checksum(tree)}  -\n" for tree in trees)

    def _handle(self, claim: str, namespace: str) -> str:
        """Return the volume behind a claim, "" when it has none within reach."""
        found = self.hub.api.get("persistentvolumeclaims", claim, namespace) or {}
        pv = self.hub.api.get("persistentvolumes", spec_of(found).get("volumeName") or "") or {}
        handle = str((spec_of(pv).get("csi") or {}).get("volumeHandle", ""))
        return handle if handle and self.hub.head(handle) is not None else ""

    def show_size(self, volume: str, head: Path) -> None:
        """Note in the volume how many bytes it holds."""
        if self.hub.get(VOLUMES, volume) is not None:
            self.hub.status(VOLUMES, volume, {"actualSize": allocated(head)})

    def _workloads(self, volume: Object) -> list[dict[str, str]]:
        known = status_of(volume).get("kubernetesStatus") or {}
        return [] if known.get("lastPodRefAt") else known.get("workloadsStatus") or []

    def _head(self, volume: str) -> Path:
        head = self.hub.head(volume)
        if head is None:
            raise LookupError(f"volume {volume}: no good replica is within reach")
        return head
