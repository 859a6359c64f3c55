"""Authelia's configuration: what it says about a host, and the rule and client that an app needs. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from labkit.lab.apprender import dump
from labkit.lab.apps import AppSpec
from labkit.lab.yamledit import EditError, Region, find_region, get, insert_item, insert_key, plain, remove_node, splice

ROUNDS = 310000
PENDING = "$pbkdf2-sha512$310000$made-when-it-is-applied"
"""Stands for the digest of a client's secret until there is one, so that a plan is the same each time."""
_CONDITIONS = ("networks", "methods", "query", "resources")


@dataclass(frozen=True)
class Authelia:
    """What a configuration says, in parts: access rules in their order, OIDC clients, the portal's address."""

    rules: tuple[Mapping[str, Any], ...] = ()
    default: str = "deny"
    clients: tuple[Mapping[str, Any], ...] = ()
    policies: tuple[str, ...] = ()
    portal: str = ""
    """The host of the login page."""
    has_oidc: bool = False


def read_authelia(text: str) -> Authelia | None:
    """Return what a file says about Authelia; None when no access control stands in it."""
    region = find_region(text, "access_control")
    if region is None:
        return None
    tree = plain(region.root)
    control, oidc = tree["access_control"] or {}, ((tree.get("identity_providers") or {}).get("oidc") or {})
    cookies = (tree.get("session") or {}).get("cookies") or [{}]
    url = str(cookies[0].get("authelia_url") or "") if isinstance(cookies[0], dict) else ""
    return Authelia(
        rules=tuple(one for one in control.get("rules") or () if isinstance(one, dict)),
        default=str(control.get("default_policy") or "deny"),
        clients=tuple(one for one in oidc.get("clients") or () if isinstance(one, dict)),
        policies=tuple(oidc.get("authorization_policies") or ()),
        portal=urlsplit(url).hostname or "",
        has_oidc=bool(oidc),
    )


def domains(rule: Mapping[str, Any]) -> list[str]:
    """Return the domains of a rule as a list."""
    value = rule.get("domain")
    return [str(one) for one in value] if isinstance(value, list) else [str(value)] if value else []


def matches(rule: Mapping[str, Any], host: str) -> bool:
    """Tell whether a rule is about a host, exactly or by a wildcard or an expression."""
    for domain in domains(rule):
        if domain == host or (
            domain.startswith(("*.", "{user}.", "{group}.")) and host.endswith(domain[domain.index(".") :])
        ):
            return True
    patterns = rule.get("domain_regex")
    for pattern in [patterns] if isinstance(patterns, str) else patterns or ():
        try:
            if re.search(str(pattern).replace("(?P<User>", "(").replace("(?P<Group>", "("), host):
                return True
        except re.error:
            continue
    return False


def wanted_rules(app: AppSpec, config: Authelia) -> tuple[dict[str, Any], ...]:
    """Return the rules that an app needs; none when it logs its users in by itself."""
    if app.authentication == "oidc":
        return ()
    if app.authentication == "none":
        return ({"domain": app.host, "policy": "bypass"},)
    rule: dict[str, Any] = {"domain": app.host, "policy": app.policy}
    if not app.restricted:
        return (rule,)
    rule["subject"] = f"group:{app.group}"
    others = [one for one in config.rules if matches(one, app.host) and app.host not in domains(one)]
    if not others and config.default == "deny":
        return (rule,)
    # Who is not of the group would fall through to a more general rule.
    return rule, {"domain": app.host, "policy": "deny"}


def own_rules(config: Authelia, host: str) -> list[Mapping[str, Any]]:
    """Return the rules that name a host itself."""
    return [one for one in config.rules if host in domains(one)]


def has_rules(app: AppSpec, config: Authelia) -> bool:
    """Tell whether what stands there gives the app what it needs."""
    own = [{key: value for key, value in rule.items() if key != "domain"} for rule in own_rules(config, app.host)]
    wanted = [{key: value for key, value in rule.items() if key != "domain"} for rule in wanted_rules(app, config)]
    return _plain(own) == _plain(wanted)


