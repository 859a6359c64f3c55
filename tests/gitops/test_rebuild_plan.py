"""One plan for a whole lab that is lost, from the example repository: what waits for what, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from labkit.facts.backups import StoredBackup, StoredVolume, StoreFacts
from labkit.facts.flux import FluxFacts, SecretSeen
from labkit.facts.git import GitFacts
from labkit.facts.guests import Guest, GuestFacts
from labkit.facts.k3s import K3sFacts
from labkit.facts.longhorn import LonghornFacts
from labkit.facts.proxmox import ProxmoxFacts, VmConfig
from labkit.facts.restore import GitClaim, WantedVolume
from labkit.lab import Lab
from labkit.lab.vmconfig import describe_unfinished
from labkit.plan import Change, Plan
from labkit.rules.claims import git_claims
from labkit.rules.rebuild import longhorn_comes_from, longhorn_release, plan_rebuild
from labkit.rules.restore import wanted_volumes
from labkit.systems.access import Access
from labkit.systems.flux.secrets import wanted_seen, wanted_values
from labkit.systems.gitread import read_git
from tests.gitops.hosts import Host

NOW = datetime(2026, 8, 10, 20, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHpk0nOnfgiLJSM2Ka0jf7s2cKt3Es3rQE3eXrRvDgS2 labkit"
NINE = Path(__file__).parents[1] / "data" / "proxmox" / "nine.json"
CHAIN = "chain/kubernetes/clusters/production/act"


@pytest.fixture(scope="module")
def access(shared_host: Host) -> Access:
    return shared_host.access()


@pytest.fixture(scope="module")
def git(lab: Lab, access: Access) -> GitFacts:
    return read_git(lab, access)


@pytest.fixture(scope="module")
def secrets(lab: Lab, access: Access) -> tuple[SecretSeen, SecretSeen]:
    return wanted_seen(wanted_values(lab, access))


@pytest.fixture
def lost(lab: Lab, git: GitFacts, secrets: Any) -> dict[str, Any]:
    """What is seen of a lab of which nothing is left but Git, the keys and the NAS."""
    whole = ProxmoxFacts.model_validate_json(NINE.read_text())
    return {
        "proxmox": whole.model_copy(update={"vms": tuple(vm for vm in whole.vms if vm.name not in lab.vms)}),
        "guests": GuestFacts(guests=tuple(_silent(m.name, str(m.address)) for m in lab.machines), read_at=NOW),
        "k3s": K3sFacts(read_at=NOW),
        "git": git,
        "flux-if-any": FluxFacts(up=False, wanted_secrets=secrets, read_at=NOW),
        "longhorn-if-any": LonghornFacts(read_at=NOW),
    }


def _silent(name: str, address: str) -> Guest:
    return Guest(name=name, address=address, problem="no route to host")


def store(claims: tuple[GitClaim, ...]) -> StoreFacts:
    """A backup of each claim's pinned volume."""
    volumes = [
        StoredVolume(
            name=one.pinned, size=one.requested, namespace=one.namespace, claim=one.name,
            backups=(StoredBackup(name=f"backup-{number:016x}", volume=one.pinned, created=NOW, snapshot_created=NOW,
                                  blocks=2, size=4 << 20),),
        )
        for number, one in enumerate(claims)
    ]  # fmt: skip
    return StoreFacts(where="/nas", volumes=tuple(volumes), read_at=NOW)


@pytest.fixture(scope="module")
def wanted(git: GitFacts) -> tuple[WantedVolume, ...]:
    assert git.cluster is not None
    claims = git_claims(git.cluster)
    return wanted_volumes(claims, store(claims))


def plan(lab: Lab, facts: dict[str, Any], wanted: tuple[WantedVolume, ...]) -> Plan:
    return plan_rebuild(lab, facts, wanted, ssh_public_key=KEY)


def one(made: Plan, name: str) -> Change:
    return next(change for change in made.changes if change.id == name)


def before(made: Plan, name: str) -> set[str]:
    """Everything that a change waits for, on whichever way."""
    changes, found = {change.id: change for change in made.changes}, set[str]()
    waiting = [*changes[name].needs, *changes[name].follows]
    while waiting:
        if (next_one := waiting.pop()) not in found:
            found.add(next_one)
            waiting += [*changes[next_one].needs, *changes[next_one].follows]
    return found


