"""Relays that hold back every answer: `python -m bench.relay CONNECT_FILE TARGET_FILE SECONDS`, until its input ends.

One stands before each address of a twin's connect file; the target file leads to them. It is a process of its own, so
that it takes no part of the time of whoever is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Listen before every address, say where, and pass bytes until the input ends."""
    source, target, delay = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    known: dict[str, str] = json.loads(source.read_text())
    loop = asyncio.new_event_loop()
    ports = loop.run_until_complete(_listen_all(known, delay))
    whole = target.with_suffix(".new")
    whole.write_text(json.dumps(ports))
    whole.replace(target)
    loop.run_until_complete(loop.run_in_executor(None, sys.stdin.read))
    os._exit(0)  # connections that are still open are nobody's any more


async def _listen_all(known: dict[str, str], delay: float) -> dict[str, str]:
    ports = {address: await _listen(address, delay) for address in sorted(set(known.values()))}
    return {name: ports[address] for name, address in known.items()}


async def _listen(address: str, delay: float) -> str:
    host, _, port = address.rpartition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        with contextlib.suppress(OSError):
            await asyncio.gather(_pass(reader, back, 0.0), _pass(there, writer, delay))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Pass bytes on, each piece that long after it came; pieces do not wait for each other."""
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def take() -> None:
        data = b"."
        while data:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            waiting.put_nowait((loop.time() + delay, data))

    async def deliver() -> None:
        while True:
            due, data = await waiting.get()
            if (left := due - loop.time()) > 0:
                await asyncio.sleep(left)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    await asyncio.gather(take(), deliver())


if __name__ == "__main__":
    main()
