"""Authelia's access control: its rules, and what they say about a request."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from labkit.twin import manifests

Policy = Literal["deny", "bypass", "one_factor", "two_factor"]
_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)


@dataclass(frozen=True)
class Person:
    """Who asks: nobody when the name is empty; `level` is the number of factors shown."""

    name: str = ""
    groups: tuple[str, ...] = ()
    email: str = ""
    display: str = ""
    level: int = 0


@dataclass(frozen=True)
class Asked:
    """What is asked for."""

    host: str
    path: str = "/"
    method: str = "GET"
    address: str = "127.0.0.1"


@dataclass(frozen=True)
class Control:
    """The rules of one configuration; the first that matches decides."""

    rules: tuple[Mapping[str, Any], ...] = ()
    default: Policy = "deny"
    networks: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def policy(self, asked: Asked, person: Person) -> Policy:
        """Return what a request needs; a rule about people counts for somebody who is not known yet."""
        for rule in self.rules:
            if self._fits(rule, asked) and _fits_person(rule.get("subject"), person):
                found: Policy = rule.get("policy", "deny")
                return found
        return self.default

    def _fits(self, rule: Mapping[str, Any], asked: Asked) -> bool:
        domains, patterns = _listed(rule.get("domain")), _listed(rule.get("domain_regex"))
        if not any(_fits_domain(one, asked.host) for one in domains) and not any(
            re.search(one, asked.host) for one in patterns
        ):
            return False
        methods, resources = _listed(rule.get("methods")), _listed(rule.get("resources"))
        if methods and asked.method.upper() not in {one.upper() for one in methods}:
            return False
        if resources and not any(re.search(one, asked.path) for one in resources):
            return False
        wanted = _listed(rule.get("networks"))
        return not wanted or any(self._is_inside(one, asked.address) for one in wanted)

    def _is_inside(self, network: str, address: str) -> bool:
        try:
            return any(
                ipaddress.ip_address(address) in ipaddress.ip_network(one, strict=False)
                for one in self.networks.get(network, [network])
            )
        except ValueError:
            return False


@dataclass(frozen=True)
class Configuration:
    """What the stand-in takes from Authelia's configuration."""

    control: Control = Control()
    portal: str = ""
    cookie: str = "authelia_session"
    domain: str = ""


def read_configuration(text: str) -> Configuration:
    """Read a configuration or the template of one; what the template would fill in is no matter here.

    Raises:
        yaml.YAMLError: it is none.
    """
    tree = manifests.load(_TEMPLATE.sub("filled-in", text)) or {}
    if not isinstance(tree, dict):
        raise yaml.YAMLError("expected a mapping")
    access, session = tree.get("access_control") or {}, tree.get("session") or {}
    cookie: Mapping[str, Any] = next(iter(session.get("cookies") or []), {})
    named = {one["name"]: _listed(one.get("networks")) for one in access.get("networks") or [] if "name" in one}
    named |= {key: _listed(value) for key, value in ((tree.get("definitions") or {}).get("network") or {}).items()}
    control = Control(tuple(access.get("rules") or ()), access.get("default_policy", "deny"), named)
    name = cookie.get("name") or session.get("name") or "authelia_session"
    return Configuration(control, str(cookie.get("authelia_url") or ""), name, str(cookie.get("domain") or ""))


def _fits_domain(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    if pattern.startswith(("{user}.", "{group}.")):
        return host.endswith(pattern.partition("}")[2])
    return pattern == host


def _fits_person(subject: Any, person: Person) -> bool:
    """Match a subject: a list of alternatives, each of which may be a list of conditions that all hold."""
    if subject in (None, []) or not person.name:
        return True
    alternatives = subject if isinstance(subject, list) else [subject]
    return any(all(_is_one(word, person) for word in _listed(one)) for one in alternatives)


def _is_one(word: str, person: Person) -> bool:
    kind, _, value = word.partition(":")
    return value == person.name if kind == "user" else kind == "group" and value in person.groups


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]
