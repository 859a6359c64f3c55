"""A recovery that is cut off goes on; one that is given up gives back what it had taken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.facts.restore import HELD

from .conftest import Living

pytestmark = pytest.mark.thorough
NOTES = "default/notes-data"


# Runs the recovery in a process that kills itself right after a line of its journal that holds a word.
DIE = """
import json, os, signal, sys
from pathlib import Path
from labkit.run.journal import Journal
from tests.recovery.conftest import recover_as_notebook
whole = Journal.write
def write(self, event, **data):
    whole(self, event, **data)
    if sys.argv[2] in str(data.get("text", "")):
        os.kill(os.getpid(), signal.SIGKILL)
Journal.write = write
recover_as_notebook(Path(sys.argv[1]), **json.loads(sys.argv[3]))
"""


def kill_at(living: Living, word: str, **asked: object) -> None:
    """Have a recovery killed as soon as its journal says a word."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", DIE, str(living.lab_file), word, json.dumps(asked)],
        cwd=root, env={**os.environ, "PYTHONPATH": root}, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize(
    ("app", "claim", "word"),
    [
        ("actual", "default/actual-data", "asked for restored-"),
        ("linkding", "default/linkding-data", "is taken away"),
        ("jellyfin", "default/jellyfin-config", "made way; volume"),
    ],
)
def test_it_goes_on_where_it_was_cut_off(living: Living, app: str, claim: str, word: str) -> None:
    old = living.volume(claim).name
    first, second = living.saved(claim)
    names = {one.name for one in living.longhorn().volumes}

    kill_at(living, word, scope="apps", apps=[app])
    living.recover(scope="apps", apps=[app])

    now = living.volume(claim)
    assert living.checksum(now.name) == first
    assert living.checksum(old) == second
    made = {one.name for one in living.longhorn().volumes} - names
    assert made == {now.name}, "restored once"
    assert living.suspended() == []
    assert HELD not in living.workload(app)["metadata"].get("annotations", {})


def test_what_is_given_up_is_given_back(living: Living) -> None:
    claim = "default/karakeep-data"
    _, second = living.saved(claim)
    kill_at(living, "waits for karakeep", scope="volume", volumes=[claim])
    assert living.workload("karakeep")["metadata"]["annotations"][HELD] == "1"

    living.recover(scope="apps")

    assert living.workload("karakeep")["spec"]["replicas"] == 1
    assert living.suspended() == []
    now = living.volume(claim)
    living.until(lambda: living.twin.data()[now.name]["mounted"])
    if not now.from_backup:
        assert living.checksum(now.name) == second


def test_a_claim_that_git_does_not_know_comes_back_as_it_was(living: Living) -> None:
    make_notes(living)
    before = living.claim(NOTES)
    first, second = living.saved(NOTES)
    old = living.volume(NOTES).name

    living.recover(scope="volume", volumes=[NOTES])

    after, now = living.claim(NOTES), living.volume(NOTES)
    assert (after.labels, after.requested, after.access_modes) == (before.labels, before.requested, before.access_modes)
    assert after.volume == now.name != old, "a claim without a pin has a PersistentVolume of the volume's own name"
    assert living.checksum(now.name) == first
    assert living.checksum(old) == second
    assert living.longhorn().volume(old) is not None


def test_an_empty_volume_that_won_the_race_is_set_aside(living: Living) -> None:
    make_notes(living)
    _, first = living.backup(NOTES)
    lost = living.volume(NOTES).name
    time.sleep(1.05)
    lose(living)
    make_notes(living)
    winner = living.volume(NOTES).name
    assert winner != lost
    began = living.checksum(winner)
    assert began != first, "the app has begun anew"

    others = [
        one.name for one in living.longhorn().claims if one.storage_class == "longhorn" and one.name != "notes-data"
    ]
    living.recover(scope="lab", volumes=[NOTES], empty=others)

    assert living.checksum(living.volume(NOTES).name) == first
    assert living.checksum(winner) == began, "it is kept, with all that was on it"


def make_notes(living: Living) -> None:
    """An app that somebody has made by hand, on a volume of the class."""
    cluster = living.cluster
    shape = {"accessModes": ["ReadWriteOnce"], "storageClassName": "longhorn",
             "resources": {"requests": {"storage": "64Mi"}}}  # fmt: skip
    cluster.apply("/api/v1/namespaces/default/persistentvolumeclaims/notes-data", {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": shape,
        "metadata": {"name": "notes-data", "namespace": "default", "labels": {"who": "me"}},
    }, manager="me")  # fmt: skip
    mount = {"name": "data", "persistentVolumeClaim": {"claimName": "notes-data"}}
    pod = {"containers": [{"name": "notes", "image": "notes:1"}], "volumes": [mount]}
    cluster.apply("/apis/apps/v1/namespaces/default/deployments/notes", {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "notes", "namespace": "default"},
        "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": {"app": "notes"}},
                 "template": {"metadata": {"labels": {"app": "notes"}}, "spec": pod}},
    }, manager="me")  # fmt: skip
    living.until(lambda: living.twin.data().get(bound(living), {}).get("mounted"), 60)


def bound(living: Living) -> str:
    longhorn = living.longhorn()
    claim = longhorn.find_claim("default", "notes-data")
    pv = longhorn.pv(claim.volume) if claim is not None else None
    return pv.handle if pv is not None else ""


def lose(living: Living) -> None:
    """Lose the app with its claim and its volume; the backup is left."""
    cluster, longhorn = living.cluster, living.longhorn()
    claim = longhorn.find_claim("default", "notes-data")
    assert claim is not None
    paths = [
        "/apis/apps/v1/namespaces/default/deployments/notes",
        "/api/v1/namespaces/default/persistentvolumeclaims/notes-data",
        f"/api/v1/persistentvolumes/{claim.volume}",
        f"/apis/longhorn.io/v1beta2/namespaces/longhorn-system/volumes/{bound(living)}",
    ]
    for path in paths:
        cluster.delete(path)
        living.until(lambda path=path: cluster.find(path) is None, 60)
