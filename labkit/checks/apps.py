"""Checks on apps: mistakes before anything is written, and whether one is live and protected as it should be."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.checks.base import Check, error, info, warning
from labkit.checks.repository.routes import routes
from labkit.checks.repository.sops import rule_for
from labkit.facts.apps import RouteFacts, RouteRow
from labkit.facts.flux import FluxFacts
from labkit.facts.git import GitFacts
from labkit.facts.repository import Resource
from labkit.lab import Lab
from labkit.lab.apprender import SECRET, RepoForm, render_app
from labkit.lab.apps import AppSpec
from labkit.lab.authelia import Authelia, has_rules, own_client, own_rules, read_authelia, same_client, wanted_client
from labkit.plan import Finding
from labkit.rules.app_form import authelia_file, repo_form

REMEDY = "run add-app"


def check_mistakes(
    lab: Lab, git: GitFacts, app: AppSpec, form: RepoForm, authelia: str, *, remove: bool
) -> Iterator[Finding]:
    """Yield why an app cannot be added, or taken out, as it is wanted."""
    if git.cluster is None:
        yield error("app.cluster", lab.git.path, "the entry of a cluster in the repository", "none",
                    "run bootstrap-flux, or correct git.path of the lab file")  # fmt: skip
        return
    mine = [one for one in git.cluster.resources if one.file.startswith(f"{form.folder}/{app.name}/")]
    if remove:
        yield from _check_removal(git, app, form, mine)
        return
    yield from _check_taken(git, app, form, mine)
    yield from _check_image(app)
    yield from _check_folder(git, app, form)
    yield from _check_sops(git, app, form)
    yield from _check_authelia(git, app, authelia)


def _check_removal(git: GitFacts, app: AppSpec, form: RepoForm, mine: list[Resource]) -> Iterator[Finding]:
    if not mine and not any(path.startswith(f"{form.folder}/{app.name}/") for path in git.texts):
        yield info("app.gone", f"app {app.name}", f"a folder {form.folder}/{app.name}", "none", "it is gone already")


def _check_taken(git: GitFacts, app: AppSpec, form: RepoForm, mine: list[Resource]) -> Iterator[Finding]:
    """A name, an object or a host that another app has."""
    assert git.cluster is not None  # noqa: S101  # asked before
    others = [one for one in git.cluster.resources if one not in mine]
    wanted = {("Deployment", app.name), ("Service", app.name), ("IngressRoute", app.name)}
    for one in others:
        if (one.kind, one.name) in wanted and one.namespace == form.namespace:
            yield error("app.name", f"app {app.name}", "a name that is free", f"{one.label} in {one.file}:{one.line}",
                        "choose another name")  # fmt: skip
    for route in routes(git.cluster):
        if app.host in route.hosts and route.resource not in mine:
            place = f"{route.resource.label} in {route.resource.file}:{route.line}"
            yield error("app.host", f"app {app.name}", f"host {app.host} to be free", place, "choose another host")
    image = next((str(_image_of(one)) for one in mine if one.kind == "Deployment" and one.name == app.name), "")
    hosts = {host for route in routes(git.cluster) if route.resource in mine for host in route.hosts}
    if image and _bare(image) != _bare(app.image) and app.host not in hosts:
        yield error("app.name", f"app {app.name}", "a name that is free", f"an app of that name with image {image}",
                    "choose another name, or remove that app first")  # fmt: skip


def _image_of(one: Resource) -> object:
    return one.get("spec", "template", "spec", "containers", 0, "image") or ""


def _bare(image: str) -> str:
    """An image without its tag and digest."""
    head, slash, tail = image.partition("@")[0].rpartition("/")
    return f"{head}{slash}{tail.partition(':')[0]}"


def _check_image(app: AppSpec) -> Iterator[Finding]:
    if app.tag in ("", "latest"):
        got = "no tag" if not app.tag else "the tag latest"
        yield warning("app.image", f"image {app.image}", "a tag that stays what it is", got,
                      "name a version: nobody can say later what ran")  # fmt: skip


def _check_folder(git: GitFacts, app: AppSpec, form: RepoForm) -> Iterator[Finding]:
    """Files that are not of this form were made by hand: a new kustomization would drop them."""
    folder = f"{form.folder}/{app.name}/"
    known = {*render_app(app, form), *([SECRET] if app.secret_keys else [])}
    for path in sorted(git.texts):
        if path.startswith(folder) and path.removeprefix(folder) not in known:
            remedy = "change this app by hand; or remove the file, its objects would go"
            yield error("app.files", f"app {app.name}", f"only files that it needs: {', '.join(sorted(known))}", path,
                        remedy)  # fmt: skip


def _check_sops(git: GitFacts, app: AppSpec, form: RepoForm) -> Iterator[Finding]:
    if not app.secret_keys:
        return
    path = f"{form.folder}/{app.name}/{SECRET}"
    rules = git.repository.sops_rules
    found = rule_for(rules, path) if rules is not None else None
    if found is None or not (found.recipients or found.others):
        yield error("app.sops", path, "a rule of .sops.yaml that matches it", "none", "add one with your age recipient")
    elif found.recipients and not found.recipients & set(git.repository.key_recipients):
        yield error("app.sops", path, "a rule of .sops.yaml for the lab's age key", "one for other recipients",
                    "add the recipient of git.age_key to that rule: Flux could not decrypt the file")  # fmt: skip


def _check_authelia(git: GitFacts, app: AppSpec, authelia: str) -> Iterator[Finding]:
    text = git.texts.get(authelia, "")
    config = read_authelia(text) if text else None
    if config is None:
        if app.authentication != "none":
            yield error("app.authelia", f"app {app.name}", "Authelia's access_control in the repository",
                        "none that can be read", "use authentication=none, or set Authelia up first")  # fmt: skip
        return
    yield from _check_rules(app, config, authelia)
    seen, wanted = own_client(config, app.name), wanted_client(app)
    if wanted is not None and not config.clients:
        yield error("app.oidc", authelia, "Authelia to be an OIDC provider with a client", "none",
                    "set up identity_providers.oidc with a first client by hand")  # fmt: skip
    if seen is not None and wanted is not None and not same_client(seen, wanted):
        yield error("app.oidc", authelia, f"client {app.name} as wanted, or none", "one with other settings",
                    "change it by hand, or remove it")  # fmt: skip


def _check_rules(app: AppSpec, config: Authelia, authelia: str) -> Iterator[Finding]:
    if app.authentication != "oidc" and own_rules(config, app.host) and not has_rules(app, config):
        policies = ", ".join(sorted({str(one.get("policy")) for one in own_rules(config, app.host)}))
        yield error("app.rules", authelia, f"no rule for {app.host} yet, or the wanted one", f"rules with {policies}",
                    "change that rule by hand, or give policy, restricted and group as it says")  # fmt: skip


def app_is_live(lab: Lab, app: AppSpec) -> Check:
    """Return the check that an app runs, answers over HTTPS with a valid certificate, and is protected as wanted."""

    def find(git: GitFacts, flux: FluxFacts, seen: RouteFacts) -> Iterator[Finding]:
        config = read_authelia(git.texts.get(authelia_file(git), ""))
        portal = config.portal if config is not None else ""
        yield from _check_workload(flux, app, repo_form(lab, git, app.name))
        yield from check_route(seen.route(app.host), app, portal or f"auth.{lab.domain}")

    how = {"forward": "sends strangers to the login", "oidc": "logs its users in by itself", "none": "is open"}
    sentence = f"https://{app.host} answers with a valid certificate and {how[app.authentication]}"
    return Check("app-live", sentence, ("git", "flux", "routes"),
                 lambda facts: find(facts["git"], facts["flux"], facts["routes"]))  # fmt: skip


def _check_workload(flux: FluxFacts, app: AppSpec, form: RepoForm) -> Iterator[Finding]:
    seen = flux.workload(f"Deployment/{form.namespace}/{app.name}")
    if seen is None or not seen.is_ready:
        got = "none" if seen is None else seen.problem or f"{seen.ready} of {seen.wanted} pods are ready"
        yield error(
            "app.workload", f"Deployment {form.namespace}/{app.name}", f"{app.replicas} ready pods", got, REMEDY
        )


def check_route(seen: RouteRow | None, app: AppSpec, portal: str) -> Iterator[Finding]:
    """Yield what is wrong with how a host answers to a stranger."""
    subject = f"https://{app.host}"
    if seen is None or not seen.reachable:
        got = seen.problem if seen is not None else "no route of that host in the cluster"
        yield error("app.route", subject, "an answer", got, "look at Traefik's pods and its load balancer address")
        return
    if not seen.verified:
        yield error("app.certificate", subject, f"a certificate for {app.host} from a known CA", seen.problem,
                    "look at the Certificate, and whether its Secret is in the app's namespace")  # fmt: skip
    if not seen.is_routed:
        yield error("app.route", subject, "an app behind the route", f"status {seen.status} {seen.server_says}".strip(),
                    "look at the IngressRoute, its ingress class, and the Service behind it")  # fmt: skip
    elif app.needs_login and not is_login(seen, portal):
        got = f"status {seen.status}" + (f" to {seen.location}" if seen.location else "")
        yield error("app.protected", subject, f"a redirect to {portal} for a stranger", got,
                    "it is open: look at the route's middleware")  # fmt: skip
    elif not app.needs_login and is_login(seen, portal) and app.authentication == "none":
        yield error("app.open", subject, "the app's own answer", f"a redirect to {portal}", "remove the middleware")


def is_login(seen: RouteRow, portal: str) -> bool:
    """Tell whether a stranger is sent to the login page, or told to log in."""
    return (seen.status in (301, 302, 303, 307, 308) and seen.location.startswith(f"https://{portal}")) or (
        seen.status == 401
    )


def app_is_gone(lab: Lab, app: AppSpec) -> Check:
    """Return the check that nothing of an app is left in the cluster."""

    def find(git: GitFacts, flux: FluxFacts, seen: RouteFacts) -> Iterator[Finding]:
        form = repo_form(lab, git, app.name)
        if flux.workload(f"Deployment/{form.namespace}/{app.name}") is not None:
            yield error("app.gone", f"Deployment {form.namespace}/{app.name}", "none", "one that is there", REMEDY)
        if seen.route(app.host) is not None:
            yield error("app.gone", f"https://{app.host}", "no route", "one that is there", REMEDY)

    return Check("app-gone", f"nothing of {app.name} is left", ("git", "flux", "routes"),
                 lambda facts: find(facts["git"], facts["flux"], facts["routes"]))  # fmt: skip


def app_is_proposed(lab: Lab, app: AppSpec, *, remove: bool) -> Check:
    """Return the check that a branch waits for review."""
    branch = f"labkit/{'remove' if remove else 'add'}-{app.name}"

    def find(git: GitFacts) -> Iterator[Finding]:
        if not any(one.branch == branch for one in git.proposals):
            yield error("app.proposed", f"branch {branch}", "it on the Git server", "none", REMEDY)

    return Check("app-proposed", f"branch {branch} of {lab.git.url} waits for review", ("git",),
                 lambda facts: find(facts["git"]))  # fmt: skip


def app_as_wanted(lab: Lab, app: AppSpec, *, remove: bool = False, via: str = "push") -> Check:
    """Return what must be true after a run: the app is live, is gone, or waits for review."""
    if via == "pull-request":
        return app_is_proposed(lab, app, remove=remove)
    return app_is_gone(lab, app) if remove else app_is_live(lab, app)
