from __future__ import annotations

import base64
import html
import json
import os
import shutil
import string
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pyrage
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from labkit import redaction
from labkit.errors import InputError, StepFailed
from labkit.process import run_program
from labkit.secrets import MASK, Secrets, extract_path, redact, remember, sops_program


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    """Start without any remembered secret, and leave none behind."""
    before = dict(redaction._known)
    redaction.forget_all()
    yield
    redaction.forget_all()
    redaction._known.update(before)


def said(secrets: Secrets, ref: str) -> str:
    with pytest.raises(InputError) as caught:
        secrets.resolve(ref)
    text = str(caught.value)
    assert secrets.check(ref) is not None
    assert secrets.check(ref) in text
    return text


# --- references ---


def test_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_A", "from-the-environment")
    assert Secrets().resolve("env:LABKIT_A") == "from-the-environment"
    assert redact("x from-the-environment y") == f"x {MASK} y"
    assert Secrets().check("env:LABKIT_A") is None
    text = said(Secrets(), "env:LABKIT_NONE")
    assert "secret env:LABKIT_NONE: expected an environment variable LABKIT_NONE, got none; export LABKIT_NONE" in text


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"one-line\n", "one-line"),
        (b"one-line\r\n", "one-line"),
        (b"one-line", "one-line"),
        (b" blanks stay ", " blanks stay "),
        (b"-----BEGIN\nkey\n-----END\n", "-----BEGIN\nkey\n-----END\n"),
    ],
)
def test_file(tmp_path: Path, content: bytes, value: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    assert Secrets(base=tmp_path).resolve("file:key") == value
    assert Secrets().resolve(f"file:{path}") == value
    assert Secrets(base=tmp_path).warn("file:key") is None


def test_a_file_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text("a-secret-at-home")
    assert Secrets(base=tmp_path / "elsewhere").resolve("file:~/key") == "a-secret-at-home"


def test_a_file_that_others_may_read_is_worth_a_warning(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("everyone-sees-it")
    (tmp_path / "key").chmod(0o644)
    secrets = Secrets(base=tmp_path)
    warning = secrets.warn("file:key")
    assert warning is not None
    assert "got mode 0644; chmod 600" in warning
    assert "everyone" not in warning
    assert secrets.resolve("file:key") == "everyone-sees-it"
    assert secrets.warn("env:KEY") is None
    assert secrets.warn("file:nowhere") is None


def test_files_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xfe-secret-bytes")
    (tmp_path / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    secrets = Secrets(base=tmp_path)
    assert f"expected a file with the secret at {tmp_path / 'nope'}, got no such file" in said(secrets, "file:nope")
    assert "got a directory" in said(secrets, f"file:{tmp_path}")
    assert "got an empty text" in said(secrets, "file:empty")
    assert "in UTF-8, got other bytes" in said(secrets, "file:binary")
    assert "more than 1048576 bytes" in said(secrets, "file:large")
    assert "no such file" in said(secrets, "file:a\0b")
    with pytest.raises(InputError) as caught:
        secrets.resolve("file:binary")
    assert caught.value.__cause__ is None  # the cause would hold the bytes


def test_a_secret_that_is_too_short_to_hide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_A", "12345")
    text = said(Secrets(), "env:LABKIT_A")
    assert "expected at least 6 characters, so that it can be hidden, got 5 characters" in text
    assert "12345" not in text


@pytest.mark.parametrize("ref", ["hunter2hunter2", "", "vault:hunter2", "env:", "hunter2:hunter2", "hunter2\nenv:X"])
def test_a_literal_is_refused_and_not_shown(ref: str) -> None:
    text = said(Secrets(), ref)
    assert f"got a literal of {len(ref)} characters" in text
    assert "hunter2" not in text


def test_overrides_hide_the_real_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_A", "the-real-secret")
    secrets = Secrets({"env:LABKIT_B": "of-the-twin"})
    assert secrets.resolve("env:LABKIT_B") == "of-the-twin"
    assert "of-the-twin" not in redact("of-the-twin")
    text = said(secrets, "env:LABKIT_A")
    assert "expected a value among the twin's own secrets, got none" in text
    assert "the-real-secret" not in text
    assert Secrets({}).check("env:LABKIT_A") is not None
    assert secrets.warn("file:/etc/hosts") is None


def test_check_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_A", "only-looked-at")
    assert Secrets().check("env:LABKIT_A") is None
    assert redact("only-looked-at") == "only-looked-at"


# --- sops, with the real program ---


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sops")
    identity = pyrage.x25519.Identity.generate()
    (folder / "keys.txt").write_text(f"{identity}\n")
    plain = folder / "plain.yaml"
    text = {
        "stringData": {"token": "s3cret-token", "tls.crt": "line one\nline two\n", "pin": 12345678, "all": ["first!"]}
    }
    plain.write_text(json.dumps(text))
    argv = [sops_program(), "--encrypt", "--age", str(identity.to_public()), "--output", folder / "s.yaml", plain]
    run_program(argv, timeout=30)
    plain.unlink()
    return folder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stringData.token", "s3cret-token"),
        (r"stringData.tls\.crt", "line one\nline two\n"),
        ("stringData.pin", "12345678"),
        ("stringData.all.0", "first!"),
    ],
)
def test_sops(encrypted: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(encrypted / "keys.txt"))
    assert Secrets(base=encrypted).resolve(f"sops:s.yaml#{key}") == value
    assert value not in redact(f"<{value}>")


def test_sops_says_what_is_wrong(encrypted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(encrypted / "keys.txt"))
    secrets = Secrets(base=encrypted)
    assert "component ['nope'] not found" in said(secrets, "sops:s.yaml#nope")
    assert "got no such file" in said(secrets, "sops:none.yaml#a")
    other = tmp_path / "other.txt"
    other.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(other))
    text = said(secrets, "sops:s.yaml#stringData.token")
    assert "expected sops to decrypt stringData.token" in text
    assert "SOPS_AGE_KEY_FILE" in text
    assert "s3cret" not in text


