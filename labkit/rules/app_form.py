"""How the repository at hand writes its apps: folder, namespace, certificate, middleware, Authelia's file. Pure."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable
from typing import Any

from labkit.facts.git import GitFacts
from labkit.facts.manifests import dig, maps, texts
from labkit.facts.repository import Build, Resource
from labkit.lab import Lab
from labkit.lab.apprender import RepoForm
from labkit.lab.authelia import read_authelia

_CLASS = "kubernetes.io/ingress.class"
_DEFAULT = "kubernetes/apps"


def apps_build(git: GitFacts) -> Build | None:
    """Return the Kustomization that applies the folders of apps: the one that says so, else that with most of them."""
    with_apps = [(one, _deployments(one)) for one in git.builds if one.path and one.name != "flux-system/flux-system"]
    named = [(one, count) for one, count in with_apps if posixpath.basename(one.path) == "apps"]
    found = max(named or with_apps, key=lambda pair: pair[1], default=None)
    return found[0] if found is not None else None


def _deployments(build: Build) -> int:
    return sum(one.kind == "Deployment" for one in build.resources)


def repo_form(lab: Lab, git: GitFacts, app: str) -> RepoForm:
    """Return the form of the repository's apps; what no app shows comes from the lab and from common use."""
    build = apps_build(git)
    folder = build.path if build is not None else _DEFAULT
    resources = build.resources if build is not None else ()
    routes = [one for one in resources if one.kind == "IngressRoute"]
    claims = [one for one in resources if one.kind == "PersistentVolumeClaim"]
    form = {
        "folder": folder,
        "namespace": _most((one.namespace for one in resources if one.kind == "Deployment"), "default"),
        "tls_secret": _most((one.get("spec", "tls", "secretName") for one in routes),
                            f"{lab.domain.replace('.', '-')}-tls"),
        "ingress_class": _most((one.annotations.get(_CLASS) for one in routes), "" if routes else "traefik-external"),
        "entry_points": _most((tuple(texts(one.get("spec", "entryPoints"))) for one in routes), ("websecure",)),
        "middleware": forward_auth(git),
        "storage_class": _most((one.get("spec", "storageClassName") for one in claims), "longhorn"),
        "nas": lab.nas.host,
        "nfs_options": _nfs_options(resources),
        "listed": f"{folder}/kustomization.yaml" if f"{folder}/kustomization.yaml" in git.texts else "",
        "pins": _pins(git, f"{folder}/{app}"),
    }  # fmt: skip
    return RepoForm.model_validate(form)


def _most(values: Iterable[Any], default: Any) -> Any:
    counts = Counter(value for value in values if value)
    return counts.most_common(1)[0][0] if counts else default


def _nfs_options(resources: Iterable[Resource]) -> tuple[str, ...]:
    volumes = (one for one in resources if one.kind == "PersistentVolume" and one.get("spec", "nfs"))
    found: tuple[str, ...] = _most((tuple(texts(one.get("spec", "mountOptions"))) for one in volumes),
                                   ("nfsvers=4.2", "hard", "noatime"))  # fmt: skip
    return found


def forward_auth(git: GitFacts) -> tuple[str, str]:
    """Return namespace and name of the middleware that asks Authelia."""
    resources = git.cluster.resources if git.cluster is not None else ()
    found = [one for one in resources if one.kind == "Middleware" and one.get("spec", "forwardAuth", "address")]
    found.sort(key=lambda one: "authelia" not in str(one.get("spec", "forwardAuth", "address")))
    return (found[0].namespace, found[0].name) if found else ("authelia", "authelia")


def _pins(git: GitFacts, folder: str) -> dict[str, str]:
    resources = git.cluster.resources if git.cluster is not None else ()
    mine = (one for one in resources if one.kind == "PersistentVolumeClaim" and one.file.startswith(f"{folder}/"))
    return {one.name: str(pin) for one in mine if (pin := one.get("spec", "volumeName"))}


def authelia_file(git: GitFacts) -> str:
    """Return the file with Authelia's access control; empty when there is none that can be read."""
    applied = git.repository.applied_files
    found = [(path, text) for path, text in git.texts.items() if "access_control:" in text and "sops:" not in text
             and not path.endswith(".md")]  # fmt: skip
    found.sort(key=lambda pair: (pair[0] not in applied, "authelia" not in pair[0], pair[0]))
    return next((path for path, text in found if read_authelia(text) is not None), "")


def authelia_workload(git: GitFacts) -> str:
    """Return the id of the workload that mounts the ConfigMap with Authelia's configuration; empty when none does.

    A ConfigMap that kustomize generates has a new name with every change: then the workload restarts by itself.
    """
    path = authelia_file(git)
    resources = git.cluster.resources if git.cluster is not None else ()
    config = next((one for one in resources if one.kind == "ConfigMap" and one.file == path), None)
    for one in resources if config is not None else ():
        volumes = maps(one.get("spec", "template", "spec", "volumes"))
        names = {dig(volume, "configMap", "name") for volume in volumes}
        if config is not None and one.namespace == config.namespace and config.name in names:
            return f"{one.kind}/{one.namespace}/{one.name}"
    return ""


def authelia_config(git: GitFacts) -> tuple[str, str]:
    """Return namespace and name of the ConfigMap with Authelia's configuration; empty texts when there is none."""
    path = authelia_file(git)
    resources = git.cluster.resources if git.cluster is not None else ()
    found = next((one for one in resources if one.kind == "ConfigMap" and one.file == path), None)
    return (found.namespace, found.name) if found is not None else ("", "")
