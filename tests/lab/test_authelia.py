from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from labkit.lab import Lab, load_lab
from labkit.lab.apploader import load_app
from labkit.lab.apps import AppSpec
from labkit.lab.authelia import (
    add_app,
    has_rules,
    matches,
    own_client,
    read_authelia,
    remove_app,
    same_client,
    secret_digest,
    wanted_client,
)
from labkit.lab.yamledit import EditError
from labkit.twin.repository import DATA

TEMPLATE = (DATA / "kubernetes/infrastructure/controllers/authelia/configmap.yaml").read_text(encoding="utf-8")
PLAIN = """# Authelia, as a file of its own
access_control:
  default_policy: deny
  rules:
  # the wiki is open
  - domain: wiki.efym.net
    policy: bypass

  # everybody else logs in
  - domain: ["*.efym.net"]
    policy: one_factor
session:
  cookies:
    - {domain: efym.net, authelia_url: "https://login.efym.net"}
"""
CHART = """apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: authelia}
spec:
  values:
    configMap:
      access_control:
        rules:
          - domain: wiki.efym.net # open
            policy: bypass
"""


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(Path(__file__).parents[1] / "data/gitops/lab.yaml")


def app(lab: Lab, **given: Any) -> AppSpec:
    return load_app(lab, **{"name": "demo", "image": "x:1", "port": 80, **given})


def lines(before: str, after: str) -> tuple[list[str], list[str]]:
    """What was added and what was removed."""
    diff = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    return [line[2:] for line in diff if line[0] == "+"], [line[2:] for line in diff if line[0] == "-"]


def test_a_template_is_read_although_it_is_no_yaml_yet() -> None:
    found = read_authelia(TEMPLATE)
    assert found is not None
    assert (found.default, found.portal, len(found.rules), len(found.clients)) == ("deny", "auth.efym.net", 4, 2)
    assert read_authelia("apiVersion: v1\nkind: ConfigMap\n") is None
    assert read_authelia("access_control: [\n") is None


@pytest.mark.parametrize("text", [TEMPLATE, PLAIN, CHART], ids=["template", "plain", "chart"])
def test_a_rule_is_added_and_nothing_else_changes(lab: Lab, text: str) -> None:
    new = add_app(text, app(lab))
    added, removed = lines(text, new)
    assert not removed
    assert sorted(line.strip() for line in added) == ["- domain: demo.efym.net", "policy: one_factor"]
    found = read_authelia(new)
    assert found is not None
    assert has_rules(app(lab), found)
    assert add_app(new, app(lab)) == new
    assert remove_app(new, "demo", ["demo.efym.net"]) == text


def test_the_rule_stands_above_the_first_that_is_more_general_and_comments_stay_with_theirs(lab: Lab) -> None:
    new = add_app(PLAIN, app(lab))
    assert new.index("demo.efym.net") < new.index("# everybody else logs in") < new.index("*.efym.net")
    assert YAML(typ="safe").load(new)["access_control"]["rules"][1]["domain"] == "demo.efym.net"


RULES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("forward", {}, ["policy: one_factor"]),
    ("two factors", {"policy": "two_factor"}, ["policy: two_factor"]),
    ("open", {"authentication": "none"}, ["policy: bypass"]),
    ("one group, nothing more general", {"restricted": True}, ["policy: one_factor", "subject: group:admins"]),
    ("another group", {"restricted": True, "group": "family"}, ["policy: one_factor", "subject: group:family"]),
]


@pytest.mark.parametrize(("given", "wanted"), [row[1:] for row in RULES], ids=[row[0] for row in RULES])
def test_rules_say_what_is_wanted(lab: Lab, given: dict[str, Any], wanted: list[str]) -> None:
    added, _ = lines(TEMPLATE, add_app(TEMPLATE, app(lab, **given)))
    assert sorted(line.strip() for line in added) == sorted(["- domain: demo.efym.net", *wanted])


