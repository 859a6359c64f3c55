"""Certificates that are kept in Git, encrypted, for the day when the cluster that had them is gone. Pure.

They stand in a file that Flux does not apply (it would hold them against cert-manager, which renews them), as Secrets
that sops has encrypted for the lab's age key. A new cluster gets them before Flux brings cert-manager, which then finds
what it wants and asks its CA for nothing: Let's Encrypt gives no more than five of the same in a week.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from labkit.checks.base import info
from labkit.facts.git import GitFacts
from labkit.facts.kept import KEPT, UNTIL
from labkit.facts.repository import Resource
from labkit.plan import Action, Change, Finding

SYSTEM = "recovery"
_LEAST = timedelta(days=1)


@dataclass(frozen=True)
class Kept:
    """One Secret that is kept; `until` is None for one that does not end."""

    namespace: str
    name: str
    until: datetime | None

    @property
    def id(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def holds(self, now: datetime) -> bool:
        """Whether it is worth to be put back."""
        return self.until is None or self.until > now + _LEAST


def kept_secrets(git: GitFacts) -> tuple[Kept, ...]:
    """Return what is kept in the repository, if the lab's age key opens it."""
    if _sealed(git):
        return ()
    file = git.repository.by_path.get(KEPT)
    found = (one for one in (file.resources() if file is not None else ()) if one.kind == "Secret")
    return tuple(Kept(one.namespace, one.name, _moment(one.annotations.get(UNTIL, ""))) for one in found)


def _sealed(git: GitFacts) -> bool:
    return any(one.path == KEPT and one.result != "ok" for one in git.repository.decryptions)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def put_back(git: GitFacts, now: datetime, *, needs: Iterable[str]) -> Iterator[Change]:
    """Yield a change for each kept Secret that is still of use."""
    for one in kept_secrets(git):
        if one.holds(now):
            yield Change(
                system=SYSTEM, kind="kept-secret", target=one.id, action=Action.CREATE, after={"file": KEPT},
                needs=tuple(needs), note="from Git, before cert-manager comes: its CA is asked for nothing",
            )  # fmt: skip


def check_kept(git: GitFacts, now: datetime) -> Iterator[Finding]:
    """Yield certificates of a public CA that a new cluster has to ask for anew, because no copy is kept."""
    kept = {one.id: one for one in kept_secrets(git)}
    for one in public_certificates(git):
        name = f"{one.namespace}/{one.get('spec', 'secretName')}"
        seen = kept.get(name)
        if seen is None or not seen.holds(now):
            got = "none" if seen is None else f"one that ended {seen.until:%Y-%m-%d}"
            got = "one that git.age_key does not open" if _sealed(git) else got
            yield info("rebuild.certificate", f"certificate {one.namespace}/{one.name}", f"a copy in {KEPT}", got,
                       "its CA is asked for a new one; next time: `labkit keep-certificates`")  # fmt: skip


def public_certificates(git: GitFacts) -> tuple[Resource, ...]:
    """Return the Certificates in the repository whose issuer asks an ACME server such as Let's Encrypt."""
    found = git.cluster.resources if git.cluster is not None else ()
    issuers = {(one.kind, one.namespace if one.kind == "Issuer" else "", one.name) for one in found
               if one.kind in ("Issuer", "ClusterIssuer") and one.get("spec", "acme")}  # fmt: skip

    def asks(one: Resource) -> bool:
        kind = str(one.get("spec", "issuerRef", "kind") or "Issuer")
        return (kind, one.namespace if kind == "Issuer" else "", str(one.get("spec", "issuerRef", "name"))) in issuers

    return tuple(one for one in found if one.kind == "Certificate" and one.group == "cert-manager.io" and asks(one))
