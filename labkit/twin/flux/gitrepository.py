"""GitRepository: look where the branch is, fetch what moved, and keep the files for the others."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import StepFailed
from labkit.gitssh import SshError
from labkit.twin.charts.semver import newest
from labkit.twin.controllers.framework import Result
from labkit.twin.controllers.objects import is_true, meta, name_of, namespace_of, spec_of, status_of
from labkit.twin.flux.base import GITS, FluxController, Marks, failed
from labkit.twin.flux.checkout import Files, check_out
from labkit.twin.flux.gate import DEPLOYMENTS
from labkit.twin.git.client import Credentials, Remote, fetch, git, list_refs, parse_url
from labkit.twin.kube.door import Event, Object

_HEADS, _TAGS = "refs/heads/", "refs/tags/"
_HOST = "http://source-controller.flux-system.svc.cluster.local./"
_NO_LOGIN = {
    "denied": "ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey], "
              "no supported methods remain",
    "unknown-host": "ssh: handshake failed: knownhosts: key is unknown",
    "changed-host": "ssh: handshake failed: knownhosts: key mismatch",
    "input": "ssh: no key found",
}  # fmt: skip


class FetchFailed(Exception):
    """What went wrong, as a condition says it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Target:
    """The commit that a reference leads to, and its revision as Flux writes it."""

    commit: str
    revision: str


class GitRepositories(FluxController):
    """The part of the source controller that fetches from Git hosts."""

    name = program = "source-controller"
    resource = GITS
    watches = (GITS, DEPLOYMENTS, "secrets")

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._failures: dict[tuple[str, str], int] = {}

    def others(self, event: Event) -> list[tuple[str, str]]:
        """Look again when the secret of a repository that failed is there or another."""
        name, namespace = name_of(event.object), namespace_of(event.object)
        found = [
            (namespace, name_of(one)) for one in self.api.list(GITS, namespace)
            if (spec_of(one).get("secretRef") or {}).get("name") == name and not is_true(one, "Ready")
        ]  # fmt: skip
        for key in found:
            self._seen.pop(key, None)
        return found

    async def work(self, obj: Object) -> Result:
        """Bring the stored files up to date."""
        key = (namespace_of(obj), name_of(obj))
        try:
            target, remote, credentials = await self._look(obj)
            stored = self.around.artifacts.path(("GitRepository", *key), target.revision)
            if stored is None or self._artifact(obj).get("revision") != target.revision or self._is_outdated(obj):
                await self._store(obj, target, remote, credentials)
            else:
                self._ready(obj, target.revision, self._artifact(obj))
        except FetchFailed as failure:
            return self._lost(obj, failure)
        self._failures.pop(key, None)
        return self.interval(obj)

    async def end(self, obj: Object) -> None:
        """Throw away what is stored."""
        self.around.artifacts.drop(("GitRepository", namespace_of(obj), name_of(obj)))

    async def _look(self, obj: Object) -> tuple[Target, Remote, Credentials]:
        """Log in and find the commit; raise FetchFailed."""
        url = spec_of(obj)["url"]
        remote = parse_url(url)
        identity, known_hosts = self._secret(obj)
        if remote is None:
            host = url.split("/")[2] if url.count("/") > 1 else url
            raise _cannot(f"unable to list remote for '{url}': Get \"{url}/info/refs?service=git-upload-pack\": "
                          f"dial tcp: lookup {host} on 10.43.0.10:53: no such host")  # fmt: skip
        route = self.around.route(remote.host, remote.port)
        if route is None:
            text = f"dial tcp: lookup {remote.host} on 10.43.0.10:53: no such host"
            raise _cannot(f"unable to list remote for '{url}': {text}")
        credentials = Credentials(identity, known_hosts, route)
        try:
            refs = await list_refs(remote, credentials)
        except SshError as exc:
            said = _NO_LOGIN.get(exc.problem, f"dial tcp {remote.host}:{remote.port}: connect: connection refused")
            raise _cannot(f"unable to list remote for '{url}': {said}") from exc
        except StepFailed as exc:
            raise _cannot(f"unable to list remote for '{url}': repository not found: {exc.message}") from exc
        return _choose(spec_of(obj).get("ref") or {}, refs, url), remote, credentials

    def _secret(self, obj: Object) -> tuple[str, str]:
        name = (spec_of(obj).get("secretRef") or {}).get("name", "")
        where = f"{namespace_of(obj)}/{name}"
        secret = self.api.get("secrets", name, namespace_of(obj)) if name else None
        if name and secret is None:
            raise FetchFailed("AuthenticationFailed", f"failed to get secret '{where}': secrets \"{name}\" not found")
        data = {key: _decoded(value) for key, value in ((secret or {}).get("data") or {}).items()}
        if spec_of(obj)["url"].startswith("ssh://"):
            if not name:
                why = "invalid 'ssh' auth option: 'identity' is required"
                raise FetchFailed("AuthenticationFailed", f"failed to configure authentication options: {why}")
            for field in ("identity", "known_hosts"):
                if not data.get(field):
                    why = f"invalid 'ssh' auth option: '{field}' is required"
                    raise FetchFailed("AuthenticationFailed", f"failed to configure authentication options: {why}")
        return data.get("identity", ""), data.get("known_hosts", "")

    async def _store(self, obj: Object, target: Target, remote: Remote, credentials: Credentials) -> None:
        text = f"new upstream revision '{target.revision}'"
        self.mark(obj, Marks().true("Reconciling", "Progressing", text).unknown("Ready", "Progressing", text))
        folder = self.around.folder / "git" / meta(obj)["uid"]
        url, ignore = spec_of(obj)["url"], spec_of(obj).get("ignore")
        files, subject = await self.around.work(
            _fetched, folder, target, (url, remote, credentials), ignore, str(meta(obj).get("generation"))
        )
        key = ("GitRepository", namespace_of(obj), name_of(obj))
        self.around.artifacts.put(key, target.revision, files.folder)
        path = f"gitrepository/{key[1]}/{key[2]}/{target.commit}.tar.gz"
        artifact = {
            "digest": files.digest, "lastUpdateTime": self.now(), "path": path, "revision": target.revision,
            "size": files.size, "url": _HOST + path,
        }  # fmt: skip
        self._ready(obj, target.revision, artifact)
        self.events.normal(obj, "NewArtifact", f"stored artifact for commit '{subject}'")

    def _ready(self, obj: Object, revision: str, artifact: dict[str, Any]) -> None:
        text = f"stored artifact for revision '{revision}'"
        marks = Marks().true("Ready", "Succeeded", text).true("ArtifactInStorage", "Succeeded", text)
        marks.drop("Reconciling", "Stalled", "FetchFailed", "ArtifactOutdated")
        generation = meta(obj).get("generation", 1)
        self.mark(obj, marks, artifact=artifact, observedGeneration=generation, **self._ignore(obj),
                  **self.handled(obj))  # fmt: skip

    def _ignore(self, obj: Object) -> dict[str, str | None]:
        return {"observedIgnore": spec_of(obj).get("ignore")}

    def _is_outdated(self, obj: Object) -> bool:
        return bool(status_of(obj).get("observedIgnore") != spec_of(obj).get("ignore"))

    def _artifact(self, obj: Object) -> dict[str, Any]:
        return status_of(obj).get("artifact") or {}

    def _lost(self, obj: Object, failure: FetchFailed) -> float:
        key = (namespace_of(obj), name_of(obj))
        count = self._failures[key] = self._failures.get(key, 0) + 1
        marks = failed(failure.reason, str(failure)).true("FetchFailed", failure.reason, str(failure))
        self.mark(obj, marks, **self.handled(obj))
        self.events.warning(obj, failure.reason, str(failure))
        return min(self.interval(obj), 2.0**count)


