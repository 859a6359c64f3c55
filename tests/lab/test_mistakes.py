"""Every file under tests/data/lab/bad says in its first lines which mistakes it holds:
`# line:column | where | expected | got | hint`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import InputError, Mistake
from labkit.lab import load_lab
from labkit.lab.loader import parse_lab

DATA = Path(__file__).parents[1] / "data" / "lab"
BAD = sorted((DATA / "bad").glob("*.yaml"))
_LINE = re.compile(r"# (\d+):(\d+) \| (.*?) ?\| (.*?) \| (.*?) \| ?(.*)")
SECRETS = ["correct-horse", "staple", "battery", "ghp_", "8675309", "0867530", "hunter2", "11111111-2222"]


def announced(path: Path) -> tuple[Mistake, ...]:
    found = []
    for line in path.read_text(errors="replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            break
        found.append(Mistake(str(path), int(match[1]), int(match[2]), *match.groups()[2:]))
    return tuple(found)


def mistakes_of(path: Path) -> tuple[Mistake, ...]:
    with pytest.raises(InputError) as caught:
        load_lab(path)
    return caught.value.mistakes


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_all_mistakes_of_a_file_are_told_at_once_and_in_place(path: Path) -> None:
    assert announced(path), "the fixture names no mistake"
    assert mistakes_of(path) == announced(path)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_no_message_holds_what_may_be_a_secret(path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_lab(path)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]


def test_there_is_a_fixture_for_every_kind() -> None:
    assert len(BAD) >= 30
    several = mistakes_of(DATA / "bad" / "several.yaml")
    assert len(several) == 10
    assert [mistake.line for mistake in several] == sorted(mistake.line for mistake in several)


def test_places_point_at_what_is_meant() -> None:
    for path in BAD:
        lines = path.read_text(errors="replace").splitlines()
        for mistake in announced(path):
            line = [*lines, ""][mistake.line - 1]
            key = mistake.where.rpartition(".")[2].split("[")[0]
            if mistake.got.startswith("the unknown key"):
                assert line[mistake.column - 1 :].startswith(f"{key}:")
            elif match := re.match(r"(?:the (?:number|boolean) )?`([^`]+)`", mistake.got):
                shown = match[1].partition("-")[0] if "load_balancer" in mistake.where else match[1]
                assert shown in line[mistake.column - 1 :] or key == shown, path.name


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text((DATA / "minimal.yaml").read_text())
    (mistake,) = mistakes_of(tmp_path / "lab.yml")
    assert (mistake.got, mistake.hint) == ("no such file", "did you mean `lab.yaml`?")
    (mistake,) = mistakes_of(tmp_path / "nowhere" / "x.yaml")
    assert (mistake.got, mistake.hint) == ("no such file", "")


def test_a_directory_is_no_lab_file(tmp_path: Path) -> None:
    (mistake,) = mistakes_of(tmp_path)
    assert mistake.got == "a directory"
    assert mistake.hint == f"did you mean `{tmp_path / 'lab.yaml'}`?"


def test_a_file_that_may_not_be_read_or_is_too_large(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_text("#" * (1024 * 1024 + 1))
    assert mistakes_of(large)[0].got == "more than 1048576 bytes"
    assert "null byte" in mistakes_of(Path("a\0b"))[0].got


def test_the_error_says_how_many_and_what_next() -> None:
    with pytest.raises(InputError) as caught:
        load_lab(DATA / "bad" / "several.yaml")
    text = str(caught.value)
    assert text.startswith("10 mistakes in the input; nothing was started")
    assert "several.yaml:25:28: vms.two.host: expected one of the hosts hades, atlas, got `altas`" in text
    assert "next: correct the file and run `labkit check lab` on it" in text


_ODD = st.text(alphabet="*&!@%{}[]\"'|>-?:#, \\\t0~=<", max_size=4)


_PLACES = ["token: env:K3S_TOKEN", "file:~/.ssh/id_ed25519", "env:PROXMOX_TOKEN"]


@given(before=_ODD, after=_ODD, place=st.sampled_from(_PLACES))
def test_a_literal_is_never_shown_however_it_is_written(before: str, after: str, place: str) -> None:
    text = (DATA / "minimal.yaml").read_text()
    key = "token: " if place.startswith("token") else ""
    said = ""
    try:
        parse_lab(text.replace(place, f"{key}{before}hunter2hunter2{after}"))
    except InputError as exc:
        said = str(exc)
    assert "hunter" not in said


@pytest.mark.parametrize(
    "line",
    [
        "{id: a@b!c, secret: env:TOKEN, hunter2hunter2: 1}",
        "{hunter2hunter2, hunter2hunter2}",
        "{12345678: 1, 12345678: 2}",
        "!hunter2hunter2 x",
        "*hunter2hunter2",
        "!hunter2!hunter2 x",
        "[hunter2hunter2]",
    ],
)
def test_a_secret_as_key_tag_or_alias_is_not_shown(line: str) -> None:
    text = (DATA / "minimal.yaml").read_text()
    with pytest.raises(InputError) as caught:
        parse_lab(text.replace("{id: labkit@pve!runbooks, secret: env:PROXMOX_TOKEN}", line))
    assert "hunter" not in str(caught.value)
    assert "12345678" not in str(caught.value)


def test_an_anchor_may_be_used_again() -> None:
    text = (DATA / "minimal.yaml").read_text()
    parse_lab(text.replace("hades: {}", "hades: &a {}").replace("atlas: {}", "atlas: &a {}"))
