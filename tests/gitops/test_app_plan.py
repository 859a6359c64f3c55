"""Plans of apps from the example repository, and what carrying out their files makes of it: real git, real sops."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ruamel.yaml import YAML

from labkit.checks.apps import check_route
from labkit.checks.repository import check_repository
from labkit.errors import InputError
from labkit.facts.apps import AppFacts, ClaimRow, ConfigRow, RouteRow
from labkit.facts.flux import NAMESPACE, Condition, FluxFacts, FluxObject, Workload
from labkit.facts.git import GitFacts
from labkit.lab import Lab
from labkit.lab.apploader import load_app
from labkit.lab.apps import AppSpec
from labkit.plan import Action, Plan, Risk, Severity
from labkit.rules.apps import Facts, plan_app, shown_files
from labkit.run.schedule import Scheduler
from labkit.systems.access import Access, Step
from labkit.systems.apps import apply_app, render_tree
from labkit.systems.git import checked_out, fetch
from labkit.systems.gitread import read_git
from labkit.systems.repository import read_repository
from labkit.systems.sops import decrypt
from tests.gitops.hosts import Host

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AUTHELIA = "kubernetes/infrastructure/controllers/authelia/configmap.yaml"
READY = (Condition(type="Ready", status="True"),)


@pytest.fixture(scope="module")
def git(lab: Lab, shared_host: Host) -> GitFacts:
    return read_git(lab, shared_host.access())


def app(lab: Lab, **given: Any) -> AppSpec:
    return load_app(lab, **{"name": "demo", "image": "ghcr.io/traefik/whoami:v1.11.0", "port": 80, **given})


def facts(git: GitFacts, *, running: str = "", claims: tuple[ClaimRow, ...] = (), **more: Any) -> Facts:
    workloads = [Workload(kind="Deployment", namespace="authelia", name="authelia", wanted=1, ready=1,
                          started=more.get("started"), configs=("authelia",))]  # fmt: skip
    if running:
        workloads.append(Workload(kind="Deployment", namespace="default", name=running, wanted=1, ready=1))
    apps = FluxObject(kind="Kustomization", namespace=NAMESPACE, name="apps", conditions=READY, applied=git.revision)
    flux = FluxFacts(objects=(apps,), workloads=tuple(workloads), read_at=NOW)
    configs = (ConfigRow(namespace="authelia", name="authelia", changed=NOW),)
    return {"git": git, "flux": flux, "apps": AppFacts(claims=claims, configs=configs, read_at=NOW)}


def kinds(plan: Plan) -> list[str]:
    return [f"{change.kind} {change.action}" for change in plan.changes]


def names(plan: Plan) -> set[str]:
    return {change.target.rpartition("/")[2] for change in plan.changes if change.kind == "file"}


def carry_out(lab: Lab, access: Access, plan: Plan) -> None:
    """Apply a plan up to its push."""
    local = tuple(change for change in plan.changes if change.kind in ("checkout", "file", "commit"))
    outcome = Scheduler(local, lambda change, step: apply_app(lab, access, change, step), lambda *_: None).run()
    assert outcome.ok, outcome.failed


NEEDED: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"deployment.yaml", "service.yaml", "ingress.yaml", "kustomization.yaml", "configmap.yaml"}),
    ({"authentication": "oidc", "callback": "/cb"}, {"deployment.yaml", "service.yaml", "ingress.yaml",
                                                     "kustomization.yaml", "configmap.yaml", "secret.yaml"}),
    ({"config": "1Gi", "nfs": ["/mnt/tank/a:/a"]}, {"deployment.yaml", "service.yaml", "ingress.yaml",
                                                    "kustomization.yaml", "configmap.yaml", "pv.yaml", "pvc.yaml"}),
    ({"secrets": {"A": "env:A"}}, {"deployment.yaml", "service.yaml", "ingress.yaml", "kustomization.yaml",
                                   "configmap.yaml", "secret.yaml"}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), NEEDED)
def test_only_the_files_that_it_needs(lab: Lab, git: GitFacts, given: dict[str, Any], wanted: set[str]) -> None:
    plan = plan_app(lab, facts(git), app=app(lab, **given))
    assert not plan.findings
    assert names(plan) == wanted
    assert kinds(plan)[-4:] == ["commit act", "reconcile act", "restart act", "route act"]
    assert plan.digest == plan_app(lab, facts(git), app=app(lab, **given)).digest


def test_an_app_that_is_there_as_wanted_needs_nothing(lab: Lab, git: GitFacts) -> None:
    whoami = load_app(lab, name="whoami", image="ghcr.io/traefik/whoami:v1.11.0", port=80, replicas=2, health="/health",
                      memory="64Mi")  # fmt: skip
    assert not plan_app(lab, facts(git, running="whoami"), app=whoami)
    assert kinds(plan_app(lab, facts(git), app=whoami)) == ["reconcile act", "route act"]
    newer = plan_app(
        lab, facts(git, running="whoami"), app=whoami.model_copy(update={"image": "ghcr.io/traefik/whoami:v2"})
    )
    assert names(newer) == {"deployment.yaml"}
    assert newer.risk is Risk.DISRUPTIVE


def test_authelia_that_is_older_than_its_configuration_is_restarted(lab: Lab, git: GitFacts) -> None:
    whoami = load_app(lab, name="whoami", image="ghcr.io/traefik/whoami:v1.11.0", port=80, replicas=2, health="/health",
                      memory="64Mi")  # fmt: skip
    old = facts(git, running="whoami", started=datetime(2025, 1, 1, tzinfo=UTC))
    assert kinds(plan_app(lab, old, app=whoami)) == ["restart act"]


BLOCKED: list[tuple[dict[str, Any], str]] = [
    ({"name": "whoami", "host": "other.efym.net", "image": "x/y:1"}, "app.name"),
    ({"name": "meilisearch"}, "app.name"),
    ({"host": "whoami.efym.net"}, "app.host"),
    ({"host": "auth.efym.net"}, "app.host"),
    ({"host": "budget.efym.net", "name": "other"}, "app.host"),
    ({"name": "karakeep", "image": "ghcr.io/karakeep-app/karakeep:1", "authentication": "oidc", "callback": "/x",
      "host": "karakeep.efym.net"}, "app.files"),
    ({"host": "pve.efym.net", "name": "pve2"}, "app.host"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "finding"), BLOCKED, ids=[f"{given}" for given, _ in BLOCKED])
def test_what_is_taken_is_refused(lab: Lab, git: GitFacts, given: dict[str, Any], finding: str) -> None:
    plan = plan_app(lab, facts(git), app=app(lab, **given))
    assert finding in {one.id for one in plan.blockers}
    assert not plan


def test_an_image_without_a_tag_is_a_warning(lab: Lab, git: GitFacts) -> None:
    for image in ("ghcr.io/traefik/whoami", "ghcr.io/traefik/whoami:latest"):
        plan = plan_app(lab, facts(git), app=app(lab, image=image))
        assert [one.severity for one in plan.findings] == [Severity.WARNING]
        assert plan


def test_via_is_one_of_two_words(lab: Lab, git: GitFacts) -> None:
    with pytest.raises(InputError, match="push or pull-request"):
        plan_app(lab, facts(git), app=app(lab), via="mail")


def test_secrets_are_encrypted_for_the_clusters_key_and_nothing_else_holds_them(lab: Lab, host: Host) -> None:
    access = host.access()
    before = read_git(lab, access)
    wanted = app(lab, authentication="oidc", callback="/oauth/callback", restricted=True,
                 secrets={"DB_PASSWORD": "env:DEMO_DB"}, env={"LOG": "debug"})  # fmt: skip
    plan = plan_app(lab, facts(before), app=wanted)
    carry_out(lab, access, plan)
    mirror = fetch(lab, access)
    with checked_out(mirror) as folder:
        path = "kubernetes/apps/demo/secret.yaml"
        sealed = (folder / path).read_text(encoding="utf-8")
        clear = YAML(typ="safe").load(decrypt(folder, path, host.age_key))
        secret, password = clear["stringData"]["OIDC_CLIENT_SECRET"], clear["stringData"]["DB_PASSWORD"]
        assert len(secret) > 60
        texts = [
            p.read_text(encoding="utf-8") for p in folder.rglob("*") if p.is_file() and p.suffix in {".yaml", ".md"}
        ]
        assert not [text for text in texts if secret in text or password in text]
        assert "ENC[AES256_GCM" in sealed
        digest = (folder / AUTHELIA).read_text(encoding="utf-8").partition("client_id: demo")[2]
        assert _verifies(secret, digest.partition('client_secret: "')[2].partition('"')[0])
    assert secret not in plan.to_json()
    after = read_git(lab, access)
    errors = {one for one in check_repository(after.repository) if one.severity is Severity.ERROR}
    assert errors <= set(check_repository(before.repository))
    assert {one.result for one in after.repository.decryptions} == {"ok"}
    assert not plan_app(lab, facts(after, running="demo", started=NOW), app=wanted)
    # One more secret later: what was made before stays what it is.
    more = wanted.model_copy(update={"secrets": {**wanted.secrets, "API_TOKEN": "env:DEMO_API"}})
    carry_out(lab, access, plan_app(lab, facts(after), app=more))
    with checked_out(fetch(lab, access)) as folder:
        again = YAML(typ="safe").load(decrypt(folder, path, host.age_key))["stringData"]
    assert again["OIDC_CLIENT_SECRET"] == secret
    assert set(again) == {"DB_PASSWORD", "API_TOKEN", "OIDC_CLIENT_SECRET"}


def _verifies(secret: str, digest: str) -> bool:
    import base64

    from labkit.lab.authelia import secret_digest

    salt = digest.split("$")[3].replace(".", "+")
    return secret_digest(secret, base64.b64decode(salt + "=" * (-len(salt) % 4))) == digest


def test_a_branch_that_moves_while_we_work_keeps_both(lab: Lab, host: Host) -> None:
    access = host.access()
    plan = plan_app(lab, facts(read_git(lab, access)), app=app(lab))

    def apply(change: Any, step: Step) -> str:
        if change.kind == "commit":
            host.bare.commit({"NOTES.md": b"somebody else\n"}, "Somebody else")
        return apply_app(lab, access, change, step)

    local = tuple(change for change in plan.changes if change.kind in ("checkout", "file", "commit"))
    assert Scheduler(local, apply, lambda *_: None).run().ok
    files = host.bare.files()
    assert "NOTES.md" in files
    assert "kubernetes/apps/demo/deployment.yaml" in files


def test_a_pull_request_is_a_branch_and_the_second_plan_is_empty(lab: Lab, host: Host) -> None:
    access = host.access()
    head = host.bare.head()
    before = facts(read_git(lab, access))
    plan = plan_app(lab, before, app=app(lab), via="pull-request")
    assert kinds(plan)[-1] == "commit act"
    assert plan.changes[-1].target == "labkit/add-demo"
    carry_out(lab, access, plan)
    assert host.bare.head() == head
    after = read_git(lab, access)
    assert [one.branch for one in after.proposals] == ["labkit/add-demo"]
    assert not plan_app(lab, facts(after), app=app(lab), via="pull-request")
    assert plan_app(lab, facts(after), app=app(lab), via="push")
    other = app(lab, replicas=3)
    carry_out(lab, access, plan_app(lab, facts(after), app=other, via="pull-request"))
    assert not plan_app(lab, facts(read_git(lab, access)), app=other, via="pull-request")


def claim(name: str, *, keeps: bool, nfs: str = "") -> ClaimRow:
    return ClaimRow(namespace="default", name=name, size="5Gi", volume=f"pvc-{name}", keeps=keeps, nfs=nfs)


def test_a_removal_names_the_data_that_goes(lab: Lab, git: GitFacts) -> None:
    gone = load_app(lab, name="karakeep", image="removed:0", port=1)
    claims = (claim("karakeep-data", keeps=False), claim("karakeep-search", keeps=True), claim("other", keeps=False))
    plan = plan_app(lab, facts(git, claims=claims), app=gone, remove=True)
    assert [one.id for one in plan.blockers] == ["app.data"]
    assert "karakeep-data" in plan.blockers[0].subject
    named = plan_app(lab, facts(git, claims=claims), app=gone, remove=True, destroy=("karakeep-data",))
    assert not named.blockers
    assert named.risk is Risk.DESTRUCTIVE
    volumes = {change.target: change.risk for change in named.changes if change.kind == "volume"}
    assert volumes == {"karakeep-data": Risk.DESTRUCTIVE, "karakeep-search": Risk.SAFE}
    wrong = plan_app(lab, facts(git, claims=claims), app=gone, remove=True, destroy=("karakeep-data", "other"))
    assert [one.id for one in wrong.blockers] == ["app.destroy"]


def test_a_removal_takes_the_folder_the_rule_and_the_client(lab: Lab, git: GitFacts) -> None:
    gone = load_app(lab, name="linkding", image="removed:0", port=1)
    plan = plan_app(lab, facts(git), app=gone, remove=True)
    assert [c.target for c in plan.changes if c.action is Action.UPDATE] == [AUTHELIA]
    assert sum(change.action is Action.DELETE and change.kind == "file" for change in plan.changes) == 6
    shown = {one.path: one for one in shown_files(lab, git, plan, app=gone, remove=True)}
    assert "links.efym.net" not in (shown[AUTHELIA].after or "")
    assert "budget.efym.net" in (shown[AUTHELIA].after or "")
    nothing = plan_app(lab, facts(git), app=load_app(lab, name="never", image="removed:0", port=1), remove=True)
    assert not nothing
    assert [one.severity for one in nothing.findings] == [Severity.INFO]


@pytest.mark.parametrize("given", [{}, {"authentication": "oidc", "callback": "/cb"}, {"authentication": "none"},
                                   {"restricted": True, "config": "2Gi", "nfs": ["/mnt/tank/a:/a:ro"],
                                    "secrets": {"A_TOKEN": "env:A"}}])  # fmt: skip
def test_the_checker_finds_nothing_new_in_the_result(lab: Lab, shared_host: Host, git: GitFacts,
                                                     given: dict[str, Any]) -> None:  # fmt: skip
    access = shared_host.access()
    plan = plan_app(lab, facts(git), app=app(lab, **given))
    with checked_out(fetch(lab, access)) as folder:
        render_tree(lab, access, plan.changes[0], folder)
        found = check_repository(read_repository(folder))
    known = {one.fingerprint for one in check_repository(git.repository)}
    new = [one for one in found if one.fingerprint not in known and one.severity is not Severity.INFO]
    assert not [one for one in new if one.id != "longhorn-no-backup"]


PORTAL = "auth.efym.net"
ROUTES: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"status": 302, "location": f"https://{PORTAL}/"}, "forward", []),
    ({"status": 401}, "forward", []),
    ({"status": 200}, "forward", ["app.protected"]),
    ({"status": 302, "location": "https://elsewhere.net/"}, "forward", ["app.protected"]),
    ({"status": 200}, "none", []),
    ({"status": 404}, "none", []),
    ({"status": 302, "location": f"https://{PORTAL}/"}, "none", ["app.open"]),
    ({"status": 302, "location": f"https://{PORTAL}/api/oidc"}, "oidc", []),
    ({"status": 404, "server_says": "404 page not found"}, "none", ["app.route"]),
    ({"status": 502}, "none", ["app.route"]),
    ({"status": 200, "verified": False, "problem": "self-signed certificate"}, "none", ["app.certificate"]),
    ({"reachable": False, "problem": "connection refused"}, "none", ["app.route"]),
]


@pytest.mark.parametrize(("seen", "authentication", "wanted"), ROUTES)
def test_what_an_answer_says(lab: Lab, seen: dict[str, Any], authentication: str, wanted: list[str]) -> None:
    row = RouteRow(**{"host": "demo.efym.net", "reachable": True, "verified": True, **seen})
    one = app(lab, authentication=authentication, callback="/cb" if authentication == "oidc" else "")
    assert [finding.id for finding in check_route(row, one, PORTAL)] == wanted
