"""Plan an app: its files in Git, the commit, the reconcile, Authelia's restart, its route; or its end. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TypedDict

from labkit.checks.apps import check_mistakes
from labkit.checks.base import error
from labkit.checks.repository.routes import routes
from labkit.errors import InputError, Mistake
from labkit.facts.apps import AppFacts, ClaimRow
from labkit.facts.flux import NAMESPACE, FluxFacts
from labkit.facts.git import GitFacts
from labkit.lab import Lab
from labkit.lab.apprender import RepoForm
from labkit.lab.apps import AppSpec
from labkit.plan import Action, Change, Finding, Plan, Risk
from labkit.rules.app_files import FileChange, added_files, current_texts, payload, removed_files
from labkit.rules.app_form import (
    apps_build,
    authelia_config,
    authelia_file,
    authelia_workload,
    repo_form,
)

RUNBOOK = "add-app"
SOURCE = f"GitRepository/{NAMESPACE}/flux-system"
_VIA = ("push", "pull-request")


class Facts(TypedDict):
    """What this plan looks at."""

    git: GitFacts
    flux: FluxFacts
    apps: AppFacts


def plan_app(
    lab: Lab,
    facts: Facts,
    *,
    app: AppSpec,
    remove: bool = False,
    destroy: tuple[str, ...] = (),
    via: str = "push",
) -> Plan:
    """Plan what makes an app live, or what takes it out.

    Args:
        lab: what is wanted.
        facts: the repository, Flux, and the claims of the cluster, as they were seen just now.
        app: the app.
        remove: take it out instead.
        destroy: claims whose data may be deleted with it, each by its name.
        via: `push` commits on the branch, `pull-request` on a branch of its own for review.

    Raises:
        InputError: `via` is neither of both.
    """
    if via not in _VIA:
        raise InputError([Mistake("parameters", 0, 0, "via", " or ".join(_VIA), repr(via))])
    git = facts["git"]
    form, authelia = repo_form(lab, git, app.name), authelia_file(git)
    branch = work_branch(git, app.name, remove=remove, via=via)
    texts = current_texts(git, branch)
    findings = list(check_mistakes(lab, git, app, form, authelia, remove=remove))
    hosts = own_hosts(git, app, form) if remove else None
    files = _files(texts, app, form, authelia, hosts=hosts) if not _blocked(findings) else ()
    commit = _commit(git, app, form, files, branch=branch, remove=remove)
    if via == "pull-request" or _blocked(findings):
        changes: list[Change] = commit
    elif remove:
        changes = [*commit, *_volumes(lab, facts, app, form, commit)]
        findings += _unnamed(changes, destroy)
    else:
        changes = [*commit, *_live(facts, app, form, authelia, commit)]
    return Plan(runbook=RUNBOOK, lab=lab.name, changes=tuple(changes), findings=tuple(findings))


def work_branch(git: GitFacts, name: str, *, remove: bool, via: str) -> str:
    """Return the branch that is pushed to."""
    return git.branch if via == "push" else f"labkit/{'remove' if remove else 'add'}-{name}"


def _blocked(findings: Iterable[Finding]) -> bool:
    return any(finding.severity.rank == 2 for finding in findings)


def _files(
    texts: Mapping[str, str], app: AppSpec, form: RepoForm, authelia: str, *, hosts: tuple[str, ...] | None
) -> tuple[FileChange, ...]:
    if hosts is not None:
        return tuple(removed_files(texts, app.name, hosts, form, authelia))
    return tuple(added_files(texts, app, form, authelia))


def _commit(
    git: GitFacts, app: AppSpec, form: RepoForm, files: Iterable[FileChange], *, branch: str, remove: bool
) -> list[Change]:
    """A checkout, each file, and the commit that is pushed."""
    some = sorted(files, key=lambda one: one.path)
    if not some:
        return []
    note = f"a fresh checkout of {git.branch} to work in"
    after = {**payload(app, form, {one.path: one.do for one in some}), "branch": branch}
    start = Change(system="apps", kind="checkout", target=app.name, action=Action.ACT, after=after, note=note)
    made = [_file(one, start) for one in some]
    needs = tuple(change.id for change in made)
    message = f"{'Remove' if remove else 'Change' if _is_update(some, form, app) else 'Add'} {app.name}"
    after = {"message": message, "app": app.name}
    if remove and branch == git.branch:
        # Deletions come last in a plan: the commit that carries them is one itself.
        after |= {"branch": branch, "namespace": form.namespace, "folder": f"{form.folder}/{app.name}",
                  "host": next(iter(own_hosts(git, app, form)), "")}  # fmt: skip
        last = Change(system="apps", kind="app", target=app.name, action=Action.DELETE, after=after,
                      risk=Risk.DISRUPTIVE, needs=needs, note="commit, push, and wait until it is gone")  # fmt: skip
    else:
        action = Action.DELETE if remove else Action.ACT
        last = Change(system="apps", kind="commit", target=branch, action=action, after=after, needs=needs,
                      note=f"commit and push: {message}")  # fmt: skip
    return [start, *made, last]


def _is_update(files: Iterable[FileChange], form: RepoForm, app: AppSpec) -> bool:
    return any(one.before is not None and one.path.startswith(f"{form.folder}/{app.name}/") for one in files)


def _file(one: FileChange, start: Change) -> Change:
    action = Action.CREATE if one.before is None else Action.DELETE if one.after is None else Action.UPDATE
    kept = one.do.get("secret") or one.do.get("authelia")
    restarts = action is Action.UPDATE and not one.do.get("authelia")
    return Change(
        system="apps",
        kind="file",
        target=one.path,
        action=action,
        before={} if one.before is None else {"sha256": _hash(one.before)},
        after={} if one.after is None else {"sha256": _hash(one.after)},
        risk=Risk.DISRUPTIVE if restarts and not kept else Risk.SAFE,
        needs=(start.id,),
        note=one.counts,
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _live(facts: Facts, app: AppSpec, form: RepoForm, authelia: str, commit: list[Change]) -> Iterator[Change]:
    """What follows the push: the reconcile, Authelia's restart where its file changed, the route."""
    flux, git = facts["flux"], facts["git"]
    build = apps_build(git)
    kustomization = build.source.name if build is not None else "apps"
    needs = tuple(change.id for change in commit if change.kind == "commit")
    edited = any(change.target == authelia for change in commit)
    stale = edited or _is_stale(facts)
    waits = bool(commit) or not _is_there(flux, git, app, form, kustomization)
    if waits:
        done = Change(system="apps", kind="reconcile", target=kustomization, action=Action.ACT,
                      after={"workload": f"Deployment/{form.namespace}/{app.name}",
                             "also": [*_owner(git, authelia)] if edited else []}, needs=needs,
                      note="wait for the new revision and the Deployment")  # fmt: skip
        yield done
        needs = (done.id,)
    workload = authelia_workload(git)
    if stale and workload:
        again = Change(system="apps", kind="restart", target=workload, action=Action.ACT, risk=Risk.DISRUPTIVE,
                       needs=needs, note="Authelia reads its rules and clients only when it starts")  # fmt: skip
        yield again
        if app.authentication != "none":  # an open app does not wait for Authelia
            needs = (*needs, again.id)
    if waits:
        yield Change(system="apps", kind="route", target=app.host, action=Action.ACT,
                     after={"authentication": app.authentication}, needs=needs,
                     note="wait for its answer over HTTPS")  # fmt: skip


