"""Read and write the lab file."""

from __future__ import annotations

import io
import json
from pathlib import Path

from pydantic import ValidationError
from ruamel.yaml import YAML

from labkit.errors import InputError, Mistake
from labkit.lab.crosschecks import cross_check
from labkit.lab.mistakes import describe, guess, is_secret, note
from labkit.lab.models import Lab
from labkit.lab.positions import Document, parse_yaml

_LARGEST = 1024 * 1024


def load_lab(path: Path) -> Lab:
    """Read a lab file.

    Raises:
        InputError: with every mistake of the file, each with its line and column.
    """
    return parse_lab(_read(path), str(path))


def parse_lab(text: str, file: str = "lab.yaml") -> Lab:
    """Turn the text of a lab file into a lab; `file` is its name in mistakes."""
    document = parse_yaml(text, file, is_secret)
    if document.tree is None and not document.mistakes:
        document.add((1, 1), (), "a lab", "an empty file", "begin with a copy of parameters/lab.yaml")
    elif not isinstance(document.tree, dict) and not document.mistakes:
        place = document.value_place(())
        document.add(place, (), "a mapping with the keys of a lab", describe(document.tree, ()))
    lab = _validate(document) if isinstance(document.tree, dict) else None
    if lab is None or document.mistakes:
        raise InputError(document.mistakes, next_step="correct the file and run `labkit check lab` on it")
    return lab


def dump_lab(lab: Lab) -> str:
    """Write a lab as YAML that loads to an equal lab; what equals its default is left out."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(lab.model_dump(mode="json", exclude_defaults=True), stream)
    return stream.getvalue()


def _validate(document: Document) -> Lab | None:
    # Keys that begin with x- hold anchors for the rest of the file.
    document.tree = {key: value for key, value in document.tree.items() if not key.startswith("x-")}
    lab = None
    try:
        # As JSON: its strict mode takes no number for a text and no boolean for a number.
        lab = Lab.model_validate_json(json.dumps(document.tree), strict=True)
    except ValidationError as exc:
        note(document, exc.errors(include_url=False, include_input=False))
    cross_check(document)
    return lab


def _read(path: Path) -> str:
    def wrong(got: str, hint: str = "", line: int = 0, column: int = 0, expected: str = "a lab file") -> InputError:
        return InputError([Mistake(str(path), line, column, "", expected, got, hint)])

    try:
        if path.is_dir():
            raise wrong("a directory", f"did you mean `{path / 'lab.yaml'}`?")
        with path.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except FileNotFoundError as exc:
        beside = [item.name for item in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise wrong("no such file", guess(path.name, sorted(beside))) from exc
    except (OSError, ValueError) as exc:
        raise wrong(getattr(exc, "strerror", None) or str(exc)) from exc
    if len(data) > _LARGEST:
        raise wrong(f"more than {_LARGEST} bytes")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        before = data[: exc.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        got = f"the byte 0x{data[exc.start]:02X}"
        hint = "save the file as UTF-8"
        raise wrong(got, hint, before.count(b"\n") + 1, column, "text in UTF-8") from None
