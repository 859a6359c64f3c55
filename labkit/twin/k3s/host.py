"""k3s on one guest: its binary, its two units, and what it left on the disk."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

from labkit.errors import StepFailed
from labkit.twin.guests.guest import Guest
from labkit.twin.k3s import places
from labkit.twin.k3s.agent import Agent
from labkit.twin.k3s.cluster import Cluster
from labkit.twin.k3s.errors import Fatal
from labkit.twin.k3s.leaves import write_leaves
from labkit.twin.k3s.members import Member
from labkit.twin.k3s.pki import Pki
from labkit.twin.k3s.places import Role
from labkit.twin.k3s.server import Server, read_member
from labkit.twin.k3s.service import Service
from labkit.twin.k3s.settings import Settings, read_settings

if TYPE_CHECKING:
    from labkit.twin.k3s.system import K3s

_VERSION = re.compile(rb"v\d+\.\d+\.\d+(?:-rc\d+)?[+-]k3s\d+")
_TLS = {"server-ca.crt": "server_ca", "server-ca.key": "server_key",
        "client-ca.crt": "client_ca", "client-ca.key": "client_key"}  # fmt: skip


class Host:
    """k3s on one guest. `run` is the server or agent that runs now."""

    def __init__(self, system: K3s, guest: Guest) -> None:
        self.system = system
        self.guest = guest
        self.run: Server | Agent | None = None
        self.pods_gone = True
        """Whether its pods' containers have ended since its node last lived."""
        self._services: dict[Role, Service] = {
            "server": Service(guest, "k3s", "Lightweight Kubernetes", lambda service: self._run("server", service)),
            "agent": Service(guest, "k3s-agent", "Lightweight Kubernetes", lambda service: self._run("agent", service)),
        }
        guest.closers.append(self._power_lost)

    @property
    def version(self) -> str:
        """The version of the binary that is there; empty without one that can be run."""
        files = self.guest.files
        if not files.exists(places.BINARY) or not files.mode(files.locate(places.BINARY)) & 0o111:
            return ""
        found = _VERSION.search(files.read(places.BINARY))
        return found[0].decode() if found else ""

    @property
    def serves(self) -> bool:
        """Whether a server runs here that answers on its port."""
        return isinstance(self.run, Server) and self.run.cluster is not None and self.run in self.run.cluster.doors

    @property
    def cluster_now(self) -> Cluster:
        """The cluster of the server that runs here; raise Fatal when none answers."""
        if not isinstance(self.run, Server) or self.run.cluster is None:
            raise Fatal(f"{self.guest.address}: connection refused")
        return self.run.cluster

    def service(self, role: Role) -> Service:
        """Return the unit of a role."""
        return self._services[role]

    def follow_units(self) -> None:
        """Have systemd know the units whose files are there."""
        for role, name in places.UNITS.items():
            there = self.guest.files.exists(f"/etc/systemd/system/{name}.service")
            if there and self.guest.units.get(name) is None:
                self.guest.units.add(self._services[role].unit)
            elif not there:
                self.guest.units.remove(name)

    def command(self, role: Role) -> tuple[list[str], dict[str, str]]:
        """Return the arguments and the environment that the unit's files give."""
        name, files = places.UNITS[role], self.guest.files
        text = files.read(f"/etc/systemd/system/{name}.service").decode().replace("\\\n", " ")
        line = next((line for line in text.splitlines() if line.startswith("ExecStart=")), "ExecStart=")
        words = shlex.split(line.removeprefix("ExecStart="))[2:]
        path = f"/etc/systemd/system/{name}.service.env"
        environment = files.read(path).decode() if files.exists(path) else ""
        pairs = (row.partition("=") for row in environment.splitlines() if "=" in row)
        return words, {key: " ".join(shlex.split(value)) for key, _, value in pairs}

    def check_alive(self) -> None:
        """Raise Fatal when a fault wants k3s to end."""
        if self.system.world.faults.has("k3s-dies-after-install", self.guest.name):
            raise Fatal("kubelet exited: failed to run Kubelet: running with swap on is not supported")

    def settings(self, role: Role, *more: str) -> Settings:
        """Read all settings of the unit of a role."""
        there = self.guest.files.exists(f"/etc/systemd/system/{places.UNITS[role]}.service")
        words, environment = self.command(role) if there else ([], {})
        return read_settings(self.guest.files, [*words, *more], environment)

    def member_file(self) -> str | None:
        """Return the file that says which copy of which data is here; None when there is none."""
        return next((path for path in (places.MEMBER, places.SQLITE) if self.guest.files.exists(path)), None)

    def membership(self) -> tuple[Cluster, Member | None]:
        """Return the cluster whose data is here, and this copy's member; None when it was removed."""
        path = self.member_file()
        if path is None:
            raise Fatal("no datastore found")
        ident, member = read_member(self.guest.files.read(path))
        cluster = self.system.clusters.get(ident)
        if cluster is None:
            raise Fatal("failed to start etcd: snap: snapshot file doesn't exist")
        return cluster, cluster.members.of(member)

    def write_membership(self, cluster: Cluster, member: Member) -> None:
        """Leave a copy of the data here."""
        files, text = self.guest.files, json.dumps({"cluster": cluster.id, "member": member.id})
        if cluster.etcd:
            files.put(places.MEMBER, text, mode=0o600)
            files.put(f"{places.ETCD}/name", f"{member.node}-{member.id[:8]}", mode=0o600)
            if files.exists(places.SQLITE):
                files.move(places.SQLITE, f"{places.SQLITE}.migrated")
        else:
            files.put(places.SQLITE, text, mode=0o600)

    def disk_pki(self) -> Pki | None:
        """Return the CAs that a former server left here, if any."""
        files = self.guest.files
        if not all(files.exists(f"{places.TLS}/{name}") for name in (*_TLS, "made")):
            return None
        texts = {field: files.read(f"{places.TLS}/{name}").decode() for name, field in _TLS.items()}
        return Pki(**texts, made=float(files.read(f"{places.TLS}/made")))

    def write_pki(self, pki: Pki) -> None:
        """Write the CAs as servers keep them, and what agents keep of them."""
        files = self.guest.files
        for name, field in _TLS.items():
            files.put(f"{places.TLS}/{name}", getattr(pki, field), mode=0o600 if name.endswith(".key") else 0o644)
        files.put(f"{places.TLS}/made", str(pki.made), mode=0o600)
        for name, text in (("server-ca.crt", pki.server_ca), ("client-ca.crt", pki.client_ca)):
            files.put(f"{places.AGENT}/{name}", text)

    def write_kubeconfig(self, pki: Pki, mode: int) -> None:
        """Write the administrator's kubeconfig, with the certificate that it had if that is of these CAs."""
        files, mark = self.guest.files, f"{places.TLS}/client-admin.of"
        if not files.exists(places.KUBECONFIG) or not files.exists(mark) or files.read(mark).decode() != pki.ca_hash:
            files.put(places.KUBECONFIG, pki.kubeconfig(), mode=mode)
            files.put(mark, pki.ca_hash, mode=0o600)
        files.chmod(places.KUBECONFIG, mode)

    def age_certificates(self, days: float) -> None:
        """Have all certificates of this node last so many days, as if k3s had not been restarted for long."""
        run = self.run
        cluster = run.cluster if isinstance(run, Server) else run.node.cluster if run is not None and run.node else None
        if cluster is None:
            raise StepFailed(f"{self.guest.name}: expected k3s to run, got none")
        is_server = isinstance(run, Server)
        write_leaves(self.guest.files, cluster.pki, self.guest.hostname, server=is_server, etcd=cluster.etcd, days=days)
        if isinstance(run, Server):
            run.show_for(days)

    def kill_pods(self) -> None:
        """Let the containers of all pods end, as k3s-killall.sh does."""
        self.pods_gone = True

    async def _run(self, role: Role, service: Service) -> None:
        """Be the program of a unit."""
        version = self.version
        if not version:
            raise Fatal("k3s: cannot execute binary file: Exec format error")
        self.guest.files.check_room(places.DATA)
        settings = self.settings(role)
        service.log(f"Starting k3s {'agent ' if role == 'agent' else ''}{version}")
        if self.guest.listening.keys() & places.listening(role, self.guest.address, etcd=True).keys():
            taken = min(self.guest.listening.keys() & places.listening(role, "", etcd=True).keys(), key=_by_interest)
            raise Fatal(f"listen tcp :{taken}: bind: address already in use")
        kind = Server if role == "server" else Agent
        run = self.run = kind(self, service, settings, version)
        ports = places.listening(role, self.guest.address, etcd=True)
        self.guest.listening.update(ports)
        try:
            await run.run()
        finally:
            self.run = None
            for port in ports:
                self.guest.listening.pop(port, None)
            await run.end()

    async def _power_lost(self, _guest: Guest) -> None:
        for service in self._services.values():
            await service.kill()
        self.pods_gone = True


def _by_interest(port: int) -> tuple[bool, int]:
    return port != places.API_PORT, port
