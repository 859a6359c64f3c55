"""GitOps in the whole twin: the lab's repository at its Git host, Flux and what it installs in every cluster."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyrage

from labkit.errors import InputError, LabError, Mistake, StepFailed
from labkit.facts.kept import KEPT
from labkit.twin import manifests
from labkit.twin.charts.certificates import kept_copies
from labkit.twin.charts.issuing import Issued, Issuer
from labkit.twin.charts.programs import programs
from labkit.twin.controllers import Controller
from labkit.twin.controllers.objects import condition, name_of, namespace_of, spec_of
from labkit.twin.faults import ActiveFault
from labkit.twin.flux import controllers
from labkit.twin.flux.applying import Applier, ApplyFailed, ordered
from labkit.twin.flux.base import KUSTOMIZATIONS, RELEASES
from labkit.twin.flux.build import kustomize
from labkit.twin.flux.faulty import (
    break_kustomization,
    charts,
    encrypt_anew,
    encrypt_for,
    encrypted,
    kustomizations,
    unreadable,
)
from labkit.twin.flux.surroundings import Surroundings
from labkit.twin.git import Bare, GitServer, Person, serve_copy
from labkit.twin.git.client import known_hosts_line, parse_url
from labkit.twin.ingress import Ingress
from labkit.twin.k3s.cluster import Cluster
from labkit.twin.k3s.system import K3s
from labkit.twin.kube.door import Object
from labkit.twin.kube.local import LocalApi
from labkit.twin.repository import example_files, lab_values, materialise
from labkit.twin.secrets import ssh_private_key, ssh_public_key
from labkit.twin.state import write_whole
from labkit.twin.targets import unknown_target
from labkit.twin.world import World

SYSTEM = "git"
_PINNED = "git_known_hosts"
"""The file that labkit's side reads the host's key from, in its state folder."""
_PORTS = (80, 443)
_SPACE = "flux-system"
WITH_REPOSITORY = frozenset({"flux", "disaster", "running", "ailing"})
"""The scenarios that begin with the repository, so that it is made while the rest comes up."""
_READY_SECONDS, _READY_TWIN_SECONDS = 45.0, 300.0
_IN_GIT = {"kustomization-broken": ("a Kustomization", kustomizations), "chart-fails": ("a chart or release", charts)}
"""Faults of what stands in the repository, and how to find it there."""
_log = logging.getLogger(__name__)


class GitOps:
    """Everything of Git and Flux in one twin.

    Args:
        world: what the parts share.
        k3s: its clusters get the controllers.
        repository: a path or URL, whose copy is served in place of the example; None for the example.
        branch: the branch of that repository; its current one when empty.
        pinned_volumes: make the volumes that claims are pinned to; False when they have to be restored.

    Attributes:
        pinned: whether clusters that come about from now on get the volumes that claims are pinned to.
        unreadable: the files of the repository that the lab's age key does not open.
        ingress: the Traefik of each cluster, by the cluster's id.
    """

    def __init__(
        self, world: World, k3s: K3s, *, repository: str | None = None, branch: str = "", pinned_volumes: bool = True
    ) -> None:
        self.world = world
        self.unreadable: list[str] = []
        self.ingress: dict[str, Ingress] = {}
        self._source, self._branch = repository, branch
        self.pinned = pinned_volumes
        self._folder = world.options.state / "gitops"
        self._folder.mkdir(exist_ok=True)
        self._issuer = Issuer(self._folder / "ca.pem", f"{world.lab.name} (twin) R3")
        lab = world.lab
        self._remote = parse_url(lab.git.url)
        self._bare = Bare(self._folder / "served.git", lab.git.branch)
        self._person = Person(self._bare)
        self._made: asyncio.Task[None] | None = None
        self._server: GitServer | None = None
        k3s.more.append(self._controllers)
        world.faults.follow(self.settle)
        world.targets.further.append(self._check_target)
        world.trust[f"{lab.ingress}:443"] = self._issuer.file

    @property
    def bare(self) -> Bare:
        """The repository that is served."""
        return self._bare

    @property
    def address(self) -> str:
        """Where the Git host is on the LAN, "" when the lab's repository is not reached over SSH."""
        return f"{self._remote.host}:{self._remote.port}" if self._remote else ""

    def reserve(self) -> None:
        """Hold the addresses of the Git host and of the ingress."""
        ingress = [f"{self.world.lab.ingress}:{port}" for port in _PORTS]
        self.world.endpoints.reserve(*ingress, *([self.address] if self.address else []))

    async def start(self) -> None:
        """Serve the repository; the example is only made when somebody first asks for it.

        Raises:
            InputError: a repository was given and cannot be served.
        """
        if self._remote is None:
            return
        key = ssh_private_key(self.world.seed.bytes("git host key"))
        deploy = ssh_public_key(self.world.secrets[self.world.lab.git.deploy_key])
        self._server = GitServer(self._bare.folder, self._remote.path, keys=[deploy], host_key=key,
                                 log=self._folder / "git.log")  # fmt: skip
        self._server.before_use = self.prepare
        self._server.before_push = self._before_push
        self._server.on_use = partial(self.world.counters.request, SYSTEM)
        place = self.world.options.state / "labkit"
        place.mkdir(exist_ok=True, mode=0o700)
        write_whole(place / _PINNED, known_hosts_line(self._remote, self._server.public_host_key))
        if self._source:
            await self.prepare()
        elif self.world.options.scenario in WITH_REPOSITORY:
            self._made = asyncio.create_task(self._make())  # while the cluster comes up
        for fault in self.world.faults:
            self._check_target(fault)
        await self.settle()

    def issue(self, hosts: Sequence[str], days: float) -> Issued:
        """Sign a certificate for some hosts, by the authority that the lab's issuer stands for."""
        return self._issuer.issue(hosts, days)

    async def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            await self._server.stop()
        if self._made is not None:
            self._made.cancel()

    async def prepare(self) -> None:
        """Have the repository there."""
        if self._made is None:
            self._made = asyncio.create_task(self._make())
        await asyncio.shield(self._made)

    async def settle(self) -> None:
        """Bring the Git host and its repository in line with the faults."""
        server, faults = self._server, self.world.faults
        if server is None:
            return
        if faults.has("git-unreachable"):
            await server.stop()
        elif not server.listens:
            await server.start(self.world.endpoints.listen(self.address))
        if self._made is not None and self._made.done():
            await asyncio.to_thread(self._break)

    def _check_target(self, fault: ActiveFault) -> None:
        """Refuse a fault of a Kustomization or chart that the repository does not have."""
        name = fault.fault.name
        known = {
            "kustomization-broken": ("a Kustomization", kustomizations),
            "chart-fails": ("a chart or release", charts),
        }
        if name in known and self._remote is not None:
            what, names = known[name]
            made = self._made is not None and self._made.done()
            there = names(self._bare.files() if made else example_files())
            if fault.arguments[0] not in there:
                raise unknown_target(name, f"{what} of the repository", there, fault.arguments[0])

    def _break(self) -> None:
        faults = self.world.faults
        wanted = {f"kustomization-broken:{name}": partial(break_kustomization, name=name)
                  for (name, *_) in faults.arguments("kustomization-broken")}  # fmt: skip
        changes: dict[str, Any] = dict(wanted)
        if faults.has("wrong-age-key"):
            changes["wrong-age-key"] = partial(encrypt_anew, age_key=self._age_key)
        self._person.follow(changes)

    async def _before_push(self) -> None:
        self.world.counters.write(SYSTEM)
        if self.world.faults.strike("git-branch-moves"):
            await asyncio.to_thread(self._person.note)

    @property
    def _age_key(self) -> str:
        return self.world.secrets[self.world.lab.git.age_key]

    async def _make(self) -> None:
        if self._source:
            await asyncio.to_thread(self._copy, self._source)
        else:
            await asyncio.to_thread(self._example)
        await asyncio.to_thread(self._break)

    def _example(self) -> None:
        world, lines = self.world, self._age_key.splitlines()
        key = next(line.strip() for line in lines if line.startswith("AGE-SECRET-KEY-"))
        recipient = str(pyrage.x25519.Identity.from_str(key).to_public())
        folder = self._folder / "example"
        materialise(folder, age_recipient=recipient, values=lab_values(world.lab), seed=world.seed.bytes("repository"))
        serve_copy(str(folder), self._bare.folder, self._bare.branch)

    def _copy(self, source: str) -> None:
        try:
            serve_copy(source, self._bare.folder, self._bare.branch, wanted=self._branch)
        except StepFailed as exc:
            wanted = f"a Git repository with a branch {self._branch}" if self._branch else "a Git repository"
            raise InputError([Mistake("--repo", 0, 0, "", wanted, f"{source}: {exc.message}")]) from exc
        files = self._bare.files()
        self.unreadable = unreadable(files, self._age_key)
        if self.unreadable:
            _log.warning("the twin's age key opens none of: %s", ", ".join(self.unreadable))
        if self.world.options.age_key and self.unreadable and self.unreadable == encrypted(files):
            hint = "it opens no file of the repository: give the one of its .sops.yaml"
            raise InputError([Mistake("--age-key", 0, 0, self.unreadable[0], "a key that opens it", "another", hint)])

    def keep_certificates(self, objects: Sequence[Object]) -> None:
        """Have the certificates of a lab that ran in its repository, encrypted, as its owner has kept them."""
        secrets = kept_copies(objects, self._issuer)
        if secrets:
            text = "---\n".join(manifests.dump(one) for one in secrets).encode()
            key = next(line.strip() for line in self._age_key.splitlines() if line.startswith("AGE-SECRET-KEY-"))
            recipient = str(pyrage.x25519.Identity.from_str(key).to_public())
            self._bare.commit({KEPT: encrypt_for(recipient, text, "^(data|stringData)$")}, "Keep certificates")

    def _controllers(self, cluster: Cluster) -> Sequence[Controller]:
        """Return the controllers of one cluster: Flux, the programs of its charts, Traefik."""
        world, folder = self.world, self._folder / cluster.id
        around = Surroundings(folder, self._route, world.faults)
        api, clock = cluster.api, world.clock
        tls = world.authority.issue("backends", ["localhost"]).server_context()
        ingress = self.ingress[cluster.id] = Ingress(api, clock, folder / "traefik", self._listen, tls)
        played = programs(api, clock, self._issuer, pinned_volumes=self.pinned)
        return [*controllers(api, clock, around), *played, *ingress.controllers]

    def _route(self, host: str, port: int) -> tuple[str, int] | None:
        name = f"{host}:{port}"
        return ("127.0.0.1", self.world.endpoints.port(name)) if name == self.address else None

    def _listen(self, name: str) -> int:
        self.world.endpoints.reserve(name)
        return self.world.endpoints.port(name)

    async def bring_up(self, api: LocalApi) -> None:
        """Bootstrap Flux as the runbook does, and wait until everything is Ready: the scenario `flux`.

        Raises:
            StepFailed: it does not get there; names what is not Ready.
        """
        await self.prepare()
        objects = await asyncio.to_thread(self._components)
        applier = Applier(api, "flux")
        try:
            await applier.apply([one for one in objects if ".toolkit.fluxcd.io/" not in one["apiVersion"]])
            for secret in self._secrets():
                api.apply(secret, manager="labkit", force=True)
            await applier.apply(ordered(objects))
        except ApplyFailed as exc:
            raise StepFailed(f"scenario flux: {exc}") from exc
        limit = max(_READY_SECONDS, _READY_TWIN_SECONDS * self.world.clock.scale)
        end = asyncio.get_running_loop().time() + limit
        while left := unfinished(api):
            if asyncio.get_running_loop().time() > end:
                raise StepFailed("scenario flux: expected everything Ready, got:\n" + "\n".join(left))
            await asyncio.sleep(0.02)

    async def check_out(self) -> Path:
        """Return a folder with the files of the repository, made when it is not there yet."""
        await self.prepare()
        return await asyncio.to_thread(self._tree)

    def _tree(self) -> Path:
        folder = self._folder / "bootstrap"
        folder.mkdir(exist_ok=True)
        self._bare.check_out(self._bare.head(), folder)
        return folder

    def _components(self) -> list[Object]:
        path = self.world.lab.git.path.removeprefix("./").strip("/")
        place = self._tree() / path / _SPACE
        if not place.is_dir():
            raise StepFailed(f"scenario flux: expected {path}/{_SPACE} in the repository, as bootstrap leaves it")
        return manifests.load_all(kustomize(place))

    def _secrets(self) -> list[Object]:
        remote, server = self._remote, self._server
        if remote is None or server is None:
            raise LabError("scenario flux: expected a repository over SSH")
        private = self.world.secrets[self.world.lab.git.deploy_key]
        deploy = {"identity": private, "identity.pub": ssh_public_key(private) + "\n",
                  "known_hosts": known_hosts_line(remote, server.public_host_key)}  # fmt: skip
        return [_secret(_SPACE, deploy), _secret("sops-age", {"age.agekey": self._age_key})]


def unfinished(api: LocalApi) -> list[str]:
    """Return the Kustomizations and HelmReleases that are not Ready, and what they say."""
    found = [one for resource in (KUSTOMIZATIONS, RELEASES) for one in api.list(resource)]
    names = {name_of(one) for one in found}
    lines = [] if _SPACE in names and len(found) > 1 else ["Kustomizations of the repository: none yet"]
    for one in found:
        ready: Mapping[str, Any] = condition(one, "Ready") or {}
        if ready.get("status") != "True" and not spec_of(one).get("suspend"):
            lines.append(f"{one['kind']} {namespace_of(one)}/{name_of(one)}: {ready.get('message', 'not seen yet')}")
    return lines


def _secret(name: str, texts: Mapping[str, str]) -> Object:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
            "metadata": {"name": name, "namespace": _SPACE}}  # fmt: skip
