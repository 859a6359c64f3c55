"""The certificates that k3s gives to its own parts on every node: a year each, renewed at a start when it is time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509

from labkit.twin.k3s import places

if TYPE_CHECKING:
    from labkit.twin.guests.files import Files
    from labkit.twin.k3s.pki import Pki

_RENEWED_BEFORE = timedelta(days=120)
_DAYS = 365.0
_MASTERS, _NODES = "system:masters", "system:nodes"
_SERVER = {
    "client-admin": ("system:admin", _MASTERS), "client-auth-proxy": ("system:auth-proxy", ""),
    "client-controller": ("system:kube-controller-manager", ""),
    "client-k3s-cloud-controller": ("k3s-cloud-controller-manager", ""),
    "client-k3s-controller": ("system:k3s-controller", ""), "client-kube-apiserver": ("system:apiserver", _MASTERS),
    "client-kube-proxy": ("system:kube-proxy", ""), "client-scheduler": ("system:kube-scheduler", ""),
    "client-supervisor": ("system:k3s-supervisor", _MASTERS),
    "kube-controller-manager/kube-controller-manager": ("kube-controller-manager", ""),
    "kube-scheduler/kube-scheduler": ("kube-scheduler", ""), "serving-kube-apiserver": ("kube-apiserver", ""),
}  # fmt: skip
_ETCD = {
    "etcd/client": ("etcd-client", ""), "etcd/peer-server-client": ("etcd-peer", ""),
    "etcd/server-client": ("etcd-server", ""),
}  # fmt: skip
_AGENT = {
    "client-k3s-controller": ("system:k3s-controller", ""), "client-kube-proxy": ("system:kube-proxy", ""),
    "client-kubelet": ("system:node:{name}", _NODES), "serving-kubelet": ("{name}", ""),
}  # fmt: skip


def write_leaves(files: Files, pki: Pki, name: str, *, server: bool, etcd: bool, days: float | None = None) -> None:
    """Write the certificates of a node: those that are missing, of other CAs or about to end; all that last `days`."""
    wanted = {f"{places.AGENT}/{file}": who for file, who in _AGENT.items()}
    if server:
        wanted |= {f"{places.TLS}/{file}": who for file, who in (_SERVER | (_ETCD if etcd else {})).items()}
    for path, (common, group) in wanted.items():
        if days is None and _lasts(files, f"{path}.crt", pki):
            continue
        serving = "serving" in path or "/etcd/" in path or (group == "" and "/kube-" in path)
        cert, key = pki.leaf(common.format(name=name), group, serving=serving, days=_DAYS if days is None else days)
        files.put(f"{path}.crt", cert)
        files.put(f"{path}.key", key, mode=0o600)


def _lasts(files: Files, path: str, pki: Pki) -> bool:
    """Tell whether a certificate is there, of these CAs, and good for months."""
    if not files.exists(path):
        return False
    found = x509.load_pem_x509_certificate(files.read(path))
    issuers = {x509.load_pem_x509_certificate(text.encode()).subject for text in (pki.server_ca, pki.client_ca)}
    return found.issuer in issuers and found.not_valid_after_utc - datetime.now(UTC) > _RENEWED_BEFORE