def _owner(git: GitFacts, path: str) -> Iterator[str]:
    """The Kustomization that applies a file."""
    for build in git.builds:
        if build.source.namespace == NAMESPACE and any(one.file == path for one in build.resources):
            yield build.source.name


def own_hosts(git: GitFacts, app: AppSpec, form: RepoForm) -> tuple[str, ...]:
    """Return the hosts that an app's own routes answer for; the given one when it has none."""
    folder = f"{form.folder}/{app.name}/"
    found = {host for route in (routes(git.cluster) if git.cluster is not None else ()) for host in route.hosts
             if route.resource.file.startswith(folder)}  # fmt: skip
    return tuple(sorted(found)) or (app.host,)


def _is_there(flux: FluxFacts, git: GitFacts, app: AppSpec, form: RepoForm, kustomization: str) -> bool:
    one = flux.find(f"Kustomization/{NAMESPACE}/{kustomization}")
    workload = flux.workload(f"Deployment/{form.namespace}/{app.name}")
    current = one is not None and (
        one.suspended or ((one.is_ready or one.is_rechecking) and one.applied == git.revision)
    )
    return current and workload is not None and workload.is_ready


def _is_stale(facts: Facts) -> bool:
    """Whether Authelia was started before its configuration changed last."""
    space, name = authelia_config(facts["git"])
    config = next((one for one in facts["apps"].configs if (one.namespace, one.name) == (space, name)), None)
    workload = facts["flux"].workload(authelia_workload(facts["git"]))
    if config is None or config.changed is None or workload is None or workload.started is None:
        return False
    return workload.started < config.changed