def test_sops_is_found_beside_python_when_not_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert shutil.which("sops") is None
    assert sops_program().is_file()


def test_extract_path() -> None:
    assert extract_path(r'a.0.b\.c."d') == '["a"][0]["b.c"]["\\"d"]'


# --- keyring, with a real backend in memory ---


class Memory(keyring.backend.KeyringBackend):
    priority = 1  # type: ignore[assignment]

    def get_password(self, service: str, username: str) -> str | None:
        if service == "locked":
            raise keyring.errors.KeyringLocked("it is locked")
        return "from-the-keyring" if (service, username) == ("labkit/home", "nas") else None

    def set_password(self, service: str, username: str, password: str) -> None:  # noqa: ARG002
        raise keyring.errors.PasswordSetError


def test_keyring() -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        assert Secrets().resolve("keyring:labkit/home/nas") == "from-the-keyring"
        assert redact("from-the-keyring") == MASK
        assert "keyring set labkit nas" in said(Secrets(), "keyring:labkit/nas")
        assert "got it is locked" in said(Secrets(), "keyring:locked/nas")
    finally:
        keyring.set_keyring(before)


# --- redaction ---

FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda value: value,
    "json": lambda value: json.dumps(value)[1:-1],
    "json with letters": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "json in json": lambda value: json.dumps(json.dumps(value))[3:-3],
    "json in json in json": lambda value: json.dumps(json.dumps(json.dumps({"a": value}))),
    "repr": lambda value: repr(value)[1:-1],
    "url": lambda value: urllib.parse.quote(value, safe=""),
    "url path": urllib.parse.quote,
    "url form": urllib.parse.quote_plus,
    "url in lower case": lambda value: urllib.parse.quote(value, safe="").lower() if value.islower() else value,
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 for urls": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "base64 without padding": lambda value: base64.b64encode(value.encode()).decode().rstrip("="),
    "base64 of base64": lambda value: base64.b64encode(base64.b64encode(value.encode())).decode(),
    "base64 in json": lambda value: json.dumps({"token": base64.b64encode(value.encode()).decode()}),
    "base64 of json": lambda value: base64.b64encode(json.dumps({"token": value}).encode()).decode(),
    "url of base64": lambda value: urllib.parse.quote(base64.b64encode(value.encode()).decode(), safe=""),
    "html": html.escape,
    "html of json": lambda value: html.escape(json.dumps(value)[1:-1]),
    "basic": lambda value: base64.b64encode(f"me:{value}".encode()).decode(),
    "basic in the middle": lambda value: base64.b64encode(f"root:{value}@host".encode()).decode(),
}
_VALUE = st.text(alphabet=string.printable + "äöß«»€", min_size=6, max_size=40)
_AROUND = st.text(alphabet=string.printable, max_size=20)


@pytest.mark.parametrize("name", FORMS)
@given(value=_VALUE, before=_AROUND, after=_AROUND)
def test_no_form_of_a_secret_gets_through(name: str, value: str, before: str, after: str) -> None:
    redaction.forget_all()
    remember(value)
    form = FORMS[name](value)
    assume(form not in MASK)
    shown = redact(before + form + after)
    assert MASK in shown
    assert value not in shown
    if "in the middle" not in name and "basic" not in name and "of json" not in name:
        assert form not in shown


@given(st.lists(_VALUE, min_size=1, max_size=5), st.data())
def test_overlapping_secrets_leave_no_rest(values: list[str], data: st.DataObject) -> None:
    redaction.forget_all()
    for value in values:
        remember(value)
    first, second = data.draw(st.sampled_from(values)), data.draw(st.sampled_from(values))
    shown = redact(f"{first}{second}")
    assert not shown.replace(MASK, "")


def test_texts_without_secrets_stay() -> None:
    assert redact("nothing known yet") == "nothing known yet"
    remember("abcdefgh")
    assert redact("abcdefg abcdefx") == "abcdefg abcdefx"
    assert remember("short") == "short"
    assert redact("short") == "short"


def test_a_key_is_hidden_line_by_line() -> None:
    key = "-----BEGIN KEY-----\n" + "\n".join(f"{number:02}" + "QUJDREVG" * 8 for number in range(30)) + "\n"
    remember(key)
    for line in key.splitlines():
        assert redact(f"  | {line} |") == f"  | {MASK} |"
    assert redact(key.replace("\n", "\\n")) == MASK
    indented = "\n".join(f"    {line}" for line in key.splitlines())
    assert "QUJD" not in redact(indented)


def test_many_secrets_and_a_long_text() -> None:
    values = [base64.b64encode(os.urandom(24)).decode() for _ in range(100)]
    for value in values:
        remember(value)
    text = " ".join(["lorem ipsum dolor sit amet"] * 40_000)
    mixed = text + "".join(f" {base64.b64encode(value.encode()).decode()} " for value in values)
    shown = redact(mixed)
    assert shown.count(MASK) == 100
    assert shown.startswith(text)


def test_errors_of_programs_are_redacted() -> None:
    remember("the-secret-word")
    with pytest.raises(StepFailed) as caught:
        run_program(["sh", "-c", "echo the-secret-word >&2; exit 3"], timeout=10)
    assert "the-secret-word" not in str(caught.value)
    assert MASK in str(caught.value)