def test_who_is_not_of_the_group_does_not_fall_through_to_a_general_rule(lab: Lab) -> None:
    added, _ = lines(PLAIN, add_app(PLAIN, app(lab, restricted=True)))
    assert [line.strip() for line in added] == [
        "- domain: demo.efym.net", "policy: one_factor", "subject: group:admins",
        "- domain: demo.efym.net", "policy: deny",
    ]  # fmt: skip


def test_a_client_is_added_and_its_digest_is_all_that_differs_later(lab: Lab) -> None:
    wanted = app(lab, authentication="oidc", callback="/oauth/callback")
    pending, real = add_app(TEMPLATE, wanted), add_app(TEMPLATE, wanted, "$pbkdf2-sha512$310000$salt$hash")
    added, removed = lines(pending, real)
    assert (len(added), len(removed)) == (1, 1)
    assert added[0].strip() == 'client_secret: "$pbkdf2-sha512$310000$salt$hash"'
    found = read_authelia(real)
    assert found is not None
    client = own_client(found, "demo")
    assert client is not None
    assert client["redirect_uris"] == ["https://demo.efym.net/oauth/callback"]
    assert same_client(client, wanted_client(wanted) or {})
    assert not same_client(client, wanted_client(app(lab, authentication="oidc", callback="/other")) or {})
    assert add_app(real, wanted) == real
    assert remove_app(real, "demo", ["demo.efym.net"]) == TEMPLATE


def test_a_client_for_one_group_has_a_policy_of_its_own(lab: Lab) -> None:
    wanted = app(lab, authentication="oidc", callback="/cb", restricted=True)
    new = add_app(TEMPLATE, wanted)
    assert "authorization_policies:" in new
    assert "authorization_policy: admins" in new
    family = app(lab, name="more", authentication="oidc", callback="/cb", restricted=True, group="family")
    both = add_app(new, family)
    assert both.count("authorization_policies:") == 1
    assert both.index("family:") < both.index("admins:")


def test_a_rule_for_more_hosts_keeps_the_others() -> None:
    new = remove_app(TEMPLATE, "linkding", ["links.efym.net"])
    assert lines(TEMPLATE, new) == ([], ["            - links.efym.net"])


@pytest.mark.parametrize("text", ["access_control: {rules: [{domain: a.b.net, policy: deny}]}\n",
                                  "access_control:\n  default_policy: deny\n"])  # fmt: skip
def test_a_list_that_cannot_be_edited_by_lines_is_refused(lab: Lab, text: str) -> None:
    with pytest.raises(EditError, match="one entry a line"):
        add_app(text, app(lab))


@pytest.mark.parametrize(("rule", "host", "fits"), [
    ({"domain": "a.efym.net"}, "a.efym.net", True), ({"domain": ["b.efym.net", "a.efym.net"]}, "a.efym.net", True),
    ({"domain": "*.efym.net"}, "a.efym.net", True), ({"domain": "*.efym.net"}, "efym.net", False),
    ({"domain": "{user}.efym.net"}, "a.efym.net", True), ({"domain_regex": r"^a\."}, "a.efym.net", True),
    ({"domain_regex": ["^b", "^(?P<User>a)"]}, "a.efym.net", True), ({"domain_regex": "("}, "a.efym.net", False),
    ({}, "a.efym.net", False),
])  # fmt: skip
def test_which_rules_are_about_a_host(rule: dict[str, Any], host: str, fits: bool) -> None:
    assert matches(rule, host) is fits


def test_a_digest_is_the_one_that_authelia_makes() -> None:
    # Computed with Python's own pbkdf2 and checked against the form of passlib's adapted base64.
    found = secret_digest("insecure_secret", bytes(range(16)))
    _, kind, rounds, salt, digest = found.split("$")
    assert (kind, rounds, salt) == ("pbkdf2-sha512", "310000", "AAECAwQFBgcICQoLDA0ODw")
    assert len(digest) == 86
    assert "+" not in digest
