"""Every notebook has the anatomy of a runbook, and nothing that belongs into the library."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from labkit.run.parameters import TYPES, list_notebooks, parse_parameters, read_notebook, source

ALL = list(list_notebooks().values())
HEADINGS = ["1 What is there", "2 May we start", "3 What will change", "4 Do it", "5 Did it work", "If it failed"]
FORBIDDEN = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While, ast.Try, ast.Lambda, ast.If,
             ast.ListComp, ast.DictComp, ast.With)  # fmt: skip
PARAMETER = re.compile(r"^\w+: (\w+) = [^=]+  # \S.*$")
HOME = re.compile(r"/(home|root|Users)/|/work/")


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in read_notebook(path)["cells"] if cell["cell_type"] == kind]


@pytest.fixture(params=ALL, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_title_says_when_when_not_impact_and_undo(notebook: Path) -> None:
    title = source(cells(notebook, "markdown")[0])
    assert title.startswith("# ")
    for word in ("**When**", "**When not**", "**Impact**", "**Undo**"):
        assert word in title


def test_sections_come_in_order(notebook: Path) -> None:
    text = "\n".join(source(cell) for cell in cells(notebook, "markdown"))
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS


def test_parameters_are_one_plain_line_each(notebook: Path) -> None:
    tagged = [cell for cell in cells(notebook, "code") if "parameters" in cell["metadata"].get("tags", ())]
    assert [cells(notebook, "code")[0]] == tagged
    text = source(tagged[0])
    for line in text.splitlines():
        match = PARAMETER.match(line)
        assert match, line
        assert match[1] in TYPES
        assert line.count(" = ") == 1
    assert [one.name for one in parse_parameters(text)][:2] == ["lab", "on"]
    assert 'on: str = "twin"' in text


def test_code_cells_are_short_and_hold_no_logic(notebook: Path) -> None:
    for cell in cells(notebook, "code"):
        text = source(cell)
        assert len(text.splitlines()) <= 12 or "parameters" in cell["metadata"].get("tags", ()), text
        assert not re.search(r"^\s*[!%]", text, re.MULTILINE), text
        assert "sleep" not in text
        for node in ast.walk(ast.parse(text)):
            assert not isinstance(node, FORBIDDEN), text


def test_a_sentence_stands_before_every_result(notebook: Path) -> None:
    kinds = [cell["cell_type"] for cell in read_notebook(notebook)["cells"]]
    assert kinds[:3] == ["markdown", "code", "code"]
    assert kinds[-1] == "markdown"
    assert kinds[-2] == "code"


def test_only_one_cell_writes(notebook: Path) -> None:
    writing = [source(cell) for cell in cells(notebook, "code") if "run.apply(" in source(cell)]
    assert len(writing) <= 1
    assert ("approve" in {p.name for p in parse_parameters(source(cells(notebook, "code")[0]))}) == bool(writing)


def test_stored_outputs_come_from_a_run_on_the_twin_in_order(notebook: Path) -> None:
    code = cells(notebook, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    text = str([cell["outputs"] for cell in code])
    assert "on the twin of lab" in text
    assert "on the lab of lab" not in text
    assert "Traceback" not in text
    assert not HOME.search(text)


def test_the_index_names_every_runbook() -> None:
    index = source({"source": "".join(source(cell) for cell in read_notebook(ALL[0].parent / "index.ipynb")["cells"])})
    for path in ALL:
        assert f"({path.name})" in index
