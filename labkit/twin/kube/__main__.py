"""Serve an empty API alone: `python -m labkit.twin.kube --port PORT`."""

from __future__ import annotations

import argparse
import asyncio
import signal

from labkit.twin.controllers import start
from labkit.twin.kube.server import KubeServer


async def serve(host: str, port: int) -> None:
    """Serve with the controllers until the process is told to end."""
    server = KubeServer()
    await server.start(host, port)
    tasks = start(server.door, server.core.clock)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.stop()


def main() -> None:
    """Read the command line and serve."""
    options = argparse.ArgumentParser(prog="python -m labkit.twin.kube", description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--host", default="127.0.0.1")
    chosen = options.parse_args()
    asyncio.run(serve(chosen.host, chosen.port))


if __name__ == "__main__":
    main()
