"""Certificates that are kept in Git: what is put back, what is asked for anew, and what a copy of a Secret holds."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from labkit.facts.git import GitFacts
from labkit.facts.kept import KEPT, UNTIL
from labkit.facts.repository import Build, Cluster, Decryption, RepositoryFacts, Resource, SourceFile
from labkit.rules.kept import check_kept, kept_secrets, put_back
from labkit.systems.kept import copy_of, parse, render

NOW = datetime(2026, 8, 10, tzinfo=UTC)


def secret(name: str, until: str = "") -> dict[str, Any]:
    notes = {UNTIL: until} if until else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "certs", "annotations": notes},
    }


def certificate(name: str, issuer: str) -> dict[str, Any]:
    return {
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name, "namespace": "certs"},
        "spec": {"secretName": f"{name}-tls", "issuerRef": {"kind": "ClusterIssuer", "name": issuer}},
    }  # fmt: skip


def issuer(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": {"name": name}, "spec": spec}


def git(kept: list[dict[str, Any]], *applied: dict[str, Any]) -> GitFacts:
    resources = tuple(Resource(tree, "certs.yaml", 1, tree) for tree in applied)
    source = Resource({"metadata": {"name": "configs", "namespace": "flux-system"}}, "configs.yaml", 1)
    file = SourceFile(KEPT, tuple((1, tree) for tree in kept))
    facts = RepositoryFacts("/", (file,), (Cluster("c", (Build(source, "c", resources),)),))
    return GitFacts(url="u", branch="main", path="c", repository=facts)


def test_what_still_holds_is_put_back() -> None:
    facts = git([secret("good", "2026-10-01T00:00:00Z"), secret("old", "2026-08-10T12:00:00Z"), secret("account")])
    assert [one.id for one in kept_secrets(facts)] == ["certs/good", "certs/old", "certs/account"]
    made = list(put_back(facts, NOW, needs=("server/one/create",)))
    assert [(c.target, c.needs) for c in made] == [
        ("certs/good", ("server/one/create",)), ("certs/account", ("server/one/create",)),
    ]  # fmt: skip


def test_nothing_is_kept() -> None:
    assert not list(put_back(git([]), NOW, needs=()))


def test_only_a_public_certificate_without_a_copy_is_named() -> None:
    applied = (issuer("public", acme={"server": "x"}), issuer("own", ca={}), certificate("wild", "public"),
               certificate("inner", "own"))  # fmt: skip
    (found,) = check_kept(git([], *applied), NOW)
    assert (found.subject, found.got) == ("certificate certs/wild", "none")
    (found,) = check_kept(git([secret("wild-tls", "2026-08-01T00:00:00Z")], *applied), NOW)
    assert found.got == "one that ended 2026-08-01"
    good = git([secret("wild-tls", "2026-10-01T00:00:00Z")], *applied)
    assert not list(check_kept(good, NOW))
    repository = replace(good.repository, decryptions=(Decryption(KEPT, "key", "another key"),))
    sealed = good.model_copy(update={"repository": repository})
    assert not list(put_back(sealed, NOW, needs=()))
    assert [one.got for one in check_kept(sealed, NOW)] == ["one that git.age_key does not open"]


def test_a_copy_leaves_behind_what_its_cluster_gave_it() -> None:
    key = base64.b64encode(b"a key of an account that is long").decode()
    seen = {
        "kind": "Secret", "type": "Opaque", "data": {"tls.key": key},
        "metadata": {"name": "account", "namespace": "certs", "uid": "1", "resourceVersion": "7", "managedFields": [],
                     "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}},
    }  # fmt: skip
    kept = copy_of(seen)
    assert kept["metadata"] == {"name": "account", "namespace": "certs", "annotations": {"a": "b"}}
    assert parse(render([kept])) == [kept]
