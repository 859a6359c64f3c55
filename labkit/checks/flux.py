"""Checks before and after Flux is set up: does the repository fit, the key open every secret, is the chain live?"""

from __future__ import annotations

from collections.abc import Iterator

from labkit.checks.base import Check, error, warning
from labkit.checks.repository import check_repository
from labkit.checks.repository.versions import parse_flux
from labkit.facts.causes import causes, show_condition
from labkit.facts.flux import NAMESPACE, FluxFacts, FluxObject
from labkit.facts.git import GitFacts
from labkit.lab import Lab
from labkit.plan import Finding, Severity

REMEDY = "run bootstrap-flux"
STOPPING = frozenset({
    "build-failed", "flux-path-missing", "flux-variable-undefined", "flux-dependency-missing",
    "flux-dependency-circle", "flux-source-missing", "flux-api-removed", "sops-no-decryption",
})  # fmt: skip
"""The rules of `labkit check repo` whose findings keep Flux from applying something."""


def flux_preflight(lab: Lab) -> tuple[Check, ...]:
    """Return the checks before Flux first reconciles: nothing that it will stumble over stands in Git."""
    return (
        Check("flux-repository", f"the repository of {lab.name} builds, and fits its Flux version", ("git",),
              lambda facts: check_repository_for_flux(facts["git"])),
        Check("flux-age-key", "the age key opens every secret that the cluster will need", ("git",),
              lambda facts: check_age_key(facts["git"])),
        Check("flux-host", "the Git server is known by its host key", ("git",),
              lambda facts: _check_host(facts["git"])),
    )  # fmt: skip


def check_repository_for_flux(git: GitFacts) -> Iterator[Finding]:
    """Yield what would keep Flux from applying the repository: builds, references, removed API versions."""
    version = parse_flux(git.flux_version) if git.flux_version else None
    found = check_repository(git.repository, flux=version) if version else check_repository(git.repository)
    return (one.as_finding() for one in found if one.id in STOPPING and one.severity is Severity.ERROR)


def check_age_key(git: GitFacts) -> Iterator[Finding]:
    """Yield every encrypted file that Flux applies and that the lab's age key does not open."""
    applied = git.repository.applied_files
    for one in git.repository.decryptions:
        if one.path in applied and one.result != "ok":
            why = {"key": "it is for another key", "mac": "its MAC does not match"}.get(one.result, one.message)
            remedy = (
                "give git.age_key the key that opens it (the twin: --age-key of labkit rehearse or labkit twin up), "
                "or sops updatekeys the file with one that does"
            )
            yield error("flux.age-key", one.path, "git.age_key to open it", why, remedy)


def _check_host(git: GitFacts) -> Iterator[Finding]:
    if not git.host_keys:
        yield error("flux.host", git.url, "a known host key", "none", "name a known_hosts file in git.known_hosts")


def check_stored_versions(git: GitFacts, flux: FluxFacts) -> Iterator[Finding]:
    """Yield definitions whose objects are stored in versions that the committed Flux does not bring any more."""
    for name, stored in flux.crds.items():
        gone = [version for version in stored if name in git.crds and version not in git.crds[name]]
        if gone:
            expected, got = f"objects stored as {', '.join(git.crds[name])}", f"some stored as {', '.join(gone)}"
            yield error("flux.stored-versions", name, expected, got, "run flux migrate on the cluster first")
    if flux.installed and git.flux_version and _number(flux.installed) > _number(git.flux_version):
        yield warning("flux.older", "Flux", f"{git.flux_version} or older in the cluster", flux.installed,
                      "Git is behind: commit the newer components, or mean it")  # fmt: skip


def _number(version: str) -> tuple[int, ...]:
    digits = version.removeprefix("v").partition("-")[0].split(".")
    return tuple(int(part) for part in digits if part.isdecimal())


def flux_is_live(lab: Lab) -> Check:
    """Return the check that the whole chain is live at the head of the branch."""
    sentence = f"Flux follows {lab.git.branch}, and everything it applies is ready at the newest commit"
    return Check("flux-live", sentence, ("git", "flux"), lambda facts: check_live(facts["git"], facts["flux"]))


def check_live(git: GitFacts, flux: FluxFacts) -> Iterator[Finding]:
    """Yield the deepest causes of what is not live, and what is merely behind; the suspended as a warning."""
    if not flux.controllers:
        yield error("flux.installed", "Flux", "its controllers in the cluster", "none", REMEDY)
        return
    found = causes(flux, git.places())
    for one in found:
        place = f" ({one.file})" if one.file else ""
        severity = warning if one.condition == "suspended" else error
        yield severity(
            "flux.cause", one.object + place, "it to be ready", f"{one.condition}: {one.message}", one.remedy
        )
    if not found:
        yield from _behind(git, flux)


def _behind(git: GitFacts, flux: FluxFacts) -> Iterator[Finding]:
    source = f"GitRepository/{NAMESPACE}/flux-system"
    if flux.find(source) is None or flux.find(f"Kustomization/{NAMESPACE}/flux-system") is None:
        yield error("flux.sync", "Flux", "GitRepository and Kustomization flux-system", "not both", REMEDY)
    for one in flux.objects:
        seen = one.artifact if one.id == source else one.applied
        follows = one.id == source or (one.kind == "Kustomization" and one.source == source)
        if follows and not one.suspended and seen != git.revision:
            yield error("flux.behind", one.id, f"revision {git.revision}", seen or show_condition(one), REMEDY)


def suspended_rows(flux: FluxFacts) -> tuple[FluxObject, ...]:
    """Return what is suspended."""
    return tuple(one for one in flux.objects if one.suspended)