def test_each_change_waits_only_for_what_it_needs(lab: Lab, lost: dict[str, Any], wanted: Any) -> None:
    made = plan(lab, lost, wanted)
    assert not made.blockers
    first, second = lab.servers[:2]
    vms = {change.id for change in made.changes if change.kind == "vm"}
    assert before(made, f"server/{first.name}/create") & vms == {f"vm/{first.name}/create"}
    assert before(made, f"server/{second.name}/create") & vms == {f"vm/{m.name}/create" for m in (first, second)}
    assert before(made, "components/flux/create") & vms == {f"vm/{first.name}/create"}
    assert before(made, f"longhorn/{lab.name}/act") >= vms


def test_no_app_can_start_before_its_volume_is_back(lab: Lab, lost: dict[str, Any], wanted: Any) -> None:
    made = plan(lab, lost, wanted)
    assert "kustomization/apps/create" in before(made, "gitrepository/flux-system/create")
    mine = {f"restored-pv/{w.claim.pinned}/create" for w in wanted if w.claim.kustomization == "flux-system/apps"}
    assert len(mine) == 5
    assert mine <= before(made, "wake/flux-system/apps/act")
    assert "restored-pv/pvc-371de882-2365-5efe-b715-72d37395d466/create" not in before(
        made, "wake/flux-system/apps/act"
    )
    for volume in wanted:
        restored = f"restored-volume/{volume.claim.pinned}/create"
        assert {f"longhorn/{lab.name}/act", "backup-target/default/act"} <= before(made, restored)
        assert restored not in before(made, f"longhorn/{lab.name}/act")


def test_the_end_is_a_whole_chain_with_routes_and_a_first_backup_of_everything(
    lab: Lab, lost: dict[str, Any], wanted: Any
) -> None:
    made = plan(lab, lost, wanted)
    assert {f"restored-pv/{volume.claim.pinned}/create" for volume in wanted} <= before(made, CHAIN)
    hosts = one(made, "routes/apps/act").after["hosts"]
    assert f"links.{lab.domain}" in hosts  # type: ignore[operator]
    assert CHAIN in before(made, "routes/apps/act")
    backups = [change for change in made.changes if change.kind == "backup"]
    assert len(backups) == len(wanted)
    assert all(CHAIN in change.follows and change.apart for change in backups)


def test_the_digest_depends_on_nothing_but_wants_and_sights(lab: Lab, lost: dict[str, Any], wanted: Any) -> None:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    guests = lost["guests"].model_copy(update={"read_at": later, "guests": tuple(reversed(lost["guests"].guests))})
    other = lost | {"guests": guests, "k3s": K3sFacts(problem="no answer", read_at=later)}
    assert plan(lab, other, tuple(reversed(wanted))).digest == plan(lab, lost, wanted).digest


def test_one_missing_volume_leaves_the_others_alone(lab: Lab, lost: dict[str, Any], wanted: Any) -> None:
    """A pinned claim waits by itself: its Kustomization is woken although that volume could not be restored."""
    resume = one(plan(lab, lost, wanted), "wake/flux-system/apps/act")
    assert not [name for name in resume.needs if name.startswith("restored")]
    assert len([name for name in resume.follows if name.startswith("restored-pv")]) == 5
    loose = tuple(w.model_copy(update={"claim": w.claim.model_copy(update={"pinned": ""})})
                  if w.claim.name == "linkding-data" else w for w in wanted)  # fmt: skip
    resume = one(plan(lab, lost, loose), "wake/flux-system/apps/act")
    assert len([name for name in resume.needs if name.startswith("restored-pv")]) == 1


def test_a_claim_that_only_a_chart_makes_holds_back_whatever_may_bring_it(
    lab: Lab, lost: dict[str, Any], wanted: Any
) -> None:
    strange = tuple(w.model_copy(update={"claim": w.claim.model_copy(update={"pinned": "", "kustomization": ""})})
                    if w.claim.name == "linkding-data" else w for w in wanted)  # fmt: skip
    made = plan(lab, lost, strange)
    asleep = {change.target for change in made.changes if change.after.get("suspend") is True}
    assert asleep == {"apps", "infrastructure-configs"}
    volume = next(w for w in strange if w.claim.name == "linkding-data").source
    for name in ("apps", "infrastructure-configs"):
        assert f"restored-pv/{volume}/create" in one(made, f"wake/flux-system/{name}/act").needs


