"""Health checks of the cluster's certificates: do they last, are they renewed, are their copies the same. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from labkit.checks.health.base import Area, Found, Scene, health
from labkit.checks.health.words import ago, count, listed, until
from labkit.facts.certificates import CertificateFacts, ServedCertificate
from labkit.plan import Severity

READS = ("certificates",)
_LATE = timedelta(hours=6)
"""How late a renewal may be before it counts as one that does not happen: cert-manager tries again after an hour."""
_WEEK = timedelta(days=7)
_MOST_A_WEEK = 5
"""Let's Encrypt gives so many certificates for the same set of names in a week."""


def seen(scene: Scene) -> CertificateFacts:
    """Return the facts of certificates."""
    facts: CertificateFacts = scene["certificates"]
    return facts


@health("certificates.expiry", Area.CERTIFICATES, "every certificate that is served lasts", Severity.WARNING,
        reads=READS)  # fmt: skip
def expiry(scene: Scene) -> Iterator[Found]:
    """Find certificates close to their end; copies are left to another check."""
    limits = scene.lab.health.limits.certificates
    for one in seen(scene).served:
        if one.not_after is None or one.reflects or one.not_after - scene.now > timedelta(days=limits.days):
            continue
        soon = one.not_after - scene.now <= timedelta(days=limits.urgent_days)
        yield Found(f"{_names(one)} (Secret {one.id})", f"valid for {count(limits.days, 'day')} more",
                    until(one.not_after, scene.now),
                    f"`kubectl -n {one.namespace} describe certificate` says why it is not renewed",
                    Severity.ERROR if soon else None)  # fmt: skip


@health("certificates.ready", Area.CERTIFICATES, "every Certificate is ready", Severity.ERROR, reads=READS)
def ready(scene: Scene) -> Iterator[Found]:
    """Find Certificates that cert-manager has not had issued, or not in their current form."""
    for one in seen(scene).certificates:
        if not one.ready and not (one.issuing and not one.failed_attempts):
            tried = f" after {count(one.failed_attempts, 'attempt')}" if one.failed_attempts else ""
            yield Found(f"Certificate {one.id}", "ready", f"{one.problem or 'nothing done yet'}{tried}",
                        f"`kubectl -n {one.namespace} describe challenges,orders` names the cause")  # fmt: skip


@health("certificates.renewal", Area.CERTIFICATES, "every renewal comes in time", Severity.WARNING, reads=READS)
def renewal(scene: Scene) -> Iterator[Found]:
    """Find renewals that fail behind a Certificate that still says Ready: it does so until its very end."""
    for one in seen(scene).certificates:
        if not one.ready:
            continue
        expected = "a renewal in time"
        remedy = f"`kubectl -n {one.namespace} describe challenges,orders`: often the DNS token or a rate limit"
        end = f", {until(one.not_after, scene.now)}" if one.not_after else ""
        if one.failed_attempts:
            last = f", last {ago(one.last_failure, scene.now)}" if one.last_failure else ""
            got = f"{count(one.failed_attempts, 'failed attempt')}{last}{end}"
            yield Found(f"Certificate {one.id}", expected, got, remedy)
        elif one.renewal is not None and scene.now - one.renewal > _LATE:
            yield Found(f"Certificate {one.id}", expected, f"due {ago(one.renewal, scene.now)}{end}", remedy)


@health("certificates.issuer", Area.CERTIFICATES, "every issuer is ready", Severity.ERROR, reads=READS)
def issuer(scene: Scene) -> Iterator[Found]:
    """Find issuers that cannot issue."""
    for one in seen(scene).issuers:
        if not one.ready:
            yield Found(one.id, "ready", one.problem or "nothing done yet",
                        f"`kubectl describe {one.kind.lower()} {one.name}`: often its key or token")  # fmt: skip


@health("certificates.rate-limit", Area.CERTIFICATES, "no certificate is asked for too often", Severity.WARNING,
        reads=READS)  # fmt: skip
def rate_limit(scene: Scene) -> Iterator[Found]:
    """Find Certificates that have nearly used up what Let's Encrypt gives in a week: a rebuild would get none."""
    for one in seen(scene).certificates:
        lately = [moment for moment in one.requests if scene.now - moment <= _WEEK]
        if len(lately) >= _MOST_A_WEEK - 1:
            yield Found(f"Certificate {one.id}", f"fewer than {_MOST_A_WEEK - 1} requests a week",
                        f"{len(lately)}; Let's Encrypt refuses after {_MOST_A_WEEK}",
                        "keep the Secret when you rebuild; the oldest counts until "
                        f"{min(lately) + _WEEK:%Y-%m-%d %H:%M} UTC")  # fmt: skip


@health("certificates.copies", Area.CERTIFICATES, "every copy of a certificate is like its source", Severity.ERROR,
        reads=READS)  # fmt: skip
def copies(scene: Scene) -> Iterator[Found]:
    """Find copies by reflector that are stale, missing, or have lost their source."""
    facts = seen(scene)
    mend = "look at the log of reflector; deleting the copy has it made anew"
    for one in facts.served:
        source = facts.secret(one.reflects) if one.reflects else None
        if one.reflects and source is None:
            yield Found(f"Secret {one.id}", f"a copy of {one.reflects}", "that is gone", mend, Severity.WARNING)
        elif source is not None and source.fingerprint != one.fingerprint:
            yield Found(f"Secret {one.id}", f"the certificate of {source.id} ({_ends(source, scene.now)})",
                        f"another one ({_ends(one, scene.now)})", mend)  # fmt: skip
        for space in _wanted_spaces(facts, one):
            if facts.secret(f"{space}/{one.name}") is None:
                yield Found(f"Secret {space}/{one.name}", f"a copy of {one.id}", "none",
                            "look at the log of reflector and its annotations on the source")  # fmt: skip


@health("certificates.readable", Area.CERTIFICATES, "every TLS Secret holds a certificate", Severity.WARNING,
        reads=READS)  # fmt: skip
def readable(scene: Scene) -> Iterator[Found]:
    """Find Secrets of type kubernetes.io/tls that nothing can be served from."""
    for one in seen(scene).served:
        if not one.fingerprint:
            yield Found(f"Secret {one.id}", "a certificate (PEM) in tls.crt", "none that can be read",
                        "put one in, or remove the Secret and its users")  # fmt: skip


def _wanted_spaces(facts: CertificateFacts, source: ServedCertificate) -> list[str]:
    """Return the namespaces that a Secret shall be copied to; reflector takes names and regular expressions."""
    patterns = source.copies_to
    others = (space for space in facts.namespaces if space != source.namespace)
    return [space for space in others if any(_fits(pattern, space) for pattern in patterns)]


def _fits(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:
        return pattern == name


def _names(one: ServedCertificate) -> str:
    return listed(one.hosts) or one.name


def _ends(one: ServedCertificate, now: datetime) -> str:
    return until(one.not_after, now) if one.not_after else "none"
