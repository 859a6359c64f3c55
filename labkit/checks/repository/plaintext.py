"""Rules on secrets that lie in clear: in Secrets, HelmRelease values, ConfigMaps and environments. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any

from labkit.checks.repository.finding import Hit, Question, rule
from labkit.checks.repository.words import find_pattern, judge_in_secret, judge_in_values, judge_lines
from labkit.facts.manifests import Steps, dig, maps, walk_leaves
from labkit.facts.repository import Resource, steps_text
from labkit.plan import Severity

_REMEDY_SECRET = "encrypt it with sops, and change the secret: it stays in Git's history"  # noqa: S105
_REMEDY_VALUES = "move it to an encrypted Secret that valuesFrom or an existing secret names, and change it"
_REMEDY_ENV = "move it to an encrypted Secret, read it with secretKeyRef, and change it"
_SKIPPED = {"valueFrom", "secretKeyRef", "configMapKeyRef", "remoteRef", "labels", "secretRef"}
_WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"}


def _objects(question: Question, kinds: set[str]) -> Iterator[Resource]:
    """Yield objects as they stand in files, and those that a kustomization generates; each once."""
    applied = question.facts.applied_files
    for file in question.facts.files:
        if not file.is_template and (not file.is_sample or file.path in applied):
            yield from (resource for resource in file.resources() if resource.kind in kinds)
    seen = set()
    for cluster in question.facts.clusters:
        for resource in cluster.resources:
            if (
                resource.origin is None
                and resource.kind in kinds
                and (key := (resource.file, resource.label)) not in seen
            ):
                seen.add(key)
                yield resource


def _place(question: Question, resource: Resource, steps: Steps) -> tuple[str, int]:
    """Return where a value stands; for a generated object, where its generator does."""
    if resource.origin is not None:
        return resource.file, resource.line_at(*steps)
    file = question.facts.by_path.get(resource.file)
    tree = file.documents[0][1] if file and file.documents else None
    for key in ("secretGenerator", "configMapGenerator"):
        for generator in maps(dig(tree, key)):
            if resource.name.startswith(str(generator.get("name"))):
                return resource.file, getattr(generator, "line", 1)
    return resource.file, resource.line


@rule("secret-plaintext", Severity.ERROR, "no Secret in Git holds a secret in clear").repository
def find_plain_secrets(question: Question) -> Iterator[Hit]:
    """Yield values of Secrets that are neither encrypted nor variables, samples or harmless."""
    for resource in _objects(question, {"Secret"}):
        if resource.api_version != "v1":
            continue
        for field in ("stringData", "data"):
            values = resource.get(field)
            for key, value in values.items() if isinstance(values, dict) else ():
                text = _clear(value, encoded=field == "data")
                if what := _judge(key, text):
                    why = f"{resource.label}: {field}.{key} holds {what} in clear ({len(text)} characters)"
                    yield *_place(question, resource, (field, key)), why, _REMEDY_SECRET


def _clear(value: Any, *, encoded: bool) -> str:
    text = "" if value is None or isinstance(value, (dict, list, bool)) else str(value)
    if not encoded or "${" in text:
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return text


def _judge(key: str, text: str) -> str:
    if key == ".dockerconfigjson":
        return _docker(text)
    if text.lstrip().startswith("{") and (found := _json(text)):
        return found
    return judge_in_secret(key, text)


def _docker(text: str) -> str:
    try:
        auths = dig(json.loads(text), "auths")
    except ValueError:
        return ""
    for entry in auths.values() if isinstance(auths, dict) else ():
        for key in ("auth", "password"):
            if judge_in_secret("password", str(dig(entry, key) or "")):
                return "the password of a registry"
    return ""


def _json(text: str) -> str:
    try:
        tree = json.loads(text)
    except ValueError:
        return ""
    for steps, value in walk_leaves(tree):
        if steps and isinstance(value, str) and judge_in_values(str(steps[-1]), value):
            return f"a literal at {steps_text(steps)}"
    return ""


@rule("secret-in-values", Severity.ERROR, "no HelmRelease holds a secret among its values").repository
def find_secret_values(question: Question) -> Iterator[Hit]:
    """Yield literals among the values of HelmReleases whose key or form says that they are secrets."""
    for resource in _objects(question, {"HelmRelease"}):
        for steps, line_offset, what in _in_tree(resource.get("spec", "values"), ("spec", "values")):
            file, line = _place(question, resource, steps)
            why = f"{resource.label}: {steps_text(steps)} holds {what} in clear"
            yield file, line + line_offset, why, _REMEDY_VALUES


def _in_tree(tree: Any, start: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int, str]]:
    for steps, value in walk_leaves(tree, start):
        if not isinstance(value, (str, int)) or isinstance(value, bool) or _SKIPPED & set(map(str, steps)):
            continue
        text = str(value)
        if "\n" in text.strip():
            if found := next(judge_lines(text), None):
                yield steps, found[0], f"a secret ({found[1]})"
            elif what := find_pattern(text):
                yield steps, 1, what
        elif what := judge_in_values(_name_of(tree, start, steps), text):
            yield steps, 0, what


def _name_of(tree: Any, start: Steps, steps: tuple[str | int, ...]) -> str:
    """Return the key that names a value: its own, that of its list, or the `name` beside a `value`."""
    names = [step for step in steps if isinstance(step, str)]
    if steps[-1] == "value":
        beside = dig(tree, *steps[len(start) : -1], "name")
        return str(beside) if isinstance(beside, str) else ""
    return names[-1] if names else ""


@rule("secret-in-configmap", Severity.ERROR, "no ConfigMap holds a secret").repository
def find_secret_config(question: Question) -> Iterator[Hit]:
    """Yield literals in ConfigMaps: single values, and assignments in the configuration files in them."""
    for resource in _objects(question, {"ConfigMap"}):
        for steps, offset, what in _in_tree(resource.get("data"), ("data",)):
            file, line = _place(question, resource, steps)
            why = f"{resource.label}: {steps_text(steps)} holds {what} in clear"
            yield file, line + offset, why, "move it to an encrypted Secret, and change it"


@rule("secret-in-env", Severity.ERROR, "no container gets a secret as a literal").repository
def find_secret_environment(question: Question) -> Iterator[Hit]:
    """Yield literals in the environment and the arguments of containers."""
    for resource in _objects(question, _WORKLOADS):
        for steps, value in walk_leaves(resource.get("spec"), ("spec",)):
            if (
                steps[-1] == "value"
                and "env" in steps
                and isinstance(value, (str, int))
                and not isinstance(value, bool)
            ):
                name = resource.get(*steps[:-1], "name")
                what = judge_in_values(str(name), str(value))
            elif len(steps) > 1 and steps[-2] in {"args", "command"} and isinstance(value, str):
                name, what = steps[-2], find_pattern(value)
            else:
                continue
            if what:
                file, line = _place(question, resource, steps)
                yield file, line, f"{resource.label}: {name} holds {what} in clear", _REMEDY_ENV
