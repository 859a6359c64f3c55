"""Plan Flux: its files in a new repository, its secrets, components and sync, what is suspended, the chain. Pure."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypedDict

from labkit.checks.base import error, info, warning
from labkit.checks.flux import check_age_key, check_repository_for_flux, check_stored_versions
from labkit.errors import InputError, Mistake
from labkit.facts.flux import NAMESPACE, FluxFacts, FluxObject, SecretSeen
from labkit.facts.git import GitFacts
from labkit.lab import Lab
from labkit.lab.fluxsync import COMPONENTS, KUSTOMIZATION, SYNC, render_kustomization, render_sync, sync_objects
from labkit.plan import Action, Change, Finding, Plan, Risk

RUNBOOK = "bootstrap-flux"
ROOT = f"Kustomization/{NAMESPACE}/flux-system"
SOURCE = f"GitRepository/{NAMESPACE}/flux-system"
OURS = "labkit"
"""The field manager that holds a suspension of ours."""


class Facts(TypedDict):
    """What this plan looks at."""

    git: GitFacts
    flux: FluxFacts


def plan_flux(
    lab: Lab,
    facts: Facts,
    *,
    components: str = "",
    suspend: tuple[str, ...] = (),
    resume: tuple[str, ...] = (),
) -> Plan:
    """Plan what makes the cluster follow the repository.

    Args:
        lab: what is wanted.
        facts: the repository and the cluster, as they were seen just now.
        components: Flux's components, for a repository that has none yet.
        suspend: Kustomizations that Flux shall not reconcile, from its first look on.
        resume: Kustomizations of which a suspension of ours is taken back.

    Raises:
        InputError: `suspend` or `resume` names what does not exist, or the same.
    """
    git, flux = facts["git"], facts["flux"]
    _check_names(git, flux, suspend, resume, components)
    files = list(_files(lab, git, components))
    setup = [*_namespace(flux), *_secrets(git, flux), *_components(git, flux, components, bool(files))]
    asleep = list(_suspended(git, flux, suspend, setup))
    sync = list(_sync(lab, git, flux, [*files, *setup, *asleep]))
    awake = list(_resumed(flux, resume))
    before = [*files, *setup, *asleep, *sync, *awake]
    changes = [*before, *_chain(git, flux, before, suspend)]
    findings = [*_findings(lab, git, flux, components), *_asleep(flux, suspend, resume)]
    return Plan(runbook=RUNBOOK, lab=lab.name, changes=tuple(changes), findings=tuple(findings))


def _files(lab: Lab, git: GitFacts, components: str) -> Iterator[Change]:
    """The three files of bootstrap, for a repository without them."""
    texts = {f"{git.flux_folder}/{SYNC}": render_sync(lab.git),
             f"{git.flux_folder}/{KUSTOMIZATION}": render_kustomization()}  # fmt: skip
    if components and not git.flux_version:
        texts[f"{git.flux_folder}/{COMPONENTS}"] = components
    missing = {path: text for path, text in texts.items() if path not in git.texts}
    if not missing:
        return
    start = Change(system="git", kind="checkout", target=RUNBOOK, action=Action.ACT, after={"files": dict(missing)},
                   note=f"a fresh checkout of {git.branch} to work in")  # fmt: skip
    yield start
    made = [
        Change(system="git", kind="file", target=path, action=Action.CREATE,
               after={"sha256": short_hash(text)}, needs=(start.id,),
               note=f"+{len(text.splitlines())} lines")
        for path, text in sorted(missing.items())
    ]  # fmt: skip
    yield from made
    yield Change(system="git", kind="commit", target=git.branch, action=Action.ACT,
                 after={"message": "Add Flux"}, needs=tuple(one.id for one in made),
                 note="commit and push")  # fmt: skip


def short_hash(text: str) -> str:
    """Return a short hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _namespace(flux: FluxFacts) -> Iterator[Change]:
    if not flux.namespace:
        yield Change(system="flux", kind="namespace", target=NAMESPACE, action=Action.CREATE, note="for Flux")


