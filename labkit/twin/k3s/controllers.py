"""What k3s' own controllers do: the end of nodes and of their etcd members, and the passwords of nodes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from labkit.twin.controllers import Controller
from labkit.twin.kube.door import Api, Clock, Object

NODE_FINALIZER = "wrangler.cattle.io/node"
ETCD_FINALIZER = "wrangler.cattle.io/managed-etcd-controller"
_OURS = (NODE_FINALIZER, ETCD_FINALIZER)
SYSTEM = "kube-system"


class NodeEnd(Controller):
    """Let a deleted Node go once its etcd member and its password are gone."""

    name = "managed-etcd-controller"
    watches = ("nodes",)

    def __init__(self, api: Api, clock: Clock, forget: Callable[[str], None]) -> None:
        super().__init__(api, clock)
        self._forget = forget

    def reconcile(self, key: tuple[str, str]) -> None:
        """Look at one node."""
        name = key[1]
        node = self.api.get("nodes", name)
        if node is None:
            forget_password(self.api, name)
        elif node["metadata"].get("deletionTimestamp"):
            self._forget(name)
            forget_password(self.api, name)
            kept = [text for text in node["metadata"].get("finalizers", []) if text not in _OURS]
            self.api.patch("nodes", name, {"metadata": {"finalizers": kept or None}})


def admits(api: Api, node: str, password: str) -> bool:
    """Tell whether a node of that name has shown this password before; the first one is remembered."""
    secret = api.get("secrets", _secret_name(node), SYSTEM)
    if secret is None:
        api.create("secrets", _secret(node, _digest(password)))
        return True
    return bool(secret.get("data", {}).get("hash") == _encode(_digest(password)))


def forget_password(api: Api, node: str) -> None:
    """Forget the password of a node that is gone."""
    api.delete("secrets", _secret_name(node), SYSTEM)


def _secret(node: str, digest: str) -> Object:
    metadata = {"name": _secret_name(node), "namespace": SYSTEM}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "immutable": True, "type": "Opaque",
            "data": {"hash": _encode(digest)}}  # fmt: skip


def _secret_name(node: str) -> str:
    return f"{node}.node-password.k3s"


def _digest(password: str) -> str:
    return "$1:" + hashlib.sha256(password.encode()).hexdigest()


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
