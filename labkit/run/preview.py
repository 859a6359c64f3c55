"""Before an app is approved: its files as a diff, and the repository checker's word on the result."""

from __future__ import annotations

from labkit.checks.repository import RepoFinding, check_repository
from labkit.checks.repository.versions import parse_flux
from labkit.errors import Refused
from labkit.facts.git import GitFacts
from labkit.facts.repository import RepositoryFacts
from labkit.lab.apps import AppSpec
from labkit.plan import Plan, Severity
from labkit.report.diffs import DiffView
from labkit.rules.apps import shown_files
from labkit.run.core import Run
from labkit.secrets import redact
from labkit.systems.apps import render_tree
from labkit.systems.git import checked_out, fetch
from labkit.systems.repository import read_repository


def preview_app(run: Run, plan: Plan, *, app: AppSpec, remove: bool = False, via: str = "push") -> DiffView:
    """Return what a plan does to the files, with what the checker newly finds in the result.

    Raises:
        Refused: the checker finds an error that is not in the repository now.
    """
    git: GitFacts = run.latest("git")
    files = shown_files(run.lab, git, plan, app=app, remove=remove, via=via)
    found = _new_findings(run, plan, git) if files else ()
    if errors := [one for one in found if one.severity is Severity.ERROR]:
        lines = "\n".join(f"  {one}" for one in errors)
        got = f"{len(errors)} new errors; nothing was written\n{lines}"
        raise Refused(f"app {app.name}: expected a repository that the checker is content with, got {got}",
                      next_step="correct the app's parameters, or the repository")  # fmt: skip
    view = DiffView(
        [(one.path, _safe(one.before), _safe(one.after)) for one in files], [redact(str(one)) for one in found]
    )
    (run.folder / "changes.diff").write_text(str(view), encoding="utf-8")
    return view


def _safe(text: str | None) -> str | None:
    return None if text is None else redact(text)


def _new_findings(run: Run, plan: Plan, git: GitFacts) -> tuple[RepoFinding, ...]:
    """What the checker finds in the result and not in the repository as it is."""
    work = next((change for change in plan.changes if change.kind == "checkout"), None)
    if work is None:
        return ()
    with checked_out(fetch(run.lab, run.access), git.head) as folder:
        render_tree(run.lab, run.access, work, folder)
        after = read_repository(folder)
    known = {one.fingerprint for one in _check(git.repository, git)}
    return tuple(one for one in _check(after, git) if one.fingerprint not in known)


def _check(facts: RepositoryFacts, git: GitFacts) -> tuple[RepoFinding, ...]:
    version = parse_flux(git.flux_version)
    return check_repository(facts, flux=version) if version else check_repository(facts)
