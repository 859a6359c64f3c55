"""Authelia's stand-in: forward-auth by the configuration in the cluster, and a login by its users file."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import yaml
from aiohttp import web

from labkit.twin import manifests
from labkit.twin.ingress.access import Asked, Configuration, Person, read_configuration

_AUTHZ = "/api/authz/forward-auth"
_PORTAL = '<!doctype html><title>Login - Authelia</title><div id="root"></div>'


class Authelia:
    """Answer what Traefik and browsers ask of Authelia.

    Args:
        configuration: gives the text of configuration.yml as it is now.
        users: gives the text of the users file as it is now.
    """

    def __init__(self, configuration: Callable[[], str], users: Callable[[], str]) -> None:
        self._configuration = configuration
        self._users = users
        self._sessions: dict[str, Person] = {}

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        if request.path == "/api/health":
            return web.json_response({"status": "OK"})
        try:
            configuration = read_configuration(self._configuration())
        except yaml.YAMLError as exc:
            return web.Response(status=502, text=f"configuration: {exc}")
        if request.path == _AUTHZ:
            return self._authorize(request, configuration)
        if request.path == "/api/firstfactor" and request.method == "POST":
            return await self._log_in(request, configuration)
        return self._page(request, configuration)

    def _page(self, request: web.BaseRequest, configuration: Configuration) -> web.Response:
        if request.path == "/api/state":
            person = self._person(request, configuration)
            data = {"username": person.name, "authentication_level": person.level}
            return web.json_response({"status": "OK", "data": data})
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(_discovery(configuration.portal))
        return web.Response(text=_PORTAL, content_type="text/html")

    def _authorize(self, request: web.BaseRequest, configuration: Configuration) -> web.Response:
        headers = request.headers
        asked = Asked(
            host=headers.get("X-Forwarded-Host", "").partition(":")[0], path=headers.get("X-Forwarded-Uri", "/"),
            method=headers.get("X-Forwarded-Method", "GET"),
            address=headers.get("X-Forwarded-For", "127.0.0.1").partition(",")[0].strip(),
        )  # fmt: skip
        person = self._person(request, configuration)
        policy = configuration.control.policy(asked, person)
        if policy == "bypass":
            return web.Response(status=200)
        if policy == "deny":
            return web.Response(status=403, text="403 Forbidden")
        if person.level >= (2 if policy == "two_factor" else 1):
            return web.Response(status=200, headers={
                "Remote-User": person.name, "Remote-Groups": ",".join(person.groups), "Remote-Email": person.email,
                "Remote-Name": person.display,
            })  # fmt: skip
        return _to_login(request, asked, configuration.portal)

    def _person(self, request: web.BaseRequest, configuration: Configuration) -> Person:
        return self._sessions.get(request.cookies.get(configuration.cookie, ""), Person())

    async def _log_in(self, request: web.BaseRequest, configuration: Configuration) -> web.Response:
        try:
            given = await request.json()
            name, password = str(given["username"]), str(given["password"])
        except (ValueError, KeyError, TypeError):
            return web.json_response({"status": "KO", "message": "Authentication failed."}, status=400)
        person = self._known(name, password)
        if person is None:
            text = "Authentication failed. Check your credentials."
            return web.json_response({"status": "KO", "message": text}, status=401)
        session = secrets.token_urlsafe(24)
        self._sessions[session] = person
        answer = web.json_response({"status": "OK"})
        answer.set_cookie(configuration.cookie, session, domain=configuration.domain or None, httponly=True,
                          secure=True, samesite="Lax", path="/")  # fmt: skip
        return answer

    def _known(self, name: str, password: str) -> Person | None:
        tree: Any = manifests.load(self._users()) or {}
        user = (tree.get("users") or {}).get(name) if isinstance(tree, dict) else None
        if not user or user.get("disabled") or not is_password(password, str(user.get("password", ""))):
            return None
        return Person(name, tuple(user.get("groups") or ()), str(user.get("email", "")),
                      str(user.get("displayname", "")), level=1)  # fmt: skip


def is_password(password: str, digest: str) -> bool:
    """Compare a password with a digest `$pbkdf2-sha512$ROUNDS$SALT$HASH`; other kinds never match."""
    parts = digest.split("$")
    if len(parts) != 5 or parts[1] != "pbkdf2-sha512" or not parts[2].isdecimal():
        return False
    salt, wanted = (base64.b64decode(part.replace(".", "+") + "=" * (-len(part) % 4)) for part in parts[3:])
    found = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, int(parts[2]))
    return hmac.compare_digest(found, wanted)


def _to_login(request: web.BaseRequest, asked: Asked, portal: str) -> web.Response:
    """Send a browser to the portal, and tell a script that it is not let in."""
    accept = request.headers.get("Accept", "*/*")
    script = request.headers.get("X-Requested-With") == "XMLHttpRequest"
    target = f"{request.headers.get('X-Forwarded-Proto', 'https')}://{asked.host}{asked.path}"
    location = f"{portal}/?rd={quote(target, safe='')}&rm={asked.method}"
    if script or ("text/html" not in accept and "*/*" not in accept):
        return web.Response(status=401, headers={"Location": location}, text="401 Unauthorized")
    status = 302 if asked.method in {"GET", "HEAD", "OPTIONS"} else 303
    return web.Response(status=status, headers={"Location": location}, text=f"{status} Found")


def _discovery(portal: str) -> dict[str, Any]:
    base = f"{portal}/api/oidc"
    return {
        "issuer": portal, "authorization_endpoint": f"{base}/authorization", "token_endpoint": f"{base}/token",
        "userinfo_endpoint": f"{base}/userinfo", "jwks_uri": f"{portal}/jwks.json",
        "response_types_supported": ["code"], "scopes_supported": ["openid", "profile", "email", "groups"],
    }  # fmt: skip
