"""The Run: what a notebook holds in its hands. It reads, plans, applies, verifies, and writes everything down."""

from __future__ import annotations

import inspect
import json
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labkit.checks.base import Check
from labkit.checks.health import needed_systems
from labkit.errors import CheckFailed, LabError, StepFailed, counted
from labkit.facts.survey import Unread
from labkit.lab import Lab
from labkit.lab.loader import load_lab
from labkit.plan import Finding, Plan, Severity
from labkit.run import parameters, registry
from labkit.run.connect import Connection, check_on, connect
from labkit.run.folders import find_input, new_run_folder, outputs_root
from labkit.run.gate import check_approval, pass_gate
from labkit.run.journal import Journal, now_utc, whoami
from labkit.run.lock import lab_lock
from labkit.run.notices import Board, Draw, in_notebook, register_pictures, show
from labkit.run.rehearsed import remember_rehearsal, say_rehearsal
from labkit.run.schedule import Outcome, Scheduler
from labkit.run.survey import Survey, survey
from labkit.secrets import redact

Planner = Callable[..., Plan]


@dataclass(frozen=True)
class Recipe:
    """How a plan was made, so that it can be made again from fresh facts."""

    planner: Planner
    reads: tuple[str, ...]
    wants: Mapping[str, Any]


class Run:
    """One execution of a runbook on one lab; made by `start`.

    Attributes:
        lab: the wanted state.
        on: `twin` or `lab`.
        folder: where this run writes its files.
    """

    def __init__(
        self,
        runbook: str,
        lab: Lab,
        *,
        on: Literal["twin", "lab"],
        folder: Path,
        outputs: Path,
        connection: Connection,
    ) -> None:
        self.runbook = runbook
        self.lab = lab
        self.on = on
        self.folder = folder
        self.journal = Journal(folder / "journal.jsonl", runbook=runbook, lab=lab.name, on=on, who=whoami())
        self._outputs = outputs
        self._connection = connection
        # A start cell that is run again, or an error, leaves a run behind without close().
        self._end = weakref.finalize(self, connection.close)
        self._facts: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}
        self._recipes: dict[str, Recipe] = {}
        self._last_plan: Plan | None = None
        self._summary: dict[str, Any] = {
            "changes": 0,
            "applied": [],
            "second_plan_changes": None,
            "findings": [],
        }
        self._stale = False
        self._applied = ""
        self._began = time.monotonic()
        self.journal.write("started")

    @property
    def outputs(self) -> Path:
        """The folder under which all runs of this lab file put theirs."""
        return self._outputs

    @property
    def access(self) -> Any:
        """How the systems are reached."""
        return self._connection.access

    def read(self, *names: str, **asked: Any) -> Any:
        """Read systems side by side; return the facts of one, or a mapping by name of several.

        Args:
            names: the systems.
            asked: what the run is about; readers that have such an argument get it, at every later reading too.

        Raises:
            SystemDown: a system cannot be reached.
        """
        self._asked.update(asked)
        fresh = self._read(names)
        self._facts.update(fresh)
        return fresh[names[0]] if len(names) == 1 else fresh

    def survey(self, *names: str) -> Survey:
        """Read systems side by side, all that health checks look at when none is named; nothing is raised.

        A system that does not answer, or whose reader fails, gives an `Unread` in place of its facts.
        """
        wanted = names or needed_systems()
        result = survey(self.lab, self.access, wanted, tell=self._tell_unread)
        fresh = {name: facts for name, facts in result.facts.items() if not isinstance(facts, Unread)}
        self._facts.update(fresh)
        self._save_facts(fresh)
        self.journal.write("surveyed", systems=list(wanted), **result.cost.model_dump(mode="json"))
        return result

    def _tell_unread(self, name: str, error: Exception) -> None:
        trace = "" if isinstance(error, LabError) else "".join(traceback.format_exception(error))
        self.journal.write("not read", system=name, error=type(error).__name__, text=str(error), trace=trace)

    def latest(self, name: str) -> Any:
        """Return what was last read of a system, without reading again."""
        if name not in self._facts:
            raise LabError(f"facts: expected {name} to have been read by this run", next_step="call run.read")
        return self._facts[name]

    def plan(self, planner: Planner, facts: Any, **wants: Any) -> Plan:
        """Compute a plan with a pure planner from facts that `read` returned, and remember how it was made."""
        reads = self._names_of(facts)
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in wants.items()}
        for name in inspect.signature(planner).parameters:
            if name in registry.PROVIDED and name not in given:
                given[name] = registry.provider(name)(self.lab, self.access)
        recipe = Recipe(planner, reads, given)
        plan = planner(self.lab, facts, **given)
        self._recipes[plan.runbook + plan.digest] = recipe
        self._last_plan = plan
        (self.folder / "plan.json").write_text(redact(plan.to_json()), encoding="utf-8")
        self.journal.write("planned", digest=plan.digest, changes=[change.id for change in plan.changes])
        return plan

    def apply(self, plan: Plan, *, approve: str = "") -> None:
        """Carry out a plan when it is approved: the only call of a runbook that writes.

        Args:
            plan: what `plan` returned.
            approve: on the lab, the plan's digest, or `safe`; empty and `none` write nothing. On the twin,
                empty goes ahead.

        Raises:
            NotApproved: nobody approved the plan.
            Refused: a finding blocks it, it differs from the approved one, or another run holds the lock.
            StepFailed: a change failed; the message says what was and was not done.
        """
        try:
            rehearsed = say_rehearsal(self._outputs, plan.digest) if self.on == "lab" else ""
            pass_gate(plan, approve=approve, on=self.on, rehearsed=rehearsed)
        except LabError as exc:
            self.journal.write("not applied", reason=str(exc))
            if plan and approve == "" and self.on == "lab":
                self._offer(plan)
            self._write_summary(ok=False, error=exc)
            raise
        if not plan:
            self.journal.write("nothing to change")
            show(plan.summary())
            return
        self._apply_approved(plan)

    def _apply_locked(self, plan: Plan, draw: Draw | None) -> None:
        recipe = self._recipes.get(plan.runbook + plan.digest)
        if recipe is not None:
            # What another run did between our reading and our lock must not be done again.
            again = self._plan_again(recipe)
            if again.digest != plan.digest:
                pass_gate(again, approve=plan.digest, on=self.on)
                show("nothing is left to change: another run has done it")
                return
        self.journal.write("applying", digest=plan.digest)
        self._stale = True
        outcome = self._carry_out(plan, draw)
        self._summary["changes"] += len(outcome.done)
        self._summary["applied"] += sorted(outcome.done)
        self.journal.write("applied" if outcome.ok else "stopped", done=sorted(outcome.done),
                           failed=sorted(outcome.failed), not_started=list(outcome.not_started))  # fmt: skip
        if not outcome.ok:
            error = _failure(outcome)
            self._write_summary(ok=False, error=error)
            if outcome.interrupted:
                raise KeyboardInterrupt(str(error))
            raise error from next(iter(outcome.failed.values()), None)
        self._applied = plan.digest

    def _carry_out(self, plan: Plan, draw: Draw | None) -> Outcome:
        for system in sorted({change.system for change in plan.changes}):
            registry.applier(system)  # as for the readers
        with Board(plan.changes, self.journal, draw) as board:
            scheduler = Scheduler(
                plan.changes,
                lambda change, step: registry.applier(change.system)(self.lab, self.access, change, step),
                board.listen,
            )
            return scheduler.run()

    def verify(self, *checks: Check) -> None:
        """Check fresh facts, and that planning again leaves nothing to do.

        Raises:
            CheckFailed: with every finding that is an error.
        """
        names = tuple(dict.fromkeys(name for check in checks for name in check.reads))
        missing = names if self._stale else tuple(name for name in names if name not in self._facts)
        if self._stale:
            recipe = self._recipe_of_last()
            missing = tuple(dict.fromkeys(missing + (recipe.reads if recipe else ())))
        if missing:
            self._facts.update(self._read(missing))
            self._stale = False
        found = {check.sentence: list(check.find(self._facts)) for check in checks}
        findings = [finding for some in found.values() for finding in some] + self._left_to_do()
        self._report_findings(found, findings)
        errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        if errors:
            error = _check_failed(errors, applied=bool(self._summary["applied"]), runbook=self.runbook)
            self._write_summary(ok=False, error=error)
            raise error

    def find(self, facts: Any, checks: Iterable[Check]) -> list[Finding]:
        """Run checks on facts that were read, and return what they found; nothing is raised."""
        by_name = {name: self._facts[name] for name in self._names_of(facts)}
        return [finding for check in checks for finding in check.find(by_name)]

    def judge(self, findings: Iterable[Finding], *, error: LabError | None = None, **summary: Any) -> None:
        """Note findings in the journal and, with more, in the summary; raise the error that they amount to."""
        rows = [Finding(**finding.model_dump(include=set(Finding.model_fields))) for finding in findings]
        data = [row.model_dump(mode="json") for row in rows]
        self._summary |= {**summary, "findings": self._summary["findings"] + data}
        for row in data:
            self.journal.write("finding", **row, ends=error is not None)
        if error is not None:
            self._write_summary(ok=False, error=error)
            raise error

    def finish(self) -> None:
        """Write the summary and free what the run holds; the last cell of every runbook."""
        self._write_summary(ok=True)
        if self.on == "twin" and self._applied and self._summary["second_plan_changes"] == 0:
            remember_rehearsal(self._outputs, self._applied)
        self.journal.write("finished", ok=True)
        show(f"{self.runbook} on the {self.on}: {counted(len(self._summary['applied']), 'change')}, {self.folder.name}")
        self.close()

    def close(self) -> None:
        """End a twin that was started for this run, and the journal."""
        self._end()
        self.journal.close()

    def _read(self, names: Iterable[str]) -> dict[str, Any]:
        wanted = tuple(names)
        for name in wanted:
            registry.reader(name)  # imported here: threads that import what imports each other lock each other out
        with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
            pending = {name: pool.submit(registry.read, name, self.lab, self.access, self._asked) for name in wanted}
            facts = {name: future.result() for name, future in pending.items()}
        self._save_facts(facts)
        self.journal.write("read", systems=list(wanted))
        return facts

    def _save_facts(self, facts: Mapping[str, Any]) -> None:
        for name, value in facts.items():
            target = self.folder / f"facts-{name}.json"
            target.write_text(redact(value.model_dump_json(indent=1)), encoding="utf-8")

    def _names_of(self, facts: Any) -> tuple[str, ...]:
        if isinstance(facts, Mapping):
            return tuple(facts)
        names = tuple(name for name, known in self._facts.items() if known is facts)
        if not names:
            raise LabError("plan: expected facts that this run has read, got others", next_step="call run.read")
        return names

    def _plan_again(self, recipe: Recipe) -> Plan:
        self._facts.update(self._read(recipe.reads))
        return self._make(recipe)

    def _make(self, recipe: Recipe) -> Plan:
        known = {name: self._facts[name] for name in recipe.reads}
        facts = next(iter(known.values())) if len(known) == 1 else known
        return recipe.planner(self.lab, facts, **recipe.wants)

    def _recipe_of_last(self) -> Recipe | None:
        plan = self._last_plan
        return None if plan is None else self._recipes.get(plan.runbook + plan.digest)

    def _left_to_do(self) -> list[Finding]:
        recipe = self._recipe_of_last()
        if recipe is None:
            return []
        second = self._make(recipe)
        self._summary["second_plan_changes"] = len(second)
        self.journal.write("planned again", changes=[change.id for change in second.changes])
        return [
            Finding(id="plan.left", severity=Severity.ERROR, subject=change.target, expected="nothing left to change",
                    got=f"{change.action} {change.kind}", remedy=f"run {self.runbook} again")
            for change in second.changes
        ]  # fmt: skip

    def _report_findings(self, found: Mapping[str, list[Finding]], findings: list[Finding]) -> None:
        from labkit.report.findings import FindingsView  # noqa: PLC0415  # display only

        self._summary["findings"] += [finding.model_dump(mode="json") for finding in findings]
        for finding in findings:
            self.journal.write("finding", **finding.model_dump(mode="json"))
        passed = tuple(sentence for sentence, some in found.items() if not some)
        show(FindingsView(passed, len(found), tuple(findings)))

    def _offer(self, plan: Plan) -> None:
        from labkit.report.widgets import offer_approval  # noqa: PLC0415  # display only

        if in_notebook():
            offer_approval(plan, lambda draw: self._apply_approved(plan, draw))

    def _apply_approved(self, plan: Plan, draw: Draw | None = None) -> None:
        with lab_lock(self.access.state / "run.lock", runbook=self.runbook):
            self._apply_locked(plan, draw)

    def _write_summary(self, *, ok: bool, error: Exception | None = None) -> None:
        summary = {
            "runbook": self.runbook, "lab": self.lab.name, "on": self.on, "ok": ok, "finished": now_utc(),
            "seconds": round(time.monotonic() - self._began, 3), **self._summary,
            "digest": self._last_plan.digest if self._last_plan else None,
            "error": None if error is None else {"type": type(error).__name__, "text": str(error)},
        }  # fmt: skip
        (self.folder / "summary.json").write_text(redact(json.dumps(summary, indent=2)), encoding="utf-8")


