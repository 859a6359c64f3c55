"""Read the lab file."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError
from ruamel.yaml import YAML

from labkit.errors import InputError, Mistake
from labkit.lab.models import Lab


def load_lab(path: Path) -> Lab:
    """Read a lab file; raise InputError with every mistake in it."""
    try:
        return Lab.model_validate_json(json.dumps(YAML(typ="safe").load(path)), strict=True)
    except ValidationError as exc:
        raise InputError(
            Mistake(str(path), 0, 0, ".".join(map(str, error["loc"])), error["msg"], "something else")
            for error in exc.errors(include_input=False)
        ) from None
