"""The server as a process of its own."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import httpx

from labkit.process import start_program


def test_it_serves_alone_and_ends_when_told(tmp_path: Path, until) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    started = start_program(
        [sys.executable, "-m", "labkit.twin.kube", "--port", str(port)],
        env={"PATH": os.environ["PATH"]},
        cwd=Path(__file__).parents[3],
        log=tmp_path / "log",
    )
    base = f"http://127.0.0.1:{port}"
    try:
        assert until(lambda: is_ready(base))
        names = [
            item["metadata"]["name"] for item in httpx.get(f"{base}/api/v1/namespaces", trust_env=False).json()["items"]
        ]
        assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
        account = f"{base}/api/v1/namespaces/default/serviceaccounts/default"
        assert until(lambda: httpx.get(account, trust_env=False).status_code == 200)
    finally:
        started.terminate()
    assert started.wait(10) == 0
    assert (tmp_path / "log").read_text() == ""


def is_ready(base: str) -> bool:
    try:
        return httpx.get(f"{base}/readyz", trust_env=False).text == "ok"
    except httpx.TransportError:
        return False
