"""A cluster in memory with Flux, and a Git host over SSH."""

from __future__ import annotations

import asyncio
import base64
import gc
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labkit.process import run_program
from labkit.secrets import sops_program
from labkit.twin import flux
from labkit.twin.clock import TwinClock
from labkit.twin.controllers import Kubelets, LivingNode, start
from labkit.twin.faults import Faults
from labkit.twin.flux.surroundings import Surroundings
from labkit.twin.git import Bare, GitServer
from labkit.twin.git.client import git, known_hosts_line, parse_url
from labkit.twin.kube import crd_files
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.door import Object
from labkit.twin.kube.local import LocalApi
from labkit.twin.secrets import ssh_private_key, ssh_public_key

SCALE = 0.004
URL = "ssh://git@git.lab/somebody/homelab.git"
KEY, HOST = ssh_private_key(b"k" * 32), ssh_private_key(b"h" * 32)
SOURCE = "gitrepositories.source.toolkit.fluxcd.io"
KUSTOMIZATION = "kustomizations.kustomize.toolkit.fluxcd.io"
RELEASE = "helmreleases.helm.toolkit.fluxcd.io"


@dataclass
class Lab:
    """What a test holds: the API, the Git host, the surroundings of Flux."""

    api: LocalApi
    clock: TwinClock
    around: Surroundings
    server: GitServer
    bare: Bare
    known_hosts: str

    async def push(self, files: Mapping[str, str | None], message: str = "Change") -> str:
        changes = {path: None if text is None else text.encode() for path, text in files.items()}
        return await asyncio.to_thread(self.bare.commit, changes, message)

    def apply(self, *objects: Object) -> None:
        for one in objects:
            self.api.apply(one, manager="tests", force=True)

    def get(self, resource: str, name: str, namespace: str = "flux-system") -> Object | None:
        return self.api.get(resource, name, namespace)

    def ready(self, resource: str, name: str, namespace: str = "flux-system") -> tuple[str, str, str]:
        return condition(self.get(resource, name, namespace) or {}, "Ready")

    async def until(self, check: Callable[[], Any], within: float = 20.0) -> Any:
        deadline = asyncio.get_running_loop().time() + within
        while not (found := check()):
            assert asyncio.get_running_loop().time() < deadline, self.story()
            await asyncio.sleep(0.005)
        return found

    async def ready_at(self, commit: str, *names: str) -> None:
        """Wait until Kustomizations have applied a commit."""
        for name in names:
            await self.until(
                lambda name=name: (
                    self.ready(KUSTOMIZATION, name)[:2] == ("True", "ReconciliationSucceeded")
                    and str((self.get(KUSTOMIZATION, name) or {})["status"]["lastAppliedRevision"]).endswith(commit)
                )
            )

    async def fails(self, resource: str, name: str, reason: str, said: str = "", namespace: str = "flux-system") -> str:
        """Wait until an object is not Ready for a reason, with these words, and return all of them."""
        seen = await self.until(
            lambda: (found := self.ready(resource, name, namespace))[:2] == ("False", reason)
            and said in found[2] and found[2]
        )  # fmt: skip
        return str(seen)

    def request(self, resource: str, name: str, value: str, namespace: str = "flux-system") -> None:
        note = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": value}}}
        self.api.patch(resource, name, note, namespace)

    def secret(self, **changes: str) -> Object:
        texts = {"identity": KEY, "identity.pub": ssh_public_key(KEY), "known_hosts": self.known_hosts, **changes}
        return secret("flux-system", texts)

    def story(self) -> str:
        lines = []
        for resource in (SOURCE, KUSTOMIZATION, RELEASE, "pods", "persistentvolumeclaims"):
            for one in self.api.list(resource):
                about, state = one["metadata"], one.get("status", {})
                shown = condition(one, "Ready") if resource != "persistentvolumeclaims" else state.get("phase")
                lines.append(f"{one['kind']} {about.get('namespace')}/{about['name']}: {shown}")
        return "\n".join(["what the test waits for did not come", *lines])


