from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from labkit.lab import load_lab
from labkit.lab.loader import dump_lab
from labkit.lab.schema import MODELINE, lab_schema, schema_text

ROOT = Path(__file__).parents[2]
BAD = ROOT / "tests/data/lab/bad"
# Mistakes that show between two values, or in the syntax, are the loader's alone; these show in an editor as well.
SEEN_IN_EDITORS = """
unknown-key unknown-key-top unknown-key-far unknown-key-case missing-key missing-vm-keys no-vms no-hosts
type-number-for-text type-boolean-for-text type-text-for-number type-boolean-for-number
type-fraction-for-number type-number-for-address type-text-for-list type-text-for-mapping
type-nothing-for-mapping messages-nobody messages-not-a-list messages-only messages-least messages-quiet
type-list-for-mapping empty-list address-malformed vmid-too-low host-name
template-placeholder storage-name bridge-name vlan-too-high size-without-unit size-wrong-unit
size-kubernetes-unit size-negative size-no-number cores-zero secret-literal secret-literal-with-colon
secret-number secret-unknown-scheme secret-nothing-after-scheme secret-token-in-id secret-token-as-text role
role-unlike vm-name vm-name-too-long k3s-version k3s-kube-vip k3s-component k3s-retention k3s-schedule taint
taint-effect label-key label-value api-not-https api-no-url api-credentials fingerprint domain git-path git-branch
backup-target-scheme nas-api nas-store-relative nas-store-scheme nas-host user-name several health-limit-too-high
health-limit-zero health-limit-with-unit health-unknown-limit health-ignore health-fail-on
"""


def tree(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def checker() -> jsonschema.Draft202012Validator:
    kind = jsonschema.Draft202012Validator
    return kind(lab_schema(), format_checker=kind.FORMAT_CHECKER)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(lab_schema())


def test_the_stored_schema_is_up_to_date() -> None:
    stored = ROOT / "parameters/lab.schema.json"
    assert stored.read_text() == schema_text(), "write it again: labkit schema > parameters/lab.schema.json"


def test_the_lab_file_names_its_schema_and_fits_it() -> None:
    text = (ROOT / "parameters/lab.yaml").read_text()
    assert text.splitlines()[0] == MODELINE
    checker().validate(tree(text))
    checker().validate(tree(dump_lab(load_lab(ROOT / "parameters/lab.yaml"))))
    checker().validate(tree("x-small: &small {memory: 1 GiB}\n" + text))


@pytest.mark.parametrize("name", SEEN_IN_EDITORS.split())
def test_the_schema_refuses_what_the_loader_refuses(name: str) -> None:
    assert not checker().is_valid(tree((BAD / f"{name}.yaml").read_text()))


def test_every_field_is_described() -> None:
    schema = lab_schema()
    parts = {"Lab": schema, **schema["$defs"]}
    silent = [
        f"{part}.{name}"
        for part, content in parts.items()
        for name, field in content.get("properties", {}).items()
        if not (field.get("description") or "$ref" in field)  # a part is described at its definition
    ]
    assert silent == []


def test_defaults_fit_their_own_schema() -> None:
    schema = lab_schema()
    for part in schema["$defs"].values():
        for field in part.get("properties", {}).values():
            if "default" in field:
                jsonschema.Draft202012Validator(field | {"$defs": schema["$defs"]}).validate(field["default"])


def test_the_schema_is_plain_json() -> None:
    assert json.loads(schema_text()) == lab_schema()
