"""`k3s server --cluster-reset`: begin anew with one member, with the data that is there or that of a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.twin.k3s import places
from labkit.twin.k3s.cluster import Cluster
from labkit.twin.k3s.data import OTHER_TOKEN, Content, read_snapshot, unseal
from labkit.twin.k3s.errors import Fatal
from labkit.twin.k3s.members import Member
from labkit.twin.k3s.node import node_address, node_name
from labkit.twin.k3s.settings import Settings
from labkit.twin.k3s.tokens import Token, read_token

if TYPE_CHECKING:
    from labkit.twin.k3s.host import Host

_DONE = ("Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and delete "
         "${datadir}/server/db on each peer etcd server and rejoin the nodes")  # fmt: skip
_BEFORE = ("Managed etcd cluster membership was previously reset, please remove the cluster-reset flag and start k3s "
           "normally. If you need to perform another cluster reset, you must first manually delete the file at "
           f"{places.RESET_FLAG}")  # fmt: skip
_PREFIX = "Error: preparing server: "


def reset_cluster(host: Host, settings: Settings) -> str:
    """Make a host's data that of a cluster with one member; return what k3s says at its end.

    Raises:
        Fatal: it is refused.
    """
    files = host.guest.files
    if host.run is not None:
        raise Fatal(f"listen tcp :{places.API_PORT}: bind: address already in use")
    if settings.one("server"):
        raise Fatal("cannot perform cluster-reset while server URL is set - remove server from configuration before "
                    "resetting")  # fmt: skip
    if files.exists(places.RESET_FLAG):
        raise Fatal(_BEFORE)
    path = settings.one("cluster-reset-restore-path")
    token = _token(host, settings)
    cluster = _restored(host, settings, path, token) if path else _reduced(host, settings, token)
    if path and files.exists(places.ETCD):
        files.move(places.ETCD, f"{places.ETCD}-old-{int(host.guest.now())}")
    member = Member(host.system.next_member(), node_name(host.guest, settings), "", voter=True)
    member.address = node_address(host.guest, settings)
    cluster.members.add(member)
    host.write_membership(cluster, member)
    host.write_pki(cluster.pki)
    full = Token(cluster.password, "server", cluster.pki.ca_hash).full
    files.put(places.TOKEN, full + "\n", mode=0o600)
    files.put(places.RESET_FLAG, "", mode=0o600)
    return _DONE


def _token(host: Host, settings: Settings) -> Token | None:
    text, files = settings.one("token"), host.guest.files
    if not text and files.exists(places.TOKEN):
        text = files.read(places.TOKEN).decode()
    return read_token(text) if text.strip() else None


def _restored(host: Host, settings: Settings, path: str, token: Token | None) -> Cluster:
    files = host.guest.files
    if settings.on("etcd-s3"):
        raise Fatal(f"{_PREFIX}snapshot {path} not found in S3")
    if not files.exists(path):
        raise Fatal(f"{_PREFIX}start managed database: etcd: snapshot path does not exist: {path}")
    if files.is_dir(path):
        raise Fatal(f"{_PREFIX}start managed database: etcd: snapshot path must be a file, not a directory: {path}")
    content = read_snapshot(files.read(path))
    if token is None:
        raise Fatal(f"{_PREFIX}failed to bootstrap cluster data: {OTHER_TOKEN}")
    try:
        pki = unseal(content["bootstrap"], token.password)
    except Fatal as exc:
        raise Fatal(f"{_PREFIX}failed to bootstrap cluster data: {exc}") from exc
    return host.system.new_cluster(pki, token.password, settings, content)


def _reduced(host: Host, settings: Settings, token: Token | None) -> Cluster:
    """Return a cluster with the data of this host's copy."""
    if host.member_file() is None:
        raise Fatal(f"{_PREFIX}start managed database: cannot perform cluster-reset: no etcd data in {places.ETCD}")
    old, _ = host.membership()
    if not old.etcd:
        raise Fatal("cannot perform cluster-reset: etcd datastore disabled")
    if token is not None and token.password != old.password:
        raise Fatal(f"{_PREFIX}failed to bootstrap cluster data: {OTHER_TOKEN}")
    content: Content = old.content()
    return host.system.new_cluster(old.pki, old.password, settings, content)
