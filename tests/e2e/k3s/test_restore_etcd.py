"""etcd comes back: from a snapshot on the same machines and on new ones, and with one server of a lost quorum."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.errors import CheckFailed, Refused
from labkit.facts.etcd import EtcdFacts
from labkit.lab import Lab
from labkit.plan import Risk
from labkit.systems import ssh
from labkit.systems.access import Access
from labkit.systems.kubernetes import Cluster
from labkit.twin.client import TwinHandle
from tests.e2e.conftest import lab_on, provision
from tests.e2e.k3s.conftest import bootstrap, edit_lab, enter, look, restore, targets

MakeTwin = Callable[..., TwinHandle]
SMALL = Path(__file__).parents[2] / "data" / "e2e" / "lab.yaml"
SERVER, SNAPSHOTS = "/var/lib/rancher/k3s/server", "/var/lib/rancher/k3s/server/db/snapshots"
RESET = "membership has been reset"


def on(lab: Lab, access: Access, name: str, *words: str) -> str:
    with ssh.connect(lab, access, next(m for m in lab.machines if m.name == name)) as shell:
        return shell.run(words, sudo=True).text


def save(lab: Lab, access: Access, server: str, name: str) -> str:
    on(lab, access, server, "k3s", "etcd-snapshot", "save", "--name", name)
    return next(word for word in on(lab, access, server, "ls", SNAPSHOTS).split() if word.startswith(f"{name}-"))


def make(cluster: Cluster, name: str) -> None:
    cluster.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": name}, "data": {"a": "b"}})


def there(cluster: Cluster, name: str) -> bool:
    return cluster.find(f"/api/v1/namespaces/default/configmaps/{name}") is not None


def resets(lab: Lab, access: Access, etcd: EtcdFacts) -> int:
    """How often etcd was reset in the last restore."""
    assert etcd.restore is not None
    unit = f"labkit-etcd-reset-{etcd.restore.id}"
    return on(lab, access, etcd.restore.server, "journalctl", "-u", unit, "-o", "cat").count(RESET)


def check_members(lab_file: Path, servers: int) -> EtcdFacts:
    """All servers vote in one etcd."""
    facts = look(lab_file, "k3s", "etcd")
    assert len(facts["k3s"].voters) == servers
    assert all(facts["etcd"].answers.values())
    etcd: EtcdFacts = facts["etcd"]
    return etcd


def check_nothing_is_left(lab_file: Path, **wants: str) -> None:
    """Neither here, nor for the runbook that made the cluster."""
    assert targets(restore(lab_file, **wants)) == []
    assert targets(bootstrap(lab_file)) == []


def check_secrets(twin: TwinHandle, outputs: Path) -> None:
    """No secret got into the files of a run."""
    files = [path for path in outputs.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        text = path.read_text(errors="replace")
        assert not [secret for secret in twin.secrets.values() if secret in text], path


def test_a_snapshot_on_the_same_machines_and_the_way_back(make_twin: MakeTwin, lab_file: Path) -> None:
    twin = make_twin(scenario="k3s")
    lab, access, cluster = enter(lab_file)
    make(cluster, "kept")
    time.sleep(1.1)  # dates are whole seconds, and the schedule's snapshot is of just now
    name = save(lab, access, "two", "mine")
    time.sleep(3.1)
    make(cluster, "later")
    refuses_early(twin, lab_file, lab, access, name)

    plan = restore(lab_file, snapshot=name)
    assert targets(plan) == [
        "snapshot/two/create", "etcd-restore/trio/create", "etcd-member/two/act", "etcd-member/one/create",
        "etcd-member/three/create", "agent/four/act", "agent/five/act", "etcd-restore/trio/act",
    ]  # fmt: skip
    doomed = [change.target for change in plan.changes if change.risk is Risk.DESTRUCTIVE]
    assert doomed == ["two", "one", "three"]
    assert any("ConfigMap default/later" in str(finding) for finding in plan.findings)
    assert there(cluster, "kept")
    assert not there(cluster, "later")
    check_nothing_is_left(lab_file, snapshot=name)
    etcd = check_members(lab_file, 3)
    assert resets(lab, access, etcd) == 1
    check_secrets(twin, lab_file.parents[1] / "outputs")
    nothing_was_deleted(lab, access, name)

    undo = next(snapshot.name for snapshot in etcd.snapshots if snapshot.name.startswith("before-restore-"))
    assert targets(restore(lab_file, snapshot=undo))
    assert there(cluster, "kept")
    assert there(cluster, "later")


def refuses_early(twin: TwinHandle, lab_file: Path, lab: Lab, access: Access, name: str) -> None:
    """Each with one clear error, and with nothing written."""
    before, text = twin.status()["writes"].get("guests", 0), lab_file.read_text()
    with pytest.raises(CheckFailed, match="expected a lost quorum, or a snapshot that is asked for, got 3 voting"):
        restore(lab_file)
    edit_lab(lab_file, lambda data: data["k3s"].update(token="env:TRIO_TOKEN"))
    with pytest.raises(CheckFailed, match=r"expected the token that it was made with at k3s\.token, got another one"):
        restore(lab_file, snapshot=name)
    lab_file.write_text(text)
    assert twin.status()["writes"].get("guests", 0) == before
    damage(lab, access, name)
    with pytest.raises(CheckFailed, match="does not have the checksum that stands behind it: it is damaged"):
        restore(lab_file, snapshot=name)
    # In place of the damaged one, the one before is taken, and that is said.
    facts = look_for(lab_file, "newest")
    assert [row.name.rpartition("-")[0] for row in facts.snapshots if row.examined] == ["mine-two", "etcd-snapshot-one"]
    damage(lab, access, name)


def damage(lab: Lab, access: Access, name: str) -> None:
    """Flip a bit of a snapshot; twice makes it whole again."""
    with ssh.connect(lab, access, lab.servers[1]) as shell:
        data = bytearray(shell.read_file(f"{SNAPSHOTS}/{name}", sudo=True))
        data[5000] ^= 1
        shell.write_file(f"{SNAPSHOTS}/{name}", bytes(data), mode=0o600)


def look_for(lab_file: Path, snapshot: str) -> EtcdFacts:
    from labkit.run import start

    run = start("look", lab=lab_file)
    try:
        facts: EtcdFacts = run.read("etcd", snapshot=snapshot)
        return facts
    finally:
        run.close()


def nothing_was_deleted(lab: Lab, access: Access, name: str) -> None:
    assert "etcd-old-" in on(lab, access, "two", "ls", f"{SERVER}/db")
    assert name in on(lab, access, "two", "ls", SNAPSHOTS)
    for server in ("one", "three"):
        kept = next(word for word in on(lab, access, server, "ls", SERVER).split() if word.startswith("db-before-"))
        assert on(lab, access, server, "ls", f"{SERVER}/{kept}").split() == ["etcd"]
        assert f"etcd-snapshot-{server}-" in on(lab, access, server, "ls", SNAPSHOTS)


def test_a_lost_quorum_goes_on_with_one_server(make_twin: MakeTwin, lab_file: Path) -> None:
    make_twin(scenario="quorum-lost")
    assert targets(restore(lab_file)) == [
        "etcd-restore/trio/create", "etcd-member/three/act", "etcd-member/one/create", "etcd-member/two/create",
        "agent/four/act", "agent/five/act", "etcd-restore/trio/act",
    ]  # fmt: skip
    lab, access, _ = enter(lab_file)
    etcd = check_members(lab_file, 3)
    assert resets(lab, access, etcd) == 1
    check_nothing_is_left(lab_file)
    assert "member" in on(lab, access, "three", "ls", etcd.server("three").aside[0])


def test_new_machines_get_the_snapshot_of_the_old_ones(make_twin: MakeTwin, lab_file: Path) -> None:
    twin = make_twin(scenario="k3s")
    lab, access, cluster = enter(lab_file)
    make(cluster, "kept")
    name = save(lab, access, "one", "mine")
    copy = access.path(f"~/copies/{name}")
    copy.parent.mkdir(parents=True)
    with ssh.connect(lab, access, lab.servers[0]) as shell:
        copy.write_bytes(shell.read_file(f"{SNAPSHOTS}/{name}", sudo=True))
    for machine in lab.machines:
        twin.delete_vm(machine.name)
    provision(lab_file)
    text = lab_file.read_text()
    edit_lab(lab_file, lambda data: data["k3s"].update(version="v1.32.9+k3s1"))
    with pytest.raises(CheckFailed, match=r"v1.33.4\+k3s1 or newer, which the snapshot was made with, got k3s.version"):
        restore(lab_file, snapshot=f"~/copies/{name}")
    lab_file.write_text(text)
    plan = restore(lab_file, snapshot=f"~/copies/{name}", server="two")
    assert plan.risk is Risk.DISRUPTIVE  # there is nothing left to lose
    assert re.match("guest/", targets(plan)[0])
    assert there(enter(lab_file)[2], "kept")
    check_nothing_is_left(lab_file, snapshot=f"~/copies/{name}")


def test_a_lab_with_a_single_server(make_twin: MakeTwin, lab_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(SMALL, lab_file)
    twin = make_twin(scenario="quorum-lost")
    plan = restore(lab_file)
    assert targets(plan) == ["etcd-restore/small/create", "etcd-member/one/act", "agent/two/act", "agent/three/act",
                             "etcd-restore/small/act"]  # fmt: skip
    assert "from etcd-snapshot-one-" in str(plan.changes[1].after["etcd"])
    assert targets(restore(lab_file)) == []
    on_the_lab_a_person_names_what_gives_way(twin, lab_file, monkeypatch)


def on_the_lab_a_person_names_what_gives_way(twin: TwinHandle, lab_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, access, _ = enter(lab_file)
    name = save(lab, access, "one", "again")
    real = lab_on(twin, lab_file, monkeypatch)
    with pytest.raises(Refused, match=r"(?s)expected the lab's name, small, got ''.*gives way: one, got none"):
        restore(real, on="lab", snapshot=name)
    with pytest.raises(Refused, match="waits for approval"):
        restore(real, on="lab", snapshot=name, confirm="small", replace=("one",))
