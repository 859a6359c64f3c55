"""What looks like a secret and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.checks.repository.words import find_pattern, is_innocent, is_secret_key, judge_in_secret, judge_in_values

SECRET_KEYS = (
    "password", "adminPassword", "DB_PASS", "postgres-password", "rootPassword", "apiKey", "API_TOKEN", "secret_key",
    "clientSecret", "JWT_SECRET", "encryptionKey", "SESSION_SECRET", "private_key", "smtp.password", "APP_KEY",
)  # fmt: skip
OTHER_KEYS = (
    "passwordKey", "existingSecret", "secretName", "tokenTTL", "passwordFile", "username", "secretRef", "keyName",
    "passwordSecret", "tlsSecret", "imagePullSecret", "token_endpoint_auth_method", "disablePasswordAuth", "key",
    "publicKey", "secretStore", "tokenUrl", "passwordPolicy", "monkey", "author", "secretsEngine", "TOKEN_EXPIRY",
)  # fmt: skip


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_names_of_secrets(key: str) -> None:
    assert is_secret_key(key)
    assert judge_in_values(key, "aB3$kd9Lm2")


@pytest.mark.parametrize("key", OTHER_KEYS)
def test_names_that_only_sound_so(key: str) -> None:
    assert not is_secret_key(key)
    assert not judge_in_values(key, "aB3$kd9Lm2")


@pytest.mark.parametrize(
    "value",
    [
        "", "   ", "${VAR}", "$(VAR)", "{{ .x }}", "<token>", "ENC[AES256_GCM,data:x]", "changeme", "CHANGE_ME", "xxxx",
        "REPLACE-WITH-YOURS", "your-token-here", "example", "null", "true", "/run/secrets/x", "vault:secret/x#y",
        "op://vault/item/field", "$argon2id$v=19$m=1$x$y", "$2b$12$abcdefghijklmnopqrstuv", "SOME_ENV_NAME", "********",
        "placeholder", "ref+sops://x", "env:TOKEN", "%(password)s", "$PASSWORD", "TODO",
    ],
)  # fmt: skip
def test_values_that_stand_for_a_secret(value: str) -> None:
    assert is_innocent(value)
    assert not judge_in_secret("password", value)
    assert not judge_in_values("password", value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ghp_" + "a1B2c3D4e5F6" * 3, "a GitHub token"),
        ("AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2, "an age key"),
        ("AKIA" + "ABCDEFGHIJ234567", "an AWS key"),
        ("https://user:R3alPassw0rd@host/x", "a URL with a password"),
        ("https://user:${PASSWORD}@host/x", ""),
        ("https://user@host/x", ""),
        ("https://host:8006/x@y", ""),
        ("postgres://app:changeme@db/app", ""),
        ("glpat-short", ""),
    ],
)
def test_patterns(text: str, what: str) -> None:
    assert find_pattern(text) == what
    assert find_pattern(f"see {text} there") == what


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("existing", "Zk3Tq9LmXw81BvRt55Yh"),
        ("host", "db-01.internal.example.net"),
        ("id", "0b9ee7a2-1a4b-4a7e-9d44-a40c8f6b3a11"),
        ("image", "ghcr.io/org/app:v1.2.3-alpha.4"),
        ("path", "/srv/Media/2024/A1b2C3d4E5f6G7h8"),
        ("bucket", "longhorn-backups-2024-a1b2c3"),
        ("url", "https://example.net/A1b2C3d4E5f6G7h8J9k0"),
    ],
)
def test_long_texts_that_are_no_secrets(key: str, value: str) -> None:
    assert not judge_in_values(key, value)


@given(st.text(max_size=60), st.text(max_size=200))
def test_any_key_and_text_get_an_answer_without_the_text(key: str, value: str) -> None:
    for answer in (judge_in_secret(key, value), judge_in_values(key, value)):
        assert len(value.strip()) < 12 or value not in answer
