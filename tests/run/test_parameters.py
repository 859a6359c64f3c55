"""Parameters of runbooks: how a notebook declares them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.errors import InputError
from labkit.run.folders import find_input
from labkit.run.parameters import Parameter, check_values, declared, find_notebook, list_notebooks, parse_parameters
from labkit.runbooks.inputs import gather

KNOWN = (
    Parameter("lab", "str", "parameters/lab.yaml", "the lab file"),
    Parameter("replicas", "int", 1, ""),
    Parameter("ratio", "float", 0.5, ""),
    Parameter("deep", "bool", False, ""),
    Parameter("destroy", "list", [], ""),
    Parameter("values", "dict", {}, ""),
)


def test_a_parameters_cell_is_read_with_types_defaults_and_help() -> None:
    text = 'lab: str = "a#b"  # the lab file\n# a comment\nreplicas: int = 3\nx = 1\n'
    assert parse_parameters(text) == (
        Parameter("lab", "str", "a#b", "the lab file"),
        Parameter("replicas", "int", 3, ""),
    )


@pytest.mark.parametrize("name", list(list_notebooks()))
def test_papermill_reads_the_same_parameters(name: str) -> None:
    import papermill

    seen = papermill.inspect_notebook(str(find_notebook(name)))
    mine = {one.name: (one.type, one.help) for one in declared(name)}
    assert {key: (value["inferred_type_name"], value["help"]) for key, value in seen.items()} == mine
    assert {"lab", "on"} <= set(mine)
    assert all(one.help for one in declared(name))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"replica": 1}, "replica: expected one of the parameters .*, got an unknown name; did you mean replicas?"),
        ({"replicas": "3"}, "replicas: expected a value of type int, got str '3'"),
        ({"replicas": True}, "replicas: expected a value of type int, got bool True"),
        ({"deep": 1}, "deep: expected a value of type bool, got int 1"),
        ({"destroy": "a"}, "destroy: expected a value of type list, got str 'a'"),
        ({"lab": None}, "lab: expected a value of type str, got NoneType None"),
    ],
)
def test_unknown_names_and_wrong_types_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_values(KNOWN, given)


def test_a_whole_number_is_a_float_too() -> None:
    check_values(KNOWN, {"ratio": 1, "destroy": ["a"], "values": {"a": 1}, "deep": True})


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        (("replicas", "3"), 3),
        (("ratio", "0.25"), 0.25),
        (("deep", "yes"), True),
        (("deep", "false"), False),
        (("destroy", "a, b"), ["a", "b"]),
        (("destroy", "['a']"), ["a"]),
        (("destroy", ""), []),
        (("values", "{'a': 1}"), {"a": 1}),
        (("lab", "3"), "3"),
    ],
)
def test_words_of_the_command_line_take_the_declared_type(pair: tuple[str, str], value: object) -> None:
    assert gather(KNOWN, None, [pair]) == {pair[0]: value}


@pytest.mark.parametrize("pair", [("replicas", "three"), ("deep", "perhaps"), ("values", "a=b"), ("nothing", "1")])
def test_words_that_do_not_fit_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=f"parameters: {pair[0]}: expected"):
        gather(KNOWN, None, [pair])


def test_a_file_gives_values_and_pairs_win(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("replicas: 2\ndestroy: [a, b]\n")
    assert gather(KNOWN, file, [("replicas", "5")]) == {"replicas": 5, "destroy": ["a", "b"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("replicas: 2\nreplicsa: 3\n", "p.yaml:2:1: replicsa: expected one of .* did you mean replicas?"),
        ("\nreplicas: many\n", "p.yaml:2:1: replicas: expected a value of type int, got str 'many'"),
        ("- a\n", "p.yaml:1:1: expected a mapping"),
        ("a: [\n", "p.yaml:.*expected valid YAML"),
        ("a: 1\na: 2\n", "p.yaml:2:1: expected valid YAML"),
    ],
)
def test_mistakes_in_a_file_have_their_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        gather(KNOWN, file, [])


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read(tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "p.yaml"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(InputError, match=r"p\.yaml: expected"):
        gather(KNOWN, file, [])


def test_a_runbook_is_found_by_any_of_its_names() -> None:
    path = find_notebook("provision-vms")
    assert find_notebook("10-provision-vms") == find_notebook("notebooks/10-provision-vms.ipynb") == path
    with pytest.raises(InputError, match="did you mean provision-vms"):
        find_notebook("provision-vm")


def test_a_key_that_stands_twice_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("lab: a\nlab: b\n")
    with pytest.raises(InputError, match=r"p\.yaml:2:1: expected valid YAML, got duplicate key \"lab\""):
        gather(KNOWN, file, [])


def test_a_folder_is_no_input_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got a folder"):
        find_input(tmp_path)
    with pytest.raises(InputError, match=r"got none(?s:.)*begin with a copy of .*/parameters/lab\.yaml"):
        find_input(tmp_path / "lab.yaml")
