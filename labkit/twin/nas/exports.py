"""What the NAS exports: folders of the twin by the NFS URL that leads to them, and the faults that hide them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from labkit.errors import LabError
from labkit.twin.clock import TwinClock
from labkit.twin.faults import Faults
from labkit.twin.kube.door import Clock


class NfsError(LabError):
    """Say why an export cannot be mounted, in the words of mount.nfs."""


class Exports:
    """Mount exports by URL.

    Args:
        folder: below it is a folder for each export, and an empty one.
        urls: the URLs that are exported.
        faults: of the twin: `nas-unreachable` and `nfs-empty:SECONDS`.
        clock: of the twin.
    """

    def __init__(self, folder: Path, urls: list[str], faults: Faults | None = None, clock: Clock | None = None) -> None:
        self._faults = faults or Faults()
        self._clock = clock or TwinClock(1.0)
        self._empty = folder / "empty"
        self._empty.mkdir(parents=True, exist_ok=True)
        self._ending: dict[str, asyncio.Task[None]] = {}
        self.places: dict[str, Path] = {}
        self._mounts: dict[str, Path] = {}
        for number, url in enumerate(urls):
            place = folder / "exports" / plain(url).partition("://")[2].replace(":", "").strip("/")
            place.mkdir(parents=True, exist_ok=True)
            self.places[plain(url)] = place
            self._mounts[plain(url)] = folder / f"mount-{number}"
        self._mount_all()
        self._faults.follow(self.follow)

    @property
    def reachable(self) -> bool:
        """Whether the NAS answers at all."""
        return not self._faults.has("nas-unreachable")

    def mount(self, url: str) -> Path:
        """Return the folder behind a URL; raise NfsError as a mount fails."""
        name = plain(url)
        server, _, path = name.removeprefix("nfs://").partition(":")
        prefix = f"cannot mount nfs {server}:{path}, options []: "
        if not self.reachable:
            raise NfsError(f"{prefix}mount failed: exit status 32\nOutput: mount.nfs4: Connection timed out")
        if name not in self.places:
            raise NfsError(
                f"{prefix}mount failed: exit status 32\nOutput: mount.nfs4: mounting {server}:{path} failed, "
                "reason given by server: No such file or directory"
            )
        return self._empty if self._faults.arguments("nfs-empty") else self.places[name]

    def view(self) -> dict[str, str]:
        """Return for each URL the folder where a person has it mounted; faults show there too."""
        return {url: str(path) for url, path in self._mounts.items()}

    def _mount_all(self) -> None:
        """Point the mounts at the exports, at nothing, or at an empty folder."""
        for url, mount in self._mounts.items():
            mount.unlink(missing_ok=True)
            if self.reachable:
                mount.symlink_to(self.mount(url))

    async def follow(self) -> None:
        """Bring the mounts in line with the faults; end `nfs-empty` by itself when its time is over."""
        self._mount_all()
        for (seconds,) in self._faults.arguments("nfs-empty"):
            text = f"nfs-empty:{seconds}"
            if text not in self._ending:
                self._ending[text] = asyncio.create_task(self._end(text, float(seconds)))

    async def _end(self, text: str, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._faults.clear(text)
        self._ending.pop(text, None)
        self._mount_all()

    async def stop(self) -> None:
        """Forget what was to end."""
        for task in list(self._ending.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def plain(url: str) -> str:
    """Return a target's URL without its query and the slash at its end."""
    return url.partition("?")[0].rstrip("/")