def start(runbook: str, *, lab: str | Path = "parameters/lab.yaml", on: str = "twin", scenario: str = "empty",
          approve: str = "") -> Run:  # fmt: skip
    """Begin a run: check every parameter and the lab file, open the way to the lab, make the run's folder.

    Args:
        runbook: its name, as in the notebook's file without the number.
        lab: the lab file; looked for here and in the folders above.
        on: `twin` or `lab`.
        scenario: the state in which a twin of this run's own starts.
        approve: checked for its form here, so that a slip does not show up only at the end.

    Raises:
        InputError: with every mistake in the parameters or in the lab file.
    """
    register_pictures()
    parameters.check_injected(runbook)
    where = check_on(on)
    check_approval(approve)
    lab_file = find_input(lab)
    loaded = load_lab(lab_file)
    folder = new_run_folder(runbook, near=lab_file)
    outputs = outputs_root(lab_file)
    connection = connect(loaded, lab_file, on=where, scenario=scenario)
    run = Run(runbook, loaded, on=where, folder=folder, outputs=outputs, connection=connection)
    show(f"{runbook} on the {where} of lab {loaded.name}")
    return run


def _check_failed(errors: list[Finding], *, applied: bool, runbook: str) -> CheckFailed:
    lines = [f"{counted(len(errors), 'check')} failed", *(f"  {finding}" for finding in errors)]
    again = f"run {runbook} again: it goes on with what is left"
    return CheckFailed("\n".join(lines), next_step=again if applied else f"mend what they name, then {again}")


def _failure(outcome: Outcome) -> StepFailed:
    lines = [f"{counted(len(outcome.failed), 'change')} failed" if outcome.failed else "interrupted"]
    lines += [f"  failed: {name}: {_in_one(error)}" for name, error in sorted(outcome.failed.items())]
    lines += [f"  done: {', '.join(sorted(outcome.done)) or 'none'}"]
    lines += [f"  not started: {', '.join(outcome.not_started) or 'none'}"]
    return StepFailed("\n".join(lines), next_step="mend the cause and run it again: it goes on with what is left")


def _in_one(error: BaseException) -> str:
    """Return an error with its next step behind it, so that the whole has one `next:`."""
    return "; ".join(filter(None, (error.message, error.next_step))) if isinstance(error, LabError) else str(error)