def _volumes(lab: Lab, facts: Facts, app: AppSpec, form: RepoForm, commit: list[Change]) -> Iterator[Change]:
    """The data that goes with an app, each volume by its name."""
    needs = tuple(change.id for change in commit if change.kind == "app")
    if not needs:
        return
    for claim in _claims(lab, facts, app, form):
        data = f"{claim.size} of {claim.nfs}" if claim.nfs else f"{claim.size} in {claim.volume or 'no volume yet'}"
        yield Change(
            system="apps",
            kind="volume",
            target=claim.name,
            action=Action.DELETE,
            before={"namespace": claim.namespace, "volume": claim.volume, "size": claim.size},
            risk=Risk.SAFE if claim.keeps else Risk.DESTRUCTIVE,
            needs=needs,
            note=f"{data}: {'its data stays' if claim.keeps else 'the data is deleted'}",
        )


def _claims(lab: Lab, facts: Facts, app: AppSpec, form: RepoForm) -> Iterator[ClaimRow]:
    del lab
    git, folder = facts["git"], f"{form.folder}/{app.name}/"
    for one in git.cluster.resources if git.cluster is not None else ():
        if one.kind == "PersistentVolumeClaim" and one.file.startswith(folder):
            found = facts["apps"].claim(one.namespace, one.name)
            if found is not None:
                yield found


def _unnamed(changes: Iterable[Change], destroy: tuple[str, ...]) -> Iterator[Finding]:
    for change in changes:
        if change.risk is Risk.DESTRUCTIVE and change.target not in destroy:
            yield error("app.data", f"volume {change.target}", "its name in destroy, since its data is deleted",
                        "it is not named", f"back it up, then destroy=[{change.target}]")  # fmt: skip
    doomed = {change.target for change in changes if change.kind == "volume"}
    for name in destroy:
        if name not in doomed:
            yield error("app.destroy", f"volume {name}", "a claim of this app", "none of that name", "correct destroy")


def shown_files(
    lab: Lab, git: GitFacts, plan: Plan, *, app: AppSpec, remove: bool = False, via: str = "push"
) -> tuple[FileChange, ...]:
    """Return the files of a plan with their texts, for a person to read; a secret's values are not in them."""
    named = {change.target for change in plan.changes if change.kind == "file"}
    texts = current_texts(git, work_branch(git, app.name, remove=remove, via=via))
    form = repo_form(lab, git, app.name)
    hosts = own_hosts(git, app, form) if remove else None
    files = _files(texts, app, form, authelia_file(git), hosts=hosts) if named else ()
    return tuple(one for one in files if one.path in named)
