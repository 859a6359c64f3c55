"""Plans of Flux from the example repository and from rows of a cluster: a table, each with what is right already."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from labkit.checks.flux import check_live, check_repository_for_flux, check_stored_versions, flux_preflight
from labkit.errors import InputError
from labkit.facts.flux import NAMESPACE, Condition, FluxFacts, FluxObject, SecretSeen, Workload
from labkit.facts.git import GitFacts
from labkit.lab import Lab
from labkit.plan import Action, Plan, Risk
from labkit.rules.flux import Facts, plan_flux
from labkit.systems.access import Access
from labkit.systems.flux.secrets import seen_secret, wanted_seen, wanted_values
from labkit.systems.gitread import read_git
from labkit.systems.gotk import inspect_components, load_components
from tests.gitops.hosts import Host, new_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READY = (Condition(type="Ready", status="True", reason="ReconciliationSucceeded"),)


@pytest.fixture(scope="module")
def access(shared_host: Host) -> Access:
    return shared_host.access()


@pytest.fixture(scope="module")
def git(lab: Lab, access: Access) -> GitFacts:
    return read_git(lab, access)


@pytest.fixture(scope="module")
def secrets(lab: Lab, access: Access) -> tuple[SecretSeen, SecretSeen]:
    return wanted_seen(wanted_values(lab, access))


def empty(secrets: tuple[SecretSeen, SecretSeen]) -> FluxFacts:
    return FluxFacts(wanted_secrets=secrets, read_at=NOW)


def healthy(git: GitFacts, secrets: tuple[SecretSeen, SecretSeen]) -> FluxFacts:
    """A cluster in which everything is as the repository says."""
    controllers = [
        Workload(kind="Deployment", namespace=NAMESPACE, name=name, wanted=1, ready=1, images=(image,),
                 labels={"app.kubernetes.io/part-of": "flux", "app.kubernetes.io/version": git.flux_version})
        for name, image in git.controllers.items()
    ]  # fmt: skip
    objects = [row(git, build.source.name, dict(build.source.get("spec") or {})) for build in git.builds]
    source = git.resource("GitRepository", "flux-system", NAMESPACE)
    assert source is not None
    objects.append(FluxObject(kind="GitRepository", namespace=NAMESPACE, name=NAMESPACE, conditions=READY,
                              artifact=git.revision, spec=dict(source.get("spec"))))  # fmt: skip
    return FluxFacts(
        namespace=True, installed=git.flux_version, crds=dict(git.crds), secrets=secrets, wanted_secrets=secrets,
        objects=tuple(objects), workloads=tuple(controllers), read_at=NOW,
    )  # fmt: skip


def row(git: GitFacts, name: str, spec: dict[str, Any], **more: Any) -> FluxObject:
    needs = tuple(f"Kustomization/{NAMESPACE}/{one['name']}" for one in spec.get("dependsOn") or ())
    return FluxObject(**{"kind": "Kustomization", "namespace": NAMESPACE, "name": name, "conditions": READY,
                         "applied": git.revision, "source": f"GitRepository/{NAMESPACE}/{NAMESPACE}", "spec": spec,
                         "needs": needs, "path": spec.get("path", ""), **more})  # fmt: skip


def changed(facts: FluxFacts, name: str, **more: Any) -> FluxFacts:
    objects = tuple(one.model_copy(update=more) if one.name == name and one.kind == "Kustomization" else one
                    for one in facts.objects)  # fmt: skip
    return facts.model_copy(update={"objects": objects})


def ids(plan: Plan) -> list[str]:
    return [change.id for change in plan.changes]


def test_an_empty_cluster_gets_everything_in_its_order(lab: Lab, git: GitFacts, secrets: Any) -> None:
    plan = plan_flux(lab, {"git": git, "flux": empty(secrets)})
    assert ids(plan) == [
        "namespace/flux-system/create", "secret/flux-system/create", "secret/sops-age/create", "components/flux/create",
        "gitrepository/flux-system/create", "kustomization/flux-system/create",
        "chain/kubernetes/clusters/production/act",
    ]  # fmt: skip
    assert not plan.findings
    assert plan.risk is Risk.SAFE
    sync = next(change for change in plan.changes if change.kind == "gitrepository")
    assert {"secret/sops-age/create", "components/flux/create"} <= set(sync.needs)


def test_a_healthy_cluster_needs_nothing(lab: Lab, git: GitFacts, secrets: Any) -> None:
    plan = plan_flux(lab, {"git": git, "flux": healthy(git, secrets)})
    assert not plan
    assert not plan.findings
    assert not list(check_live(git, healthy(git, secrets)))


def test_a_suspended_kustomization_is_made_before_flux_sees_it(lab: Lab, git: GitFacts, secrets: Any) -> None:
    plan = plan_flux(lab, {"git": git, "flux": empty(secrets)}, suspend=("apps",))
    one = next(change for change in plan.changes if change.target == "apps")
    assert one.after == {"suspend": True, "namespace": NAMESPACE}
    assert one.needs == ("components/flux/create",)
    for kind in ("gitrepository", "kustomization"):
        assert one.id in next(c for c in plan.changes if c.id == f"{kind}/flux-system/create").needs
    assert plan.changes[-1].after == {"but": ["apps"]}


def test_a_digest_does_not_depend_on_the_keys(lab: Lab, git: GitFacts, secrets: Any) -> None:
    other = (SecretSeen(name="flux-system", keys=dict.fromkeys(secrets[0].keys, "x")),
             SecretSeen(name="sops-age", keys={"age.agekey": "y"}))  # fmt: skip
    first = plan_flux(lab, {"git": git, "flux": empty(secrets)})
    assert first.digest == plan_flux(lab, {"git": git, "flux": empty(other)}).digest


CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("no age key", {"secrets": 0}, ["secret/sops-age/create", "chain/kubernetes/clusters/production/act"]),
    ("no deploy key", {"secrets": 1}, ["secret/flux-system/create", "chain/kubernetes/clusters/production/act"]),
    ("a controller of another version", {"image": "x:v1"},
     ["components/flux/update", "chain/kubernetes/clusters/production/act"]),
    ("a definition is missing", {"crd": True}, ["components/flux/update", "chain/kubernetes/clusters/production/act"]),
    ("an old revision", {"apps": {"applied": "master@sha1:old"}}, ["chain/kubernetes/clusters/production/act"]),
    ("a failing one", {"apps": {"conditions": (Condition(type="Ready", status="False", reason="BuildFailed"),)}},
     ["chain/kubernetes/clusters/production/act"]),
    ("another path", {"flux-system": {"spec": {"path": "./other"}, "path": "./other"}},
     ["kustomization/flux-system/update", "chain/kubernetes/clusters/production/act"]),
    ("suspended by somebody", {"apps": {"suspended": True, "suspended_by": "flux"}}, []),
]  # fmt: skip


@pytest.mark.parametrize(("difference", "wanted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_difference_has_its_change(
    lab: Lab, git: GitFacts, secrets: Any, difference: dict[str, Any], wanted: list[str]
) -> None:
    facts = healthy(git, secrets)
    if "secrets" in difference:
        facts = facts.model_copy(update={"secrets": (secrets[difference["secrets"]],)})
    if "image" in difference:
        first = facts.workloads[0].model_copy(update={"images": (difference["image"],)})
        facts = facts.model_copy(update={"workloads": (first, *facts.workloads[1:])})
    if "crd" in difference:
        facts = facts.model_copy(update={"crds": dict(list(facts.crds.items())[1:])})
    for name in ("apps", "flux-system"):
        facts = changed(facts, name, **difference.get(name, {}))
    assert ids(plan_flux(lab, {"git": git, "flux": facts})) == wanted


def test_a_suspension_of_ours_is_told_and_taken_back_by_name(lab: Lab, git: GitFacts, secrets: Any) -> None:
    asleep = changed(healthy(git, secrets), "apps", suspended=True, suspended_by="labkit")
    facts: Facts = {"git": git, "flux": asleep}
    plan = plan_flux(lab, facts)
    assert not plan
    assert [finding.severity for finding in plan.findings] == ["warning"]
    plan = plan_flux(lab, facts, resume=("apps",))
    assert ids(plan) == ["kustomization/apps/update", "chain/kubernetes/clusters/production/act"]
    assert plan.changes[0].after["suspend"] is False
    assert not plan_flux(lab, facts, suspend=("apps",)).findings


def test_names_that_do_not_exist_are_refused(lab: Lab, git: GitFacts, secrets: Any) -> None:
    facts: Facts = {"git": git, "flux": empty(secrets)}
    with pytest.raises(InputError, match="did you mean apps"):
        plan_flux(lab, facts, suspend=("app",))
    with pytest.raises(InputError, match="not in suspend as well"):
        plan_flux(lab, facts, suspend=("apps",), resume=("apps",))
    with pytest.raises(InputError, match=r"Git's own count"):
        plan_flux(lab, facts, components="x")


def test_a_new_repository_gets_its_three_files_in_one_commit(lab: Lab, git: GitFacts, secrets: Any) -> None:
    text = git.texts[f"{git.flux_folder}/gotk-components.yaml"]
    new = GitFacts(url=git.url, branch=git.branch, path=git.path)
    plan = plan_flux(lab, {"git": new, "flux": empty(secrets)}, components=text)
    assert not plan.blockers
    files = [change.target.rpartition("/")[2] for change in plan.changes if change.kind == "file"]
    assert sorted(files) == ["gotk-components.yaml", "gotk-sync.yaml", "kustomization.yaml"]
    components = next(change for change in plan.changes if change.kind == "components")
    assert "commit/master/act" in components.needs
    bare = plan_flux(lab, {"git": new, "flux": empty(secrets)})
    assert [finding.id for finding in bare.blockers] == ["flux.components"]


def test_what_would_stop_flux_blocks_the_plan(lab: Lab, git: GitFacts, secrets: Any) -> None:
    stored = healthy(git, secrets).model_copy(
        update={"crds": {**git.crds, "helmreleases.helm.toolkit.fluxcd.io": ("v2beta1", "v2")}}
    )
    assert [one.id for one in check_stored_versions(git, stored)] == ["flux.stored-versions"]
    assert plan_flux(lab, {"git": git, "flux": stored}).blockers
    helm = healthy(git, secrets).model_copy(update={"managed_by": "Helm"})
    assert [one.id for one in plan_flux(lab, {"git": git, "flux": helm}).blockers] == ["flux.managed"]
    other = lab.model_copy(update={"git": lab.git.model_copy(update={"path": "clusters/other"})})
    assert plan_flux(other, {"git": git.model_copy(update={"path": "clusters/other"}), "flux": empty(secrets)}).blockers


def test_the_repository_passes_the_preflight(lab: Lab, git: GitFacts) -> None:
    for check in flux_preflight(lab):
        assert not check({"git": git}), check.sentence


def test_an_age_key_that_does_not_open_a_secret_is_told_with_its_file(lab: Lab, host: Host) -> None:
    import pyrage

    other = host.access(**{lab.git.age_key: str(pyrage.x25519.Identity.generate())})
    found = [one for check in flux_preflight(lab) for one in check({"git": read_git(lab, other)})]
    assert {one.subject for one in found} >= {"kubernetes/apps/linkding/secret.yaml"}
    assert {one.id for one in found} == {"flux.age-key"}


def test_a_removed_api_version_and_a_broken_build_are_told(lab: Lab, host: Host) -> None:
    sync = host.bare.files()["kubernetes/clusters/production/apps.yaml"].replace(
        b"fluxcd.io/v1\n", b"fluxcd.io/v1beta2\n"
    )
    broken = b"resources:\n  - nothing.yaml\n"
    host.bare.commit({"kubernetes/clusters/production/apps.yaml": sync,
                      "kubernetes/infrastructure/configs/kustomization.yaml": broken}, "Break")  # fmt: skip
    git = read_git(lab, host.access())
    found = {one.id: one for one in check_repository_for_flux(git)}
    assert set(found) == {"repository.flux-api-removed", "repository.build-failed"}
    assert found["repository.flux-api-removed"].subject.startswith("kubernetes/clusters/production/apps.yaml:")


def test_secrets_are_compared_by_what_they_hold(lab: Lab, access: Access, secrets: Any, shared_host: Host) -> None:
    import base64

    wanted = wanted_values(lab, access)

    def item(name: str, **data: str) -> dict[str, Any]:
        keys = {key.replace("_pub", ".pub").replace("_agekey", ".agekey"): text for key, text in data.items()}
        sealed = {key: base64.b64encode(text.encode()).decode() for key, text in keys.items()}
        return {"metadata": {"name": name}, "data": sealed}

    # The same key in another form, and only some of the known host keys, are the same.
    import asyncssh

    pem = asyncssh.import_private_key(wanted.identity).export_private_key("pkcs8-pem").decode()
    same = item("flux-system", identity=pem, identity_pub=wanted.public + "comment", known_hosts=wanted.known_hosts)
    assert seen_secret(same, wanted).keys == secrets[0].keys
    other = item("flux-system", identity=new_key(), identity_pub=wanted.public, known_hosts="github.com ssh-rsa AAAA")
    assert seen_secret(other, wanted).keys["identity"] != secrets[0].keys["identity"]
    both = item("sops-age", old_agekey=f"# two keys\n{shared_host.age_key}\n")
    assert seen_secret(both, wanted).keys == {"old.agekey": secrets[1].keys["age.agekey"]}


def test_components_come_from_a_file_that_has_them(git: GitFacts, tmp_path: Any) -> None:
    new = GitFacts(url=git.url, branch=git.branch, path=git.path)
    assert load_components("", git) == ""
    file = tmp_path / "gotk.yaml"
    with pytest.raises(InputError, match="No such file"):
        load_components(str(file), new)
    file.write_text("a: b\n", encoding="utf-8")
    with pytest.raises(InputError, match="Flux's controllers"):
        load_components(str(file), new)
    text = git.texts[f"{git.flux_folder}/gotk-components.yaml"]
    file.write_text(text, encoding="utf-8")
    assert load_components(str(file), new) == text
    assert inspect_components(text).version == "v2.9.4"
    assert inspect_components("a: [").version == ""


def test_changes_are_of_known_actions(lab: Lab, git: GitFacts, secrets: Any) -> None:
    plan = plan_flux(lab, {"git": git, "flux": empty(secrets)})
    assert {change.action for change in plan.changes} == {Action.CREATE, Action.ACT}