def test_a_claim_that_comes_with_longhorn_itself_must_be_pinned(lab: Lab, lost: dict[str, Any], wanted: Any) -> None:
    loose = tuple(w.model_copy(update={"claim": w.claim.model_copy(update={"pinned": ""})})
                  if w.claim.name == "authelia-config" else w for w in wanted)  # fmt: skip
    found = [f for f in plan(lab, lost, loose).blockers if f.id == "rebuild.pin"]
    assert [("authelia/authelia-config" in f.subject, "volumeName: pvc-371de882" in f.remedy) for f in found] == [
        (True, True)
    ]


def test_longhorn_and_what_it_depends_on(git: GitFacts) -> None:
    assert longhorn_release(git) == "HelmRelease/longhorn-system/longhorn"
    assert longhorn_comes_from(git) == {"flux-system/flux-system", "flux-system/infrastructure-controllers"}


def _with_vm(lab: Lab, facts: dict[str, Any], name: str, status: str, **notes: str) -> dict[str, Any]:
    whole = ProxmoxFacts.model_validate_json(NINE.read_text())
    vm = whole.vm(name)
    assert vm is not None
    there = facts["proxmox"]
    config = VmConfig(values=whole.config(vm).values | notes)
    update = {"vms": (*there.vms, vm.model_copy(update={"status": status})),
              "configs": there.configs | {vm.vmid: config}}  # fmt: skip
    return facts | {"proxmox": there.model_copy(update=update)}


def _with_guest(facts: dict[str, Any], name: str, **seen: Any) -> dict[str, Any]:
    guests = tuple(g.model_copy(update={"reachable": True, "host_key": "ok", "arch": "x86_64", "packages": {},
                                        "memory": 4 << 30, "disk_free": 50 << 30, "problem": "", **seen})
                   if g.name == name else g for g in facts["guests"].guests)  # fmt: skip
    return facts | {"guests": facts["guests"].model_copy(update={"guests": guests})}


def _blocked(lab: Lab, facts: dict[str, Any], wanted: Any) -> set[str]:
    return {finding.id for finding in plan(lab, facts, wanted).blockers}


def test_a_lab_that_is_only_silent_is_not_rebuilt(lab: Lab, lost: dict[str, Any], wanted: Any) -> None:
    first, second = lab.servers[0].name, lab.servers[1].name
    assert "loss.stopped" in _blocked(lab, _with_vm(lab, lost, second, "stopped"), wanted)
    assert "loss.silent" in _blocked(lab, _with_vm(lab, lost, second, "running"), wanted)
    up = _with_guest(_with_vm(lab, lost, second, "running"), second, server_db=True, cluster_ca="ab")
    assert "loss.cluster" in _blocked(lab, up, wanted)
    both = _with_guest(_with_vm(lab, up, first, "running"), first, server_db=True, cluster_ca="ab")
    assert "loss.cluster" in _blocked(lab, both, wanted)


def test_a_rebuild_that_was_broken_off_goes_on(lab: Lab, lost: dict[str, Any], wanted: Any) -> None:
    first = lab.servers[0].name
    machine = f"vm/{first}/create"
    half = plan(lab, _with_vm(lab, lost, first, "stopped", description=describe_unfinished(lab, first)), wanted)
    assert not half.blockers
    assert one(half, machine).before == {"state": "half-made"}
    founded = _with_guest(_with_vm(lab, lost, first, "running"), first, server_db=True, cluster_ca="ab",
                          units={"k3s": "activating"}, version=lab.k3s.version)  # fmt: skip
    again = plan(lab, founded, wanted)
    assert "loss.cluster" not in {finding.id for finding in again.blockers}
    assert one(again, f"server/{first}/act")
    assert machine not in {change.id for change in again.changes}
    assert f"server/{first}/act" in before(again, "components/flux/create")


def test_volumes_without_room_are_named(lab: Lab, lost: dict[str, Any], wanted: Any) -> None:
    grown = tuple(w.model_copy(update={"size": 80 << 30}) for w in wanted)
    found = [f for f in plan(lab, lost, grown).findings if f.id == "restore.room"]
    assert found
    assert "raise disk" in found[-1].remedy