def _fetched(
    folder: Path, target: Target, where: tuple[str, Remote, Credentials], ignore: str | None, mark: str
) -> tuple[Files, str]:
    """Fetch and check out; return the files and the subject of the commit."""
    url, remote, credentials = where
    commit = target.commit
    folder.mkdir(parents=True, exist_ok=True)
    mirror = folder / "mirror.git"
    try:
        fetch(mirror, url, commit, remote, credentials)
        subject = git(["--git-dir", mirror, "log", "-1", "--format=%s", commit]).strip()
        place = folder / f"{commit}-{mark}"
        number = 0
        while place.exists():
            number += 1
            place = folder / f"{commit}-{mark}-{number}"
        return check_out(mirror, commit, place, ignore), subject
    except StepFailed as exc:
        raise _cannot(f"unable to clone '{url}': {exc.message}") from exc


def _choose(ref: dict[str, str], refs: dict[str, str], url: str) -> Target:
    """Follow a reference as the source controller does: commit, name, semver, tag, branch."""
    if commit := ref.get("commit"):
        branch = ref.get("branch")
        return Target(commit, f"{branch}@sha1:{commit}" if branch else f"sha1:{commit}")
    if name := ref.get("name"):
        return Target(_at(refs, name, url), f"{name}@sha1:{_at(refs, name, url)}")
    if wanted := ref.get("semver"):
        tags = [found.removeprefix(_TAGS) for found in refs if found.startswith(_TAGS)]
        tag = newest(tags, wanted)
        if tag is None:
            raise _cannot(f"no match found for semver: {wanted}")
        return Target(_at(refs, _TAGS + tag, url), f"{tag}@sha1:{_at(refs, _TAGS + tag, url)}")
    if tag := ref.get("tag"):
        return Target(_at(refs, _TAGS + tag, url), f"{tag}@sha1:{_at(refs, _TAGS + tag, url)}")
    branch = ref.get("branch", "master")
    commit = _at(refs, _HEADS + branch, url)
    return Target(commit, f"{branch}@sha1:{commit}")


def _at(refs: dict[str, str], name: str, url: str) -> str:
    found = refs.get(f"{name}^{{}}") or refs.get(name)
    if found is None:
        raise _cannot(f"unable to clone '{url}': couldn't find remote ref \"{name}\"")
    return found


def _cannot(why: str) -> FetchFailed:
    return FetchFailed("GitOperationFailed", f"failed to checkout and determine revision: {why}")


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value).decode("utf-8", "replace")
    except binascii.Error:
        return ""