def _plain(rules: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rules in one form: a list of one is that one."""
    return [
        {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in rule.items()}
        for rule in rules
    ]


def wanted_client(app: AppSpec, digest: str = PENDING) -> dict[str, Any] | None:
    """Return the OIDC client of an app; None when it needs none."""
    if app.authentication != "oidc" or app.oidc is None:
        return None
    found: dict[str, Any] = {
        "client_id": app.name,
        "client_name": app.name.replace("-", " ").title(),
        "client_secret": DoubleQuotedScalarString(digest),
        "authorization_policy": app.group if app.restricted else app.policy,
    }
    if app.oidc.pkce:
        found |= {"require_pkce": True, "pkce_challenge_method": "S256"}
    if app.oidc.auth_method != "client_secret_basic":
        found["token_endpoint_auth_method"] = app.oidc.auth_method
    found["redirect_uris"] = [f"https://{app.host}{path}" for path in app.oidc.callback]
    found["scopes"] = list(app.oidc.scopes)
    return found


def own_client(config: Authelia, name: str) -> Mapping[str, Any] | None:
    """Return the client of an app, or None."""
    return next((one for one in config.clients if one.get("client_id") == name), None)


def same_client(seen: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether a client is as wanted; its secret is not looked at, nor how it is called."""
    left = {key: _text(value) for key, value in seen.items() if key not in ("client_secret", "client_name")}
    right = {key: _text(value) for key, value in wanted.items() if key not in ("client_secret", "client_name")}
    return all(left.get(key) == value for key, value in right.items())


def _text(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_text(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def add_app(text: str, app: AppSpec, digest: str = PENDING) -> str:
    """Return a configuration with the rules and the client of an app; all else stays as it is written.

    Raises:
        EditError: there is no list that can be added to.
    """
    config = read_authelia(text)
    if config is None:
        raise EditError("Authelia: expected access_control in this file, got none")
    if not own_rules(config, app.host):
        for rule in wanted_rules(app, config):
            text = _add_rule(text, rule, app.host)
    client = wanted_client(app, digest)
    if client is not None and own_client(config, app.name) is None:
        text = _add_client(text, app, client, config)
    return text


def _region(text: str) -> Region:
    found = find_region(text, "access_control")
    if found is None:
        raise EditError("Authelia: expected access_control in this file, got none")
    return found


def _add_rule(text: str, rule: Mapping[str, Any], host: str) -> str:
    """A rule for one host stands above the first that is more general: the first match wins."""
    region = _region(text)
    config = read_authelia(text)
    rules = config.rules if config is not None else ()
    index = next((i for i, one in enumerate(rules) if host not in domains(one) and matches(one, host)
                  and not any(one.get(key) for key in _CONDITIONS)), None)  # fmt: skip
    try:
        lines = insert_item(region, get(region.root, "access_control", "rules"), _item(rule), index)
    except EditError as exc:
        raise EditError(f"Authelia's access_control.rules: {exc.message}",
                        next_step=f"add a rule for {host} by hand, then run again") from exc  # fmt: skip
    return splice(text, region, lines)


def _add_client(text: str, app: AppSpec, client: Mapping[str, Any], config: Authelia) -> str:
    region = _region(text)
    clients = get(region.root, "identity_providers", "oidc", "clients")
    try:
        text = splice(text, region, insert_item(region, clients, _item(client), None))
    except EditError as exc:
        hint = "set up Authelia as an OIDC provider with a first client by hand"
        raise EditError(f"Authelia's OIDC clients: {exc.message}", next_step=hint) from exc
    return _add_policy(text, app) if app.restricted and app.group not in config.policies else text


def _add_policy(text: str, app: AppSpec) -> str:
    """A client that only one group may use needs a policy of its own."""
    policy = {"default_policy": "deny", "rules": [{"policy": app.policy, "subject": f"group:{app.group}"}]}
    region = _region(text)
    known = get(region.root, "identity_providers", "oidc", "authorization_policies")
    if known is not None and known.value:
        first = known.value[0][0]
        return splice(text, region, insert_key(region, first, dump({app.group: policy})))
    oidc = get(region.root, "identity_providers", "oidc")
    key = next(name for name, _ in oidc.value if name.value == "clients") if oidc is not None else None
    if key is None:
        raise EditError("Authelia: expected OIDC clients, got none")
    return splice(text, region, insert_key(region, key, dump({"authorization_policies": {app.group: policy}})))


def remove_app(text: str, name: str, hosts: Iterable[str]) -> str:
    """Return a configuration without the rules and the client of an app; a rule for more hosts keeps the others."""
    for host in hosts:
        while (changed := _remove_once(text, name, host)) is not None:
            text = changed
    return text


def _remove_once(text: str, name: str, host: str) -> str | None:
    region = _region(text)
    rules = get(region.root, "access_control", "rules")
    for node in rules.value if rules is not None else ():
        named = domains(plain(node))
        if named == [host]:
            return splice(text, region, remove_node(region, node))
        if host in named and (entry := next((one for one in get(node, "domain").value if one.value == host), None)):  # type: ignore[union-attr]
            return splice(text, region, remove_node(region, entry))
    clients = get(region.root, "identity_providers", "oidc", "clients")
    for node in clients.value if clients is not None and len(clients.value) > 1 else ():
        if plain(node).get("client_id") == name:
            return splice(text, region, remove_node(region, node))
    return None


def _item(tree: Mapping[str, Any]) -> str:
    """Write an entry of a list, its dash in the first column."""
    return "\n".join(line.removeprefix("  ") for line in dump([dict(tree)]).splitlines())  # type: ignore[arg-type]


def secret_digest(secret: str, salt: bytes) -> str:
    """Return the digest of a client's secret in the form that Authelia reads (PBKDF2, SHA-512, 16 bytes of salt)."""
    raw = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, ROUNDS)
    return f"$pbkdf2-sha512${ROUNDS}${_adapted(salt)}${_adapted(raw)}"


def _adapted(raw: bytes) -> str:
    """Base64 as these digests write it: a dot for the plus, no padding."""
    return base64.b64encode(raw).decode().rstrip("=").replace("+", ".")
