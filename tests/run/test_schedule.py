"""Changes side by side: prerequisites, lanes, failures, interrupts."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import StepFailed
from labkit.plan import Action, Change, Plan
from labkit.run.schedule import Outcome, Scheduler, State
from labkit.systems.access import Step


def change(target: str, action: Action = Action.CREATE, **more: object) -> Change:
    return Change.model_validate({"system": "s", "kind": "vm", "target": target, "action": action, **more})


class Recorder:
    """Applies changes by noting when each began and ended; some fail."""

    def __init__(self, failing: tuple[str, ...] = ()) -> None:
        self.log: list[tuple[str, str]] = []
        self.at_once: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.failing = failing
        self.guard = threading.Lock()

    def apply(self, change: Change, step: Step) -> str:
        with self.guard:
            self.log.append(("begin", change.target))
            self.at_once[change.lane] = self.at_once.get(change.lane, 0) + 1
            self.most[change.lane] = max(self.most.get(change.lane, 0), self.at_once[change.lane])
        step.say("working")
        with self.guard:
            self.at_once[change.lane] -= 1
            self.log.append(("end", change.target))
        if change.target in self.failing:
            raise StepFailed(f"{change.target} broke")
        return f"{change.target} made"


def run(recorder: Recorder, *changes: Change, widths: Mapping[str, int] | None = None) -> Outcome:
    plan = Plan(runbook="r", lab="l", changes=changes)
    return Scheduler(plan.changes, recorder.apply, lambda *_: None, widths).run()


def test_prerequisites_are_done_before() -> None:
    recorder = Recorder()
    outcome = run(recorder, change("b", needs=("vm/a/create",)), change("a"), change("old", Action.DELETE))
    assert outcome.ok
    assert [name for what, name in recorder.log if what == "begin"] == ["a", "b", "old"]
    assert outcome.done["vm/a/create"] == "a made"


def test_a_failure_stops_what_has_not_begun() -> None:
    recorder = Recorder(failing=("a",))
    outcome = run(recorder, change("a"), change("b", needs=("vm/a/create",)), change("old", Action.DELETE))
    assert not outcome.ok
    assert list(outcome.failed) == ["vm/a/create"]
    assert outcome.not_started == ("vm/b/create", "vm/old/delete")


def test_what_runs_ends_although_another_failed() -> None:
    begun, failed = threading.Event(), threading.Event()

    def apply(change: Change, _step: Step) -> str:
        if change.target == "a":
            begun.wait(10)
            failed.set()
            raise StepFailed("a broke")
        begun.set()
        assert failed.wait(10)
        return "made"

    outcome = Scheduler([change("a"), change("b")], apply, lambda *_: None).run()
    assert list(outcome.failed) == ["vm/a/create"]
    assert list(outcome.done) == ["vm/b/create"]


def test_leaving_the_lane_lets_the_next_start_while_the_first_goes_on() -> None:
    second_began = threading.Event()

    def apply(change: Change, step: Step) -> str:
        if change.target == "a":
            step.leave_lane()
            assert second_began.wait(10)
        else:
            second_began.set()
        return "made"

    outcome = Scheduler([change("a", lane="clone"), change("b", lane="clone")], apply, lambda *_: None).run()
    assert outcome.ok


def test_a_failure_apart_stops_only_what_needs_it() -> None:
    recorder = Recorder(failing=("a",))
    outcome = run(
        recorder,
        change("a", apart=True),
        change("use-a", needs=("vm/a/create",)),
        change("use-use-a", needs=("vm/use-a/create",)),
        change("b", apart=True, needs=("vm/first/create",)),
        change("first"),
        change("tidy", follows=("vm/use-use-a/create", "vm/b/create")),
        change("old", Action.DELETE),
    )
    assert not outcome.ok
    assert list(outcome.failed) == ["vm/a/create"]
    assert sorted(outcome.done) == ["vm/b/create", "vm/first/create", "vm/tidy/create"]
    assert outcome.not_started == ("vm/use-a/create", "vm/use-use-a/create", "vm/old/delete")
    assert [name for what, name in recorder.log if what == "begin"][-1] == "tidy"


def test_what_follows_waits_for_an_end_of_either_kind() -> None:
    recorder = Recorder()
    assert run(recorder, change("b", follows=("vm/a/create",)), change("a")).ok
    assert [name for what, name in recorder.log if what == "begin"] == ["a", "b"]


def test_a_lane_may_be_wider_than_one() -> None:
    both = threading.Barrier(2, timeout=10)
    changes = [change(name, lane="restore", width=2) for name in ("a", "b")]
    assert Scheduler(changes, lambda *_: str(both.wait()), lambda *_: None).run().ok


def test_every_state_is_told() -> None:
    told: list[tuple[State, str]] = []
    recorder = Recorder(failing=("b",))
    changes = [change("a"), change("b", needs=("vm/a/create",))]
    Scheduler(changes, recorder.apply, lambda state, one, text, _: told.append((state, f"{one.target} {text}"))).run()
    assert told == [
        (State.RUNNING, "a "),
        (State.RUNNING, "a working"),
        (State.DONE, "a a made"),
        (State.RUNNING, "b "),
        (State.RUNNING, "b working"),
        (State.FAILED, "b b broke"),
    ]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["x", "y", ""]), st.integers(0, 30)), max_size=12), st.integers(1, 3))
def test_any_graph_is_carried_out_within_its_lanes(shape: list[tuple[str, int]], width: int) -> None:
    changes = [
        change(f"n{i}", lane=lane, needs=tuple({f"vm/n{need % i}/create"} if i and need % 2 else ()))
        for i, (lane, need) in enumerate(shape)
    ]
    recorder = Recorder()
    outcome = run(recorder, *changes, widths={"x": width})
    assert outcome.ok
    assert len(outcome.done) == len(changes)
    assert recorder.most.get("x", 0) <= width
    assert recorder.most.get("y", 0) <= 1
    ended = [name for what, name in recorder.log if what == "end"]
    for one in changes:
        for need in one.needs:
            assert ended.index(need.split("/")[1]) < ended.index(one.target)
