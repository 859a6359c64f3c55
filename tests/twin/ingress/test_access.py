"""Authelia's rules: who is let in where."""

from __future__ import annotations

import base64
import hashlib

import pytest
import yaml

from labkit.twin.ingress.access import Asked, Person, read_configuration
from labkit.twin.ingress.authelia import is_password

TEXT = """
access_control:
  default_policy: deny
  networks:
    - {name: home, networks: [192.168.5.0/24]}
  rules:
    - {domain: auth.lab.net, policy: bypass}
    - {domain: api.lab.net, policy: bypass, resources: ['^/public/'], methods: [GET]}
    - {domain: api.lab.net, policy: one_factor}
    - {domain: [pve.lab.net, nas.lab.net], policy: two_factor, subject: 'group:admins'}
    - {domain: both.lab.net, policy: one_factor, subject: [['group:admins', 'user:ann'], 'user:bob']}
    - {domain: lan.lab.net, policy: bypass, networks: [home]}
    - {domain_regex: '^app-\\d+\\.lab\\.net$', policy: one_factor}
    - {domain: '*.open.net', policy: bypass}
session:
  secret: '{{ secret "/secrets/session" }}'
  cookies:
    - {domain: lab.net, authelia_url: https://auth.lab.net, name: ours}
identity_providers:
  oidc:
    jwks:
      - key: {{ secret "/secrets/key.pem" | mindent 14 "|" | msquote }}
"""
ADMIN, GUEST, ANN = Person("adam", ("admins",)), Person("guest", ("users",)), Person("ann", ("admins",))


@pytest.mark.parametrize(
    ("asked", "person", "policy"),
    [
        (Asked("auth.lab.net"), Person(), "bypass"),
        (Asked("api.lab.net", "/public/x"), Person(), "bypass"),
        (Asked("api.lab.net", "/public/x", "POST"), Person(), "one_factor"),
        (Asked("api.lab.net", "/private"), Person(), "one_factor"),
        (Asked("pve.lab.net"), Person(), "two_factor"),
        (Asked("nas.lab.net"), ADMIN, "two_factor"),
        (Asked("nas.lab.net"), GUEST, "deny"),
        (Asked("both.lab.net"), ANN, "one_factor"),
        (Asked("both.lab.net"), ADMIN, "deny"),
        (Asked("both.lab.net"), Person("bob"), "one_factor"),
        (Asked("lan.lab.net", address="192.168.5.7"), Person(), "bypass"),
        (Asked("lan.lab.net", address="10.0.0.1"), Person(), "deny"),
        (Asked("app-12.lab.net"), Person(), "one_factor"),
        (Asked("app-x.lab.net"), Person(), "deny"),
        (Asked("a.b.open.net"), Person(), "bypass"),
        (Asked("open.net"), Person(), "deny"),
    ],
)
def test_the_first_rule_that_matches_decides(asked: Asked, person: Person, policy: str) -> None:
    assert read_configuration(TEXT).control.policy(asked, person) == policy


def test_a_template_is_read_without_its_secrets() -> None:
    found = read_configuration(TEXT)
    assert (found.portal, found.cookie, found.domain) == ("https://auth.lab.net", "ours", "lab.net")
    with pytest.raises(yaml.YAMLError):
        read_configuration("- a list")


def test_passwords() -> None:
    salt, rounds = b"0123456789abcdef", 1000

    def adapted(raw: bytes) -> str:
        return base64.b64encode(raw).decode().rstrip("=").replace("+", ".")

    raw = hashlib.pbkdf2_hmac("sha512", b"open sesame", salt, rounds)
    digest = f"$pbkdf2-sha512${rounds}${adapted(salt)}${adapted(raw)}"
    assert is_password("open sesame", digest)
    assert not is_password("other", digest)
    assert not is_password("open sesame", "$argon2id$v=19$x$y")
