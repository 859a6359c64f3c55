"""curl in a guest: the k3s installer, and whatever answers by HTTPS on the network of the twin."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import aiohttp

from labkit.twin.guests.commands.registry import Run, command
from labkit.twin.guests.result import Result
from labkit.twin.k3s.script import INSTALLER, INSTALLER_URL

_WITH_VALUE = ("-o", "--output", "--max-time", "-m", "--connect-timeout", "--retry", "-u", "--user", "-H", "--header",
               "-w", "--write-out", "--cacert", "-X", "--request", "--retry-delay")  # fmt: skip
_REFUSED, _TIMED_OUT, _NO_HOST, _HTTP_ERROR, _BAD_CERTIFICATE = 7, 28, 6, 22, 60
_LONGEST = 120.0


@command("curl")
async def _curl(run: Run) -> Result:
    url = next(iter(run.operands(*_WITH_VALUE)), "")
    target = run.value("-o", "--output")
    if not target:
        bundled = [n for n, w in enumerate(run.args[:-1]) if w.endswith("o") and w[:1] == "-" and w[:2] != "--"]
        target = run.args[bundled[0] + 1] if bundled else ""
        url = next((word for word in run.args if "://" in word), url)
    status, code, body = await _get(run, url)
    silent = run.has("-s", "--silent") and not run.has("-S", "--show-error")
    if status:
        return Result(status, b"", b"" if silent else f"curl: ({status}) {_TEXTS[status]}: {url}\n".encode())
    if code >= 400 and run.has("-f", "--fail"):
        text = f"curl: ({_HTTP_ERROR}) The requested URL returned error: {code}\n"
        return Result(_HTTP_ERROR, b"", b"" if silent else text.encode())
    told = run.value("-w", "--write-out").replace("%{http_code}", str(code)).replace("\\n", "\n").encode()
    if target == "/dev/null":
        return Result(0, told)
    if target:
        run.guest.files.write(run.path(target), body, run.user)
        return Result(0, told)
    return Result(0, body + told)


_TEXTS = {_REFUSED: "Failed to connect", _TIMED_OUT: "Operation timed out", _NO_HOST: "Could not resolve host",
          _BAD_CERTIFICATE: "SSL certificate problem: unable to get local issuer certificate"}  # fmt: skip


async def _get(run: Run, url: str) -> tuple[int, int, bytes]:
    """Return curl's exit status, the HTTP status and the body."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if url.rstrip("/") == INSTALLER_URL:
        return 0, 200, INSTALLER.encode()
    host = run.guest.address if parts.hostname in {"127.0.0.1", "localhost"} else parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _NO_HOST, 0, b""
    if parts.scheme == "https" and not run.has("-k", "--insecure"):
        return _BAD_CERTIFICATE, 0, b""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    there = run.guest.world.endpoints.port_of(f"{host}:{port}")
    if there is None:
        return _REFUSED, 0, b""
    return await _ask(run, f"{parts.scheme}://127.0.0.1:{there}{parts.path or '/'}")


async def _ask(run: Run, url: str) -> tuple[int, int, bytes]:
    user, _, password = run.value("-u", "--user").partition(":")
    limit = float(run.value("--max-time", "-m", default=str(_LONGEST))) * run.guest.world.clock.scale
    timeout = aiohttp.ClientTimeout(total=max(limit, 1.0))
    auth = aiohttp.BasicAuth(user, password) if user else None
    try:
        async with aiohttp.ClientSession(timeout=timeout, auth=auth) as session, session.get(url, ssl=False) as answer:
            return 0, answer.status, await answer.read()
    except TimeoutError:
        return _TIMED_OUT, 0, b""
    except (aiohttp.ClientError, OSError):
        return _REFUSED, 0, b""
