"""The JSON Schema of the lab file, for editors: what the models say, with the sentences of their fields."""

from __future__ import annotations

import json
from typing import Any

from labkit.lab.models import Lab
from labkit.lab.types import format_size

FILE = "lab.schema.json"
MODELINE = f"# yaml-language-server: $schema={FILE}"


def lab_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the lab file."""
    schema = Lab.model_json_schema()
    # Keys that begin with x- hold anchors; a language server checks nothing in them.
    schema["patternProperties"] = {"^x-": True}
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "labkit's lab file",
        "description": schema.pop("description"),
    }
    schema.pop("title")
    return {**head, **_tidy(schema)}


def schema_text() -> str:
    """Return the schema as it stands in `parameters/lab.schema.json`."""
    return json.dumps(lab_schema(), indent=2) + "\n"


def _tidy(value: Any) -> Any:
    """Turn what pydantic writes into what editors show well."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    tidy = {key: _tidy(item) for key, item in value.items() if not (key == "default" and item is None)}
    if tidy.get("format") == "ipv4network":  # a format that validators do not know
        del tidy["format"]
        tidy |= {"pattern": r"^([0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}$", "examples": ["192.168.5.0/24"]}
    if tidy.get("type") == "string" and isinstance(mib := tidy.get("default"), int):
        tidy["default"] = format_size(mib)
    if "patternProperties" in tidy:
        tidy.pop("propertyNames", None)
        tidy["additionalProperties"] = False
    if isinstance(text := tidy.get("description"), str):
        tidy["description"] = " ".join(text.split())
    return tidy
