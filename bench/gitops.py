"""From push to "the app is live": what labkit adds to the time that the twin's own reconcile takes.

Twice the same on one twin, in turns. add-app adds an app: from the moment in which its push has moved the branch to the
end of the change that waits for the host's answer. Then a person pushes an equal one with git, asks Flux to look as
soon as git is done, and looks many times a second until its Kustomization is ready at that commit, the Deployment has
rolled out, and the host answers over HTTPS with the certificate of the cluster: what the twin takes. The app is open,
so that neither waits for Authelia, which add-app restarts beside it. The times of real programs (git, kubectl) count
for both.
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bench.figure import Figure
from bench.labs import write_lab
from labkit.lab.apps import AppSpec
from labkit.lab.authelia import add_app
from labkit.lab.loader import load_lab
from labkit.rules.apps import plan_app
from labkit.run import Run, start
from labkit.run.apps import load_app
from labkit.run.journal import read_journal
from labkit.systems.flux.chain import request_reconcile
from labkit.systems.flux.read import read_workloads
from labkit.systems.git import check_out, commit_all, fetch, push
from labkit.systems.gitchange import write_file
from labkit.systems.k3s.cluster import open_cluster
from labkit.systems.routes import probe_route
from labkit.twin.client import TwinHandle, start_twin
from labkit.twin.git import Bare

ROUNDS = 5
SCALE = 0.2
"""Real seconds per twin second: slow enough that two cores, which carry both sides, are a small part of the figure."""
LIMIT = 1.1
SIZES: dict[str, str | int] = {"cores": 4, "memory": "16 GiB", "disk": "100 GiB"}
"""One VM that has room for everything in the example."""
_APPS = "kubernetes/apps"
_AUTHELIA = "kubernetes/infrastructure/controllers/authelia/configmap.yaml"
_SOURCE = "GitRepository/flux-system/flux-system"
_KUSTOMIZATION = "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations/apps"
_SECONDS = 120.0


def figures() -> Iterator[Figure]:
    """Yield the figure."""
    with tempfile.TemporaryDirectory() as folder:
        lab_file = write_lab(Path(folder, "parameters", "lab.yaml"), hosts=1, servers=1, agents=0, sizes=SIZES)
        twin = start_twin(lab_file, state=Path(folder, "twin"), scenario="flux", scale=SCALE, parent=os.getpid())
        os.environ["LABKIT_TWIN"] = str(twin.state)
        try:
            pairs = [measure(lab_file, twin, number) for number in range(ROUNDS)]
        finally:
            del os.environ["LABKIT_TWIN"]
            twin.stop()
    ours, alone = (statistics.median(times) for times in zip(*pairs, strict=True))
    note = f"{ours:.2f} s / {alone:.2f} s, medians of {ROUNDS}"
    yield Figure("from push to app live / the twin's own reconcile", ours / alone, limit=LIMIT, note=note)


def measure(lab_file: Path, twin: TwinHandle, number: int) -> tuple[float, float]:
    """Return the seconds from a push to the live app, with labkit and by hand."""
    bare = Bare(twin.state / "gitops" / "served.git", load_lab(lab_file).git.branch)
    with contextlib.redirect_stdout(io.StringIO()):
        run = start("add-app", lab=lab_file)
        try:
            ours = add(run, bare, f"ours-{number}")
            alone = by_hand(run, bare, f"ours-{number}", f"hand-{number}")
        finally:
            run.close()
    return ours, alone


def add(run: Run, bare: Bare, name: str) -> float:
    """Add an app as the runbook does; return the seconds from its push to the end of its last change."""
    run.apply(run.plan(plan_app, run.read("git", "flux", "apps"), app=app_of(run, name)))
    done = [event for event in read_journal(run.journal.path) if event["event"] == "change done"]
    route = next(event for event in done if str(event["change"]).startswith("route/"))
    return datetime.fromisoformat(str(route["time"])).timestamp() - moved(bare)


def app_of(run: Run, name: str) -> AppSpec:
    """Return an open app."""
    return load_app(run.lab, name, image="ghcr.io/traefik/whoami:v1.11.0", port=80, authentication="none")


def moved(bare: Bare) -> float:
    """Return when the branch was moved last."""
    return (bare.folder / "refs" / "heads" / bare.branch).stat().st_mtime


def by_hand(run: Run, bare: Bare, model: str, name: str) -> float:
    """Push the same app under another name and ask Flux to look; return the seconds from the push until it is live."""
    mirror, folder = fetch(run.lab, run.access), run.access.state / "by-hand" / name
    folder.parent.mkdir(exist_ok=True)
    check_out(mirror, folder, mirror.head)
    for path, text in bare.files().items():
        if path.startswith(f"{_APPS}/{model}/"):
            write_file(folder, path.replace(model, name), text.decode().replace(model, name))
    write_file(folder, _AUTHELIA, add_app((folder / _AUTHELIA).read_text(), app_of(run, name), ""))
    commit_all(run.lab, folder, f"Add {name}")
    head = push(run.lab, run.access, folder, bare.branch)
    request_reconcile(open_cluster(run.lab, run.access), _SOURCE)
    end = time.monotonic() + _SECONDS
    while not is_live(run, head, name):
        if time.monotonic() > end:
            raise TimeoutError(f"{name}: expected it live within {_SECONDS:g} s")
        time.sleep(0.02)
    return time.time() - moved(bare)


def is_live(run: Run, head: str, name: str) -> bool:
    """Tell whether an app is applied at a commit, has rolled out, and answers."""
    cluster = open_cluster(run.lab, run.access)
    status = cluster.get(_KUSTOMIZATION).get("status") or {}
    ready = [one["status"] for one in status.get("conditions") or () if one["type"] == "Ready"] == ["True"]
    if not (ready and str(status.get("lastAppliedRevision")).endswith(head)):
        return False
    row = next((one for one in read_workloads(cluster) if one.name == name), None)
    answer = probe_route(run.lab, run.access, f"{name}.{run.lab.domain}")
    return row is not None and row.is_ready and answer.verified and answer.status == 200
