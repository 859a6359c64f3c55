"""The queue and the loop: keys coalesce, errors are logged and tried again, coroutines run side by side."""

import asyncio
import logging

from labkit.twin.clock import TwinClock
from labkit.twin.controllers import Controller, launch
from labkit.twin.kube.crds import new_core
from labkit.twin.kube.local import LocalApi


class Probe(Controller):
    name = "probe"
    watches = ("configmaps",)

    def __init__(self, api, clock, reconciler):
        super().__init__(api, clock)
        self.seen = []
        self._reconciler = reconciler

    def keys(self, event):
        return [event.object["metadata"]["name"]] if event.object["metadata"]["namespace"] == "default" else []

    def reconcile(self, key):
        self.seen.append(key)
        return self._reconciler(self, key)


def config(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def play(reconciler, act, scale=0.001):
    async def go():
        clock = TwinClock(scale)
        api = LocalApi(new_core(clock))
        probe = Probe(api, clock, reconciler)
        tasks = launch(api, [probe])
        await act(api, probe)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return probe

    return asyncio.run(go())


async def until(check):
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


def test_what_is_there_and_what_comes_is_reconciled():
    async def act(api, probe):
        api.create("configmaps", config("early"))
        await until(lambda: "early" in probe.seen)
        api.create("configmaps", config("late"))
        await until(lambda: "late" in probe.seen)

    play(lambda *_: None, act)


def test_changes_before_the_loop_runs_are_one_piece_of_work():
    async def act(api, probe):
        api.create("configmaps", config("one"))
        for number in range(20):
            api.patch("configmaps", "one", {"data": {"n": str(number)}}, "default")
        await until(lambda: probe.seen)
        await asyncio.sleep(0.02)

    assert play(lambda *_: None, act).seen == ["one"]


def test_a_key_comes_again_when_it_asked_to():
    async def act(api, probe):
        api.create("configmaps", config("one"))
        await until(lambda: len(probe.seen) == 4)

    play(lambda probe, _: 1.0 if len(probe.seen) < 4 else None, act)


def test_an_error_is_logged_and_tried_again(caplog):
    def fail_twice(probe, _):
        if len(probe.seen) < 3:
            raise ValueError("not yet")

    async def act(api, probe):
        api.create("configmaps", config("one"))
        await until(lambda: len(probe.seen) == 3)

    with caplog.at_level(logging.ERROR):
        play(fail_twice, act)
    assert ["'one' failed" in r.message for r in caplog.records] == [True, True]


def test_a_conflict_is_tried_again_without_noise(caplog):
    def stale(probe, _):
        if len(probe.seen) == 1:
            old = {**config("one"), "metadata": {"name": "one", "namespace": "default", "resourceVersion": "1"}}
            probe.api.update("configmaps", old)

    async def act(api, probe):
        api.create("configmaps", config("one"))
        await until(lambda: len(probe.seen) == 2)

    play(stale, act)
    assert not caplog.records


def test_coroutines_run_side_by_side_but_never_two_for_one_key():
    running, most, together = set(), [0], []

    def slow(probe, key):
        async def work():
            together.append(key in running)
            running.add(key)
            most[0] = max(most[0], len(running))
            await asyncio.sleep(0.02)
            running.discard(key)

        return work()

    async def act(api, probe):
        for name in ("a", "b", "c"):
            api.create("configmaps", config(name))
        await until(lambda: len(running) == 3)
        api.patch("configmaps", "a", {"data": {"x": "y"}}, "default")
        await until(lambda: probe.seen.count("a") == 2)

    play(slow, act)
    assert most[0] == 3
    assert not any(together)
