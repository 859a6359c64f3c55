"""What looks like a secret and what only sounds like one: names of keys, and texts. Pure, and never quotes a value."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

_PLAIN = {"password", "passwords", "passwd", "passphrase", "pwd", "pass", "htpasswd"}
_OPAQUE = {
    "secret",
    "secrets",
    "token",
    "tokens",
    "apikey",
    "apitoken",
    "credential",
    "credentials",
    "jwt",
    "hmac",
    "psk",
}
_PAIRS = {
    ("api", "key"), ("private", "key"), ("access", "key"), ("secret", "key"), ("encryption", "key"), ("master", "key"),
    ("signing", "key"), ("auth", "key"), ("license", "key"), ("account", "key"), ("app", "key"), ("session", "key"),
    ("shared", "key"), ("admin", "key"), ("storage", "key"),
}  # fmt: skip
_ENDS_HARMLESS = {
    "name", "names", "ref", "refs", "path", "paths", "file", "files", "dir", "folder", "enabled", "enable", "ttl",
    "expiry", "expiration", "expires", "length", "size", "type", "types", "policy", "url", "uri", "urls", "endpoint",
    "host", "lifetime", "duration", "interval", "header", "headers", "claim", "method", "algorithm", "format",
    "provider", "mode", "count", "min", "max", "id", "ids", "issuer", "audience", "volume", "mount", "store", "class",
    "namespace", "selector", "prefix", "suffix", "regex", "field", "rotation", "scheme", "required", "optional",
    "disabled", "disable", "allowed", "env", "var", "variable", "property", "attribute", "timeout", "refresh", "port",
    "version", "template", "engine", "backend", "operator", "controller", "user", "username", "email", "validity",
    "age", "hash", "digest", "public", "cert", "scope", "scopes", "auth", "reset", "check", "strength", "complexity",
}  # fmt: skip
_STARTS_HARMLESS = {
    "existing", "disable", "disabled", "enable", "enabled", "use", "allow", "require", "automount", "mount", "create",
    "no", "has", "is", "generate", "show", "hide", "forgot", "min", "max", "image", "public", "external", "tls",
}  # fmt: skip
_HARMLESS_KEYS = {
    "user", "username", "users", "login", "email", "mail", "name", "host", "hostname", "port", "database", "db",
    "dbname", "schema", "region", "bucket", "endpoint", "domain", "type", "path", "tz", "url", "uri", "server",
    "tls.crt", "ca.crt", "known_hosts", "identity.pub", "namespace", "client_id", "clientid", "project", "account_id",
}  # fmt: skip
_REFERENCE = re.compile(
    r"^(vault:|op://|ref\+|env:|file:|keyring:|sops:|bw:|akv:|aws(ps|sm)?:|gcpsm?:|secretref|/|\./|\$__|<path:|"
    r"\{SSHA|\$(argon2|2[aby]|pbkdf2|scrypt|1|5|6|apr1|y)[a-z0-9-]*\$|sha(1|256|512)[:=]|"
    r"ssh-(rsa|ed25519) |ecdsa-sha2-)",
    re.IGNORECASE,
)
_MARK = re.compile(r"\$\{|\$\(|\{\{|<[^>]+>|ENC\[|%\(|__[A-Z_]+__|\$[A-Z_]+\b")
_PLACEHOLDER = re.compile(
    r"change.?(me|it|this)|replace|placeholder|example|dummy|\byour[-_ ]?|x{3,}|\*{3,}|\.{3}|to-?do|fixme|redacted|"
    r"insert|^(null|none|nil|undefined|n/?a|tbd|true|false|yes|no|on|off|unset|empty|disabled|enabled|optional|required)$|"
    r"sample|fake|not-?used|unused|ignored|generated|see[-_ ]|encrypted|removed|(secret|password|token)[-_]?here",
    re.IGNORECASE,
)
_ENV_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
_NAME = re.compile(r"[a-z][a-z0-9]*([-_./][a-z0-9]+)+|[a-z]+")
_KNOWN = (
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20,}")),
    ("an age key", re.compile(r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}")),
    ("a GitHub token", re.compile(r"\b(gh[posru]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,})")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}")),
    ("an AWS key", re.compile(r"\bAKIA[0-9A-Z]{16}\b")),
    ("a Google key", re.compile(r"\bAIza[0-9A-Za-z_-]{35}")),
    ("a Tailscale key", re.compile(r"\btskey-[a-z]+-[A-Za-z0-9]{8,}-?[A-Za-z0-9]{10,}")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")),
    ("a Discord webhook", re.compile(r"discord(app)?\.com/api/webhooks/\d{15,}/[A-Za-z0-9_-]{40,}")),
    ("a Slack webhook", re.compile(r"hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{20,}")),
)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*:([^\s/@\"']+)@", re.IGNORECASE)
_ASSIGNMENT = re.compile(
    r"""^\s*(?:-\s+|export\s+)?["']?([A-Za-z][\w.-]{2,60})["']?\s*[:=]\s*(["']?)([^\s"'#,;{}\[\]]{4,200})\2[,;]?\s*(?:#.*)?$"""
)
_CALL = re.compile(r"^[\w.]+\(.*\)$")  # code that fetches a secret
_HOST = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d+)?(/.*)?")
_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_RANDOM_LENGTH = 20
_RANDOM_BITS = 3.5
_SHORT = 4