def condition(obj: Object, kind: str) -> tuple[str, str, str]:
    found = [one for one in obj.get("status", {}).get("conditions") or [] if one["type"] == kind]
    return (found[0]["status"], found[0].get("reason", ""), found[0].get("message", "")) if found else ("", "", "")


def secret(name: str, texts: Mapping[str, str], namespace: str = "flux-system") -> Object:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    return {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "type": "Opaque",
        "data": data,
    }  # fmt: skip


def source(**spec: Any) -> Object:
    body = {"url": URL, "interval": "5s", "ref": {"branch": "main"}, "secretRef": {"name": "flux-system"}, **spec}
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "flux-system", "namespace": "flux-system"}, "spec": body,
    }  # fmt: skip


def kustomization(name: str, path: str, **spec: Any) -> Object:
    body = {"interval": "10m", "retryInterval": "10s", "timeout": "1m", "path": path, "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": "flux-system"}, **spec}  # fmt: skip
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": name, "namespace": "flux-system"}, "spec": body,
    }  # fmt: skip


def controller(name: str) -> Object:
    labels = {"app": name}
    spec = {"containers": [{"name": "manager", "image": f"ghcr.io/fluxcd/{name}:v1"}]}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "flux-system"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }  # fmt: skip


def config_map(name: str, **data: str) -> str:
    lines = "".join(f"  {key}: {value!r}\n" for key, value in data.items())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: default\ndata:\n{lines}"


def encrypt(text: str, recipient: str, kind: str) -> str:
    """Encrypt with the real sops; of YAML only what Secrets hide."""
    only = ["--encrypted-regex", "^(data|stringData)$"] if kind == "yaml" else []
    words = [sops_program(), "encrypt", "--age", recipient, *only, "--input-type", kind, "--output-type", kind]
    return run_program([*words, "/dev/stdin"], timeout=60, stdin=text.encode()).text


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    @asynccontextmanager
    async def running(
        files: Mapping[str, str], *, scale: float = SCALE, more: Callable[[Lab], Any] | None = None
    ) -> AsyncIterator[Lab]:
        """Run a cluster of one node with Flux over a repository with these files."""
        folder = tmp_path / "served.git"
        git(["init", "--quiet", "--bare", "--initial-branch=main", folder])
        bare = Bare(folder, "main")
        bare.commit({path: text.encode() for path, text in files.items()}, "Begin")
        server = GitServer(
            folder, "/somebody/homelab.git", keys=[ssh_public_key(KEY)], host_key=HOST, log=tmp_path / "git.log"
        )
        clock = TwinClock(scale)
        api = LocalApi(new_core(clock))
        crd_files.install(api.core, "flux")
        remote = parse_url(URL)
        assert remote is not None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await server.start(listener)
            port = listener.getsockname()[1]
            around = Surroundings(
                tmp_path / "flux", lambda host, _port: ("127.0.0.1", port) if host == "git.lab" else None, Faults()
            )
            made = Lab(api, clock, around, server, bare, known_hosts_line(remote, server.public_host_key))
            kubelets = Kubelets(api, clock)
            extra = more(made) if more else {}
            own = [*flux.controllers(api, clock, around), *extra.pop("more", [])]
            tasks = start(api, clock, scheduler=True, kubelets=kubelets, more=own, **extra)
            nodes = [LivingNode(kubelets, f"n{n}", f"192.168.5.2{n}", "v1.33.4+k3s1") for n in (1, 2)]
            for node in nodes:
                node.start()
            for name in ("flux-system", "default"):
                if api.get("namespaces", name) is None:
                    api.create("namespaces", {"metadata": {"name": name}})
            for name in ("source", "kustomize", "helm", "notification"):
                made.apply(controller(f"{name}-controller"))
            try:
                yield made
            finally:
                for node in nodes:
                    node.stop()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await server.stop()

    yield running
    gc.collect()  # coroutines that asyncssh left behind must not be finalized while Python parses a module
