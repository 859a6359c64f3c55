"""fakepve as its own process: started first of all, since it takes a moment to come up."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.process import start_program
from labkit.twin import launch
from labkit.twin.certificates import Authority
from labkit.twin.state import write_json

USER = "root@pam"
_READY = "fakepve listening on "


class Daemon:
    """The process. It ends with this one, however this one ends.

    Its own time scale is 0, so that what it is asked for has happened when it answers: all durations are the
    proxy's, which also holds the locks for that long.
    """

    def __init__(self, folder: Path, authority: Authority, guests: Sequence[Mapping[str, Any]]) -> None:
        self.password = secrets.token_hex(16)
        self.ca = authority.ca
        self._log = folder / "fakepve.log"
        self._log.unlink(missing_ok=True)
        cert = authority.issue("fakepve", ["127.0.0.1"])
        write_json(folder / "fakepve.json", {"guests": guests})
        words = [sys.executable, "-I", launch.__file__, os.getpid(), sys.executable, "-m", "fakepve"]
        words += [folder / "fakepve.json", "--host", "127.0.0.1", "--port", 0, "--time-scale", 0]
        words += ["--cert", cert.cert, "--key", cert.key]
        own = {"PVE_USER": USER, "PVE_PASS": self.password, "PYTHONUNBUFFERED": "1"}
        argv = [str(word) for word in words]
        self._process: subprocess.Popen[bytes] = start_program(argv, env={**os.environ, **own}, log=self._log)

    def said(self) -> str:
        """Return what it wrote so far."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def url(self) -> str | None:
        """Return the URL of its API once it listens."""
        text = self.said()
        return text.split(_READY, 1)[1].split()[0] + "/api2/json" if _READY in text else None

    def has_ended(self) -> bool:
        """Tell whether the process is gone."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