def split_words(key: str) -> tuple[str, ...]:
    """Split `adminPassword`, `DB_PASSWORD` or `db.password` into lower-case words."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", key)
    return tuple(part.lower() for part in parts)


def is_secret_key(key: str) -> str:
    """Tell whether a key names a secret: `plain` for passwords, `opaque` for tokens and keys, else an empty text."""
    words = split_words(key)
    if not words or words[-1] in _ENDS_HARMLESS or words[0] in _STARTS_HARMLESS:
        return ""
    if len(words) > 1 and words[-1] == "key" and words[-2] in _PLAIN | _OPAQUE and words[-2] != "secret":
        return ""  # passwordKey names the key inside a Secret
    if (
        len(words) > 1
        and words[-1] in {"secret", "secrets"}
        and words[-2] in _PLAIN | {"token", "key", "auth", "pull", "tls"}
    ):
        return ""  # passwordSecret names a Secret
    if _PLAIN & set(words[-2:]):
        return "plain"
    if words[-1] in _OPAQUE or words[-2:] in _PAIRS:
        return "opaque"
    return ""


def is_innocent(value: str) -> bool:
    """Tell whether a text stands for a secret without being one: a variable, a reference, a digest, a sample."""
    text = value.strip()
    if len(text) < _SHORT or _MARK.search(text) or _REFERENCE.match(text):
        return True
    return _PLACEHOLDER.search(text) is not None or _ENV_NAME.fullmatch(text) is not None


def find_pattern(value: str) -> str:
    """Name what kind of secret a text holds by its form alone, or return an empty text."""
    if found := next((name for name, pattern in _KNOWN if pattern.search(value)), ""):
        return "" if _PLACEHOLDER.search(_line_around(value, found)) else found
    for match in _URL.finditer(value):
        if not is_innocent(match[1]):
            return "a URL with a password"
    return ""


def _line_around(value: str, name: str) -> str:
    pattern = dict(_KNOWN)[name]
    match = pattern.search(value)
    return match[0] if match else ""


def looks_random(value: str) -> bool:
    """Tell whether a text is long and mixed enough that nobody typed it as a word, and is no host, path or UUID."""
    text = value.strip()
    if len(text) < _RANDOM_LENGTH or re.search(r"\s", text) or _HOST.fullmatch(text) or _UUID.fullmatch(text):
        return False
    if "://" in text or "/" in text[:1] or re.search(r"@.*\.", text):
        return False
    classes = sum(re.search(pattern, text) is not None for pattern in ("[a-z]", "[A-Z]", "[0-9]"))
    counts = Counter(text)
    bits = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return classes >= 2 and bits >= _RANDOM_BITS


def judge_in_secret(key: str, value: str) -> str:
    """Say what a value under a Secret's data is, in words without the value, or return an empty text."""
    if found := find_pattern(value):
        return found
    if "\n" in value.strip():
        return next((f"{name} in line {number}" for number, name in judge_lines(value)), "")
    if key.lower() in _HARMLESS_KEYS or is_innocent(value) or key.lower().endswith((".pub", ".crt")):
        return ""
    words = split_words(key)
    if is_secret_key(key) and value.strip().lower() not in {*words, "password", "secret"}:
        return "a literal of that name"
    return "a random text" if looks_random(value) and (not words or words[-1] not in _ENDS_HARMLESS) else ""


def judge_in_values(key: str, value: str) -> str:
    """Say what a value in HelmRelease values, a ConfigMap or an environment is, or return an empty text."""
    if found := find_pattern(value):
        return found
    text = value.strip()
    kind = is_secret_key(key)
    if not kind or is_innocent(text) or text.lower() in split_words(key) or " " in text:
        return ""
    if re.fullmatch(r"\d+(\.\d+)?[a-z]{0,2}", text) and (kind == "opaque" or len(text) < 5):
        return ""
    name_like = _NAME.fullmatch(text) is not None
    if kind == "plain":
        dashed = name_like and re.search(r"[-_./]", text) and not looks_random(text)
        return "" if dashed else "a literal password"
    return "" if name_like and not looks_random(text) else "a literal of that name"


def judge_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield line numbers (from 1) of a configuration text that assign a secret, with the key's name."""
    for number, line in enumerate(text.splitlines(), 1):
        match = _ASSIGNMENT.match(line)
        if match and not _CALL.search(match[3]) and judge_in_values(match[1], match[3]):
            yield number, match[1]
        elif not match and (found := find_pattern(line)):
            yield number, found