def _secrets(git: GitFacts, flux: FluxFacts) -> Iterator[Change]:
    """Flux's secrets before Flux itself: its first reconcile must find them.

    Hashes of their values stand in the note only: the same plan on the twin has other keys and the same digest.
    """
    needs = tuple(change.id for change in _namespace(flux))
    deploy, age = flux.wanted_secrets
    names = [(deploy, _source_secret(git)), *((age, name) for name in decryption_secrets(git))]
    for wanted, name in names:
        seen = flux.secret(name)
        if seen is not None and _holds(seen, wanted):
            continue
        yield Change(
            system="flux",
            kind="secret",
            target=name,
            action=Action.UPDATE if seen is not None else Action.CREATE,
            before={} if seen is None else {"differs": [*_differing(seen.keys, wanted.keys)]},
            after={"holds": wanted.name, "keys": sorted(wanted.keys)},
            needs=needs,
            note=", ".join(f"{key} {value}" for key, value in wanted.keys.items()),
        )


def _holds(seen: SecretSeen, wanted: SecretSeen) -> bool:
    """Whether a Secret has what Flux needs; an age key counts under any name that ends in .agekey."""
    if any(key.endswith(".agekey") for key in wanted.keys):  # a field, no mapping
        mine = set(wanted.keys.values())
        return any(key.endswith(".agekey") and value in mine for key, value in seen.keys.items())
    return all(seen.keys.get(key) == value for key, value in wanted.keys.items())


