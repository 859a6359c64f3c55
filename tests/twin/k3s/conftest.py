"""Guests with k3s in them, without Proxmox: commands in, files, journals and the API out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit.lab.loader import load_lab
from labkit.lab.models import Lab
from labkit.lab.vmconfig import render_vm_config
from labkit.twin.guests import Guest, Guests
from labkit.twin.guests.result import Result
from labkit.twin.k3s import places
from labkit.twin.k3s.cluster import Cluster
from labkit.twin.k3s.host import Host
from labkit.twin.k3s.system import K3s
from labkit.twin.kube.door import Object
from labkit.twin.options import Options
from labkit.twin.world import make_world

LAB = Path(__file__).parents[2] / "data" / "twin" / "k3s-lab.yaml"
SCALE = 0.003
TOKEN = "correct-horse"
SEED = "https://192.168.7.11:6443"


class Stage:
    """A lab of four servers and two agents whose guests are up; `k3s` is not installed."""

    def __init__(self, lab: Lab, state: Path, faults: tuple[str, ...]) -> None:
        self.lab = lab
        self.world = make_world(Options(lab_file=LAB, state=state, scale=SCALE, faults=faults), lab)
        self.guests = Guests(self.world)
        self.k3s = K3s(self.world, self.guests)

    async def switch_on(self) -> None:
        self.k3s.reserve()
        for number, machine in enumerate(self.lab.machines):
            config = {**render_vm_config(self.lab, machine, self.world.ssh_public_key), "name": machine.name}
            self.guests.power_on(100 + number, machine.name, config, at_once=True)
        await asyncio.gather(*(guest.cloud_init.finished.wait() for guest in self.guests))

    def guest(self, name: str) -> Guest:
        found = self.guests.named(name)
        assert found is not None
        return found

    def host(self, name: str) -> Host:
        return self.k3s.host(self.guest(name))

    @property
    def cluster(self) -> Cluster:
        found = self.k3s.cluster
        assert found is not None, "no cluster serves"
        return found

    async def run(self, name: str, command: str, *, user: str = "root") -> Result:
        return await self.guest(name).execute(command, user=user)

    async def ok(self, name: str, command: str) -> str:
        result = await self.run(name, command)
        assert result.status == 0, f"{command}: {result.status} {result.out!r} {result.err!r}\n{self.log(name)}"
        return result.out.decode()

    def configure(self, name: str, **settings: Any) -> None:
        given = {key.replace("_", "-"): value for key, value in settings.items()}
        text = yaml.safe_dump({"token": TOKEN, **given})
        self.guest(name).files.put(places.CONFIG, text, mode=0o600)

    async def install(self, name: str, role: str = "server", env: str = "", more: str = "") -> Result:
        """Fetch the installer and run it, as documentation says."""
        await self.ok(name, "curl -sfL https://get.k3s.io -o /root/install.sh")
        return await self.run(name, f"env {env} sh /root/install.sh {role} {more}".replace("env  ", "env "))

    async def found(self, name: str = "s1", **settings: Any) -> None:
        self.configure(name, cluster_init=True, **settings)
        assert (await self.install(name)).status == 0, self.log(name)
        await self.until(lambda: self.is_ready(name))

    async def join(self, name: str, role: str = "server", *, url: str = SEED, **settings: Any) -> None:
        self.configure(name, server=url, **settings)
        done = await self.install(name, role)
        assert done.status == 0, self.log(name)
        await self.until(lambda: self.is_ready(name))

    def log(self, name: str) -> str:
        lines = [*self.guest(name).units.journal("k3s"), *self.guest(name).units.journal("k3s-agent")]
        return "\n".join(text for _, text in lines)

    def node(self, name: str) -> Object | None:
        return self.cluster.api.get("nodes", name)

    def condition(self, name: str, kind: str = "Ready") -> str:
        found = self.node(name)
        conditions = found["status"]["conditions"] if found else []
        return next((str(one["status"]) for one in conditions if one["type"] == kind), "")

    def is_ready(self, name: str) -> bool:
        return self.condition(name) == "True" and self.condition(name, "EtcdIsVoter") in {"", "True"}

    async def until(self, check: Callable[[], Any], within: float = 10.0) -> Any:
        deadline = asyncio.get_running_loop().time() + within
        while not (found := check()):
            assert asyncio.get_running_loop().time() < deadline, "what the test waits for did not come"
            await asyncio.sleep(0.003)
        return found

    async def until_logged(self, name: str, text: str) -> None:
        try:
            await self.until(lambda: text in self.log(name))
        except AssertionError as exc:
            raise AssertionError(f"{text!r} is not in\n{self.log(name)}") from exc

    async def pause(self, seconds: float) -> None:
        await self.world.clock.sleep(seconds)


Play = Callable[..., None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run a coroutine function on a stage of its own."""

    def run(act: Callable[[Stage], Coroutine[Any, Any, None]], *faults: str) -> None:
        async def whole() -> None:
            stage = Stage(load_lab(LAB), tmp_path, faults)
            await stage.switch_on()
            try:
                await act(stage)
            finally:
                await stage.guests.stop()
                await stage.k3s.stop()

        asyncio.run(whole())

    return run
