"""The files of an app: what stands in Git, what shall stand there, and the change from one to the other. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from labkit.facts.git import GitFacts
from labkit.facts.manifests import dig, parse_manifests
from labkit.lab.apprender import SECRET, RepoForm, render_app
from labkit.lab.apps import AppSpec
from labkit.lab.authelia import (
    add_app,
    has_rules,
    own_client,
    own_rules,
    read_authelia,
    remove_app,
    same_client,
    wanted_client,
)
from labkit.lab.yamledit import find_region, get, insert_item, plain, remove_node, splice

Do = dict[str, JsonValue]


@dataclass(frozen=True)
class FileChange:
    """One file: its text before and after (None when there is none), and how the after is made.

    `do` is for the one who applies: `{"text": ...}`, `{"remove": true}`, `{"secret": true}` (its values are resolved
    and encrypted then; `after` names its keys only), `{"authelia": "add"}` or `{"authelia": "remove"}`.
    """

    path: str
    before: str | None
    after: str | None
    do: Do = field(default_factory=dict)

    @property
    def counts(self) -> str:
        """`+12 -3 lines`."""
        old, new = (self.before or "").splitlines(), (self.after or "").splitlines()
        lines = [line[0] for line in difflib.unified_diff(old, new, n=0, lineterm="") if line[:3] not in ("---", "+++")]
        return f"+{lines.count('+')} -{lines.count('-')} lines"


def current_texts(git: GitFacts, branch: str) -> Mapping[str, str]:
    """Return the repository's texts, as a branch that waits for review leaves them."""
    proposal = next((one for one in git.proposals if one.branch == branch), None)
    if proposal is None:
        return git.texts
    changed = {**git.texts, **{path: text for path, text in proposal.files.items() if text is not None}}
    return {path: text for path, text in changed.items() if proposal.files.get(path, "") is not None}


def added_files(texts: Mapping[str, str], app: AppSpec, form: RepoForm, authelia: str) -> Iterator[FileChange]:
    """Yield what differs from an app as it is wanted."""
    folder = f"{form.folder}/{app.name}"
    for name, text in render_app(app, form).items():
        path = f"{folder}/{name}"
        if texts.get(path) != text:
            yield FileChange(path, texts.get(path), text, {"text": text})
    yield from _secret(texts, app, f"{folder}/{SECRET}")
    if form.listed:
        yield from listed(texts, form.listed, app.name, wanted=True)
    if authelia:
        yield from _authelia(texts, authelia, app)


def _secret(texts: Mapping[str, str], app: AppSpec, path: str) -> Iterator[FileChange]:
    """The values of a secret are not compared: Git has them encrypted, the lab by reference."""
    seen, wanted = secret_keys(texts.get(path)), app.secret_keys
    if wanted and (seen is None or set(seen) != set(wanted)):
        before = None if seen is None else _keys(seen)
        yield FileChange(path, before, _keys(wanted), {"secret": True})


def _keys(names: tuple[str, ...]) -> str:
    return "".join(f"{name}: (encrypted)\n" for name in sorted(names))


def secret_keys(text: str | None) -> tuple[str, ...] | None:
    """Return the keys of a Secret's file, which sops leaves in clear; None when there is no such file."""
    if text is None:
        return None
    tree = next(iter(parse_manifests(text).trees), None)
    found = [*(dig(tree, "stringData") or ()), *(dig(tree, "data") or ())]
    return tuple(str(one) for one in found)


def listed(texts: Mapping[str, str], path: str, name: str, *, wanted: bool) -> Iterator[FileChange]:
    """Yield the change of the kustomization above the apps, where there is one that lists them."""
    text = texts.get(path, "")
    region = find_region(text, "resources")
    if region is None:
        return
    resources = get(region.root, "resources")
    names = plain(resources) or []
    place = next((i for i, one in enumerate(names) if str(one).removeprefix("./").strip("/") == name), None)
    if wanted and place is None:
        new = splice(text, region, insert_item(region, resources, f"- {name}", None))
    elif not wanted and place is not None and resources is not None:
        new = splice(text, region, remove_node(region, resources.value[place]))
    else:
        return
    yield FileChange(path, text, new, {"text": new})


def _authelia(texts: Mapping[str, str], path: str, app: AppSpec) -> Iterator[FileChange]:
    text = texts[path]
    new = add_app(text, app)
    if new != text:
        yield FileChange(path, text, new, {"authelia": "add"})


def removed_files(
    texts: Mapping[str, str], name: str, hosts: tuple[str, ...], form: RepoForm, authelia: str
) -> Iterator[FileChange]:
    """Yield what goes with an app: its folder, its place in a list, its rules and its client."""
    for path, text in sorted(texts.items()):
        if path.startswith(f"{form.folder}/{name}/"):
            yield FileChange(path, text, None, {"remove": True})
    if form.listed:
        yield from listed(texts, form.listed, name, wanted=False)
    if authelia and hosts:
        new = remove_app(texts[authelia], name, hosts)
        if new != texts[authelia]:
            yield FileChange(authelia, texts[authelia], new, {"authelia": "remove", "hosts": [*hosts]})


def authelia_conflict(text: str, app: AppSpec) -> str:
    """Say what Authelia's configuration has for an app already and otherwise than wanted; empty when nothing."""
    config = read_authelia(text)
    if config is None:
        return ""
    if app.authentication != "oidc" and own_rules(config, app.host) and not has_rules(app, config):
        return f"other rules for {app.host}"
    seen, wanted = own_client(config, app.name), wanted_client(app)
    if seen is not None and wanted is not None and not same_client(seen, wanted):
        return f"an OIDC client {app.name} with other settings"
    return ""


def payload(app: AppSpec | None, form: RepoForm, files: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return what the one who applies must know: the app, the form, and what is to be done with each file."""
    spec = app.model_dump(mode="json") if app is not None else None
    return {"app": spec, "form": form.model_dump(mode="json"), "files": dict(files)}