def _differing(seen: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    return (key for key, value in wanted.items() if seen.get(key) != value)


def _source_secret(git: GitFacts) -> str:
    source = git.resource("GitRepository", "flux-system", NAMESPACE)
    return str((source.get("spec", "secretRef", "name") if source is not None else "") or "flux-system")


def decryption_secrets(git: GitFacts) -> tuple[str, ...]:
    """Return the Secrets that the repository's Kustomizations decrypt with; `sops-age` when none says so."""
    found = {str(one.source.get("spec", "decryption", "secretRef", "name") or "") for one in git.builds
             if one.source.namespace == NAMESPACE}  # fmt: skip
    return tuple(sorted(found - {""})) or ("sops-age",)


def _components(git: GitFacts, flux: FluxFacts, components: str, has_files: bool) -> Iterator[Change]:
    wanted = git.flux_version or ("of the given file" if components else "")
    needs = [change.id for change in (*_namespace(flux), *_secrets(git, flux))]
    if has_files:
        needs.append(f"commit/{git.branch}/act")
    missing = [name for name in git.crds if name not in flux.crds]
    seen = {one.name: one.images[0] if one.images else "" for one in flux.controllers}
    changed = {name: image for name, image in git.controllers.items() if seen.get(name) != image}
    if not wanted or (flux.installed and not missing and not changed and not has_files):
        return
    before = {name: seen[name] for name in changed if name in seen}
    yield Change(
        system="flux",
        kind="components",
        target="flux",
        action=Action.UPDATE if flux.installed else Action.CREATE,
        before={"version": flux.installed, **before} if flux.installed else {},
        after={"version": wanted, **changed, **({"definitions": len(missing)} if missing else {})},
        risk=Risk.SAFE,
        needs=tuple(needs),
        note="" if flux.installed else f"{wanted}: {', '.join(git.controllers) or 'its controllers'}",
    )


def _suspended(git: GitFacts, flux: FluxFacts, suspend: Iterable[str], setup: list[Change]) -> Iterator[Change]:
    """Kustomizations that exist suspended before Flux makes them, so that no reconcile comes first."""
    needs = tuple(change.id for change in setup if change.kind == "components")
    for name in suspend:
        build = git.build(name)
        space = build.source.namespace if build is not None else NAMESPACE
        short = build.source.name if build is not None else name
        seen = flux.find(f"Kustomization/{space}/{short}")
        if seen is not None and seen.suspended:
            continue
        yield Change(
            system="flux",
            kind="kustomization",
            target=short,
            action=Action.CREATE if seen is None else Action.UPDATE,
            before={} if seen is None else {"suspend": False},
            after={"suspend": True, "namespace": space},
            needs=needs,
            note="suspended before Flux sees it" if seen is None else "suspended",
        )


def _resumed(flux: FluxFacts, resume: Iterable[str]) -> Iterator[Change]:
    for name in resume:
        seen = _named(flux, name)
        if seen is not None and seen.suspended:
            yield Change(system="flux", kind="kustomization", target=seen.name, action=Action.UPDATE,
                         before={"suspend": True}, after={"suspend": False, "namespace": seen.namespace},
                         note="resumed: the field goes back to Flux")  # fmt: skip


def _named(flux: FluxFacts, name: str) -> FluxObject | None:
    return next((one for one in flux.kustomizations if name in (one.name, f"{one.namespace}/{one.name}")), None)


def _sync(lab: Lab, git: GitFacts, flux: FluxFacts, before: list[Change]) -> Iterator[Change]:
    source, entry = _wanted_sync(lab, git)
    for identity, wanted in ((SOURCE, source), (ROOT, entry)):
        kind = identity.partition("/")[0]
        seen = flux.find(identity)
        differs = _spec_differences(wanted, seen.spec if seen is not None else {})
        if seen is not None and not differs:
            continue
        yield Change(
            system="flux",
            kind=kind.lower(),
            target="flux-system",
            action=Action.CREATE if seen is None else Action.UPDATE,
            before={} if seen is None else {key: old for key, (old, _) in differs.items()},
            after={key: new for key, (_, new) in differs.items()},
            needs=tuple(change.id for change in before) if seen is None else (),
            note=_about(wanted) if seen is None else "",
        )


def _about(spec: Mapping[str, Any]) -> str:
    if "url" in spec:
        return f"follows {(spec.get('ref') or {}).get('branch')} of {spec['url']}"
    return f"applies {spec.get('path')}"


def _wanted_sync(lab: Lab, git: GitFacts) -> tuple[dict[str, Any], dict[str, Any]]:
    """The specs of the sync objects: as committed, else as they will be committed."""
    source, entry = (dict(one["spec"]) for one in sync_objects(lab.git))
    for resource in git.repository.by_path[path].resources() if (path := f"{git.flux_folder}/{SYNC}") in git.texts \
            and path in git.repository.by_path else ():  # fmt: skip
        if resource.name == "flux-system" and resource.kind == "GitRepository":
            source = dict(resource.get("spec") or {})
        elif resource.name == "flux-system" and resource.kind == "Kustomization":
            entry = dict(resource.get("spec") or {})
    built = git.resource("Kustomization", "flux-system", NAMESPACE)
    return source, dict(built.get("spec")) if built is not None and built.get("spec") else entry


def _spec_differences(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What a wanted spec has that a seen one has not; what the API itself filled in does not count."""
    return {key: (seen.get(key), value) for key, value in wanted.items() if not _covers(seen.get(key), value)}


def _covers(seen: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping) and isinstance(seen, Mapping):
        return all(_covers(seen.get(key), value) for key, value in wanted.items())
    return bool(seen == wanted)


def _chain(git: GitFacts, flux: FluxFacts, before: list[Change], suspend: Iterable[str]) -> Iterator[Change]:
    waiting = waiting_for(git, flux)
    if not before and not waiting:
        return
    asleep = sorted({*suspend, *(one.name for one in flux.kustomizations if one.suspended)})
    yield Change(
        system="flux",
        kind="chain",
        target=git.path or "flux-system",
        action=Action.ACT,
        after={"but": [*asleep]},
        needs=tuple(change.id for change in before),
        note=f"reconcile and wait; not yet live: {', '.join(waiting)}" if waiting else "reconcile and wait",
    )


def waiting_for(git: GitFacts, flux: FluxFacts) -> tuple[str, ...]:
    """Return the Kustomizations (and sources) that are not live at the head, and are not asleep."""
    asleep = {one.id for one in flux.kustomizations if one.suspended}
    while more := {one.id for one in flux.kustomizations if one.id not in asleep and asleep & set(one.needs)}:
        asleep |= more
    found = []
    for one in flux.objects:
        if one.id in asleep or one.suspended:
            continue
        mine = one.kind == "Kustomization" and one.source == SOURCE
        behind = (one.id == SOURCE and one.artifact != git.revision) or (mine and one.applied != git.revision)
        if not (one.is_ready or one.is_rechecking) or (behind and git.revision):
            found.append(one.name)
    return tuple(dict.fromkeys(found))


def _findings(lab: Lab, git: GitFacts, flux: FluxFacts, components: str) -> Iterator[Finding]:
    yield from check_repository_for_flux(git)
    yield from check_age_key(git)
    yield from check_stored_versions(git, flux)
    if not git.flux_version and not components:
        expected = f"{git.flux_folder}/{COMPONENTS} in the repository, or components as a parameter"
        yield error("flux.components", "Flux", expected, "neither", "give components=FILE, of `flux install --export`")
    if flux.managed_by:
        yield error("flux.managed", "Flux", "to be managed by its own files in Git", f"managed by {flux.managed_by}",
                    "leave it to that tool, or uninstall it there first")  # fmt: skip
    seen = flux.find(ROOT)
    wanted = str(_wanted_sync(lab, git)[1].get("path") or "")
    if seen is not None and _plain(seen.path) != _plain(wanted):
        yield error("flux.path", ROOT, f"path {wanted}", seen.path, "look at git.path of the lab file: what the other "
                    "path holds would be pruned")  # fmt: skip
    if _plain(wanted) != git.path:
        yield error("flux.lab-path", f"{git.flux_folder}/{SYNC}", f"path ./{git.path}, as git.path says", wanted,
                    "correct git.path of the lab file")  # fmt: skip


def _plain(path: str) -> str:
    return path.removeprefix("./").strip("/")


def _asleep(flux: FluxFacts, suspend: Iterable[str], resume: Iterable[str]) -> Iterator[Finding]:
    for one in flux.kustomizations:
        if one.suspended and one.name not in (*suspend, *resume):
            by = one.suspended_by or "somebody"
            find = warning if one.suspended_by == OURS else info
            yield find("flux.suspended", one.id, "it to be reconciled", f"suspended by {by}",
                       f"when it is time: resume=[{one.name}]")  # fmt: skip


def _check_names(
    git: GitFacts, flux: FluxFacts, suspend: Iterable[str], resume: Iterable[str], components: str
) -> None:
    known = {one.source.name for one in git.builds} | {one.name for one in flux.kustomizations}
    known |= {f"{one.source.namespace}/{one.source.name}" for one in git.builds}
    mistakes = [
        Mistake("parameters", 0, 0, where, "a Kustomization of the repository", name, _near(name, known))
        for where, names in (("suspend", suspend), ("resume", resume))
        for name in names
        if name not in known
    ]
    mistakes += [Mistake("parameters", 0, 0, "resume", "a Kustomization that is not in suspend as well", name)
                 for name in resume if name in tuple(suspend)]  # fmt: skip
    # Planned again after they were committed, they are the same.
    if components and git.flux_version and git.texts.get(f"{git.flux_folder}/{COMPONENTS}") != components:
        got = f"components, although {git.flux_folder} has those of {git.flux_version}"
        mistakes.append(Mistake("parameters", 0, 0, "components", "none: Git's own count", got))
    if mistakes:
        raise InputError(mistakes)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]}?" if near else ""
