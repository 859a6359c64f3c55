"""May we start: checks on addresses, references and the layout, before any runbook writes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from labkit.checks.base import Check
from labkit.facts.endpoints import EndpointFacts, ReferenceFacts
from labkit.lab import Lab
from labkit.plan import Finding, Severity
from labkit.rules.quorum import warn_quorum

_SOON = timedelta(days=30)


def layout(lab: Lab) -> Check:
    """Return the check that the loss of any one host leaves the cluster with its quorum."""
    return Check(
        id="lab.quorum",
        sentence="The loss of any one Proxmox host leaves etcd with its quorum.",
        reads=(),
        find=lambda _facts: warn_quorum(lab),
    )


def references() -> Check:
    """Return the check that every secret reference of the lab file leads to a secret."""
    return Check(
        id="lab.references",
        sentence="Every secret reference of the lab file leads to a secret.",
        reads=("references",),
        find=_find_references,
    )


def addresses() -> Check:
    """Return the check that every address answers with the expected certificate, which does not expire soon."""
    return Check(
        id="lab.addresses",
        sentence="Every address answers with the certificate that the lab file names.",
        reads=("endpoints",),
        find=_find_addresses,
    )


def _find_references(facts: Mapping[str, Any]) -> Iterator[Finding]:
    seen: ReferenceFacts = facts["references"]
    for reference in seen.references:
        if reference.problem:
            yield Finding(
                id="lab.references",
                severity=Severity.ERROR,
                subject=reference.where,
                expected=f"a secret at {reference.reference}",
                got=reference.problem,
                remedy=_REMEDIES.get(reference.reference.partition(":")[0], ""),
            )


def _find_addresses(facts: Mapping[str, Any]) -> Iterator[Finding]:
    seen: EndpointFacts = facts["endpoints"]
    for endpoint in seen.endpoints:
        finding = Finding(
            id="lab.addresses",
            severity=Severity.ERROR,
            subject=f"{endpoint.purpose} {endpoint.name}",
            expected="an answer",
            got=endpoint.problem or "none",
            remedy="look whether the machine is on, and whether this one may reach the port",
        )
        if not endpoint.reachable:
            yield finding
        elif not endpoint.verified:
            remedy = "compare it with the one that the system itself shows, then set tls in the lab file"
            yield finding.model_copy(update={"expected": "the expected certificate", "remedy": remedy})
        elif endpoint.expires is not None and endpoint.expires - seen.read_at < _SOON:
            days = (endpoint.expires - seen.read_at).days
            yield finding.model_copy(
                update={
                    "severity": Severity.WARNING,
                    "expected": f"a certificate for {_SOON.days} days or more",
                    "got": f"{days} days",
                    "remedy": "renew it: on a Proxmox host, `pvecm updatecerts`",
                }
            )


_REMEDIES: Mapping[str, str] = {
    "env": "export the variable before the run",
    "file": "make the file, readable by you alone (mode 0600)",
    "sops": "look whether sops can decrypt the file here, and at the key's path",
    "keyring": "store it: `keyring set SERVICE NAME`",
}
