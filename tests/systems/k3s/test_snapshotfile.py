"""The bytes of a snapshot: whole or not, with which token, of which k3s."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.facts.guests import TokenState
from labkit.systems.k3s.snapshotfile import Contents, compare_hash, examine, token_hash

TOKEN = "correct-horse"
HASH = hashlib.sha256(TOKEN.encode()).hexdigest()[:12]
# A Node in protobuf: container runtime, kubelet and kube-proxy, each with its tag and its length.
NODE = b"2\x18containerd://2.0.5-k3s1:\x0cv1.33.4+k3s1B\x0cv1.33.4+k3s1"
PLAN = b'{"spec":{"version":"v1.35.0+k3s1"}}'  # what is wanted is not what runs


def whole(body: bytes) -> bytes:
    body += b"\0" * (-len(body) % 512)
    return body + hashlib.sha256(body).digest()


def packed(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("snapshot", data)
    return out.getvalue()


GOOD = whole(b"\x0a\x17/bootstrap/" + HASH.encode() + b"\x10\x04" + NODE + PLAN)


@pytest.mark.parametrize("data", [GOOD, packed(GOOD)], ids=["plain", "zip"])
def test_a_whole_one(data: bytes) -> None:
    assert examine(data) == Contents("", (HASH,), "v1.33.4+k3s1")


def test_versions_are_compared_as_numbers() -> None:
    body = b"".join(b'"kubeletVersion":"%s"' % version for version in (b"v1.33.10+k3s1", b"v1.33.9+k3s2"))
    assert examine(whole(body)).version == "v1.33.10+k3s1"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (GOOD[:-1], "cut off"),
        (GOOD[:512], "cut off"),
        (GOOD[:9] + b"!" + GOOD[10:], "damaged"),
        (GOOD[:-1] + b"!", "damaged"),
        (packed(GOOD)[:-30], "zip archive is damaged"),
        (b"PK", "zip archive is damaged"),
    ],
)
def test_damage_is_named(data: bytes, said: str) -> None:
    assert said in examine(data).problem


@given(st.binary(min_size=1, max_size=2000), st.data())
def test_any_flipped_byte_is_found(body: bytes, data: st.DataObject) -> None:
    file = bytearray(whole(body))
    assert examine(bytes(file)).problem == "" or file[:2] == b"PK"
    place = data.draw(st.integers(2, len(file) - 1))
    file[place] ^= data.draw(st.integers(1, 255))
    assert examine(bytes(file)).problem


@pytest.mark.parametrize(
    ("hashes", "token", "state"),
    [
        ((HASH,), TOKEN, TokenState.SAME),
        ((HASH,), f"K10{'a' * 64}::server:{TOKEN}", TokenState.SAME),
        (("0" * 12, HASH), TOKEN, TokenState.SAME),
        ((HASH,), "another", TokenState.OTHER),
        ((HASH,), None, TokenState.UNKNOWN),
        ((), TOKEN, TokenState.UNKNOWN),
    ],
)
def test_tokens_are_compared_by_their_hash(hashes: tuple[str, ...], token: str | None, state: TokenState) -> None:
    assert compare_hash(hashes, token) is state


def test_the_hash_of_a_token_is_that_of_its_password() -> None:
    assert token_hash(f"K10{'a' * 64}::server:{TOKEN}") == HASH
