"""The filter that stands before everything a run writes: known secrets are replaced wherever they occur.

A secret is known in many forms: as it is, line by line, and escaped or encoded for JSON, HTML, URLs and
base64, also one inside the other. All forms stand in one table by their first characters; one compiled
expression finds these, so that the cost grows with the text and hardly with the number of secrets.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock

MASK = "«***»"
MIN_LENGTH = 6
"""Shorter values would blank out innocent words, so they cannot be hidden and are refused as secrets."""

_LINE_LENGTH = 16  # a line of a key or certificate is hidden on its own; a short line is no secret
_known: dict[str, frozenset[str]] = {}
_guard = Lock()


def remember(value: str) -> str:
    """Register a secret so that `redact` hides it from now on; returns it unchanged."""
    with _guard:
        if value not in _known and len(value) >= MIN_LENGTH:
            _known[value] = _forms(value)
            _finder.cache_clear()
    return value


def forget_all() -> None:
    """Forget every secret; for a process that starts over, and for tests."""
    with _guard:
        _known.clear()
        _finder.cache_clear()


def redact(text: str) -> str:
    """Replace every known secret in a text, in all its forms; overlapping ones become one mask."""
    with _guard:
        pattern, table = _finder()
    if pattern is None:
        return text
    parts: list[str] = []
    done = 0
    for start, end in _merged(_spans(text, pattern, table)):
        parts += (text[done:start], MASK)
        done = end
    return "".join([*parts, text[done:]])


@functools.lru_cache(maxsize=1)
def _finder() -> tuple[re.Pattern[str] | None, Mapping[str, tuple[str, ...]]]:
    table: dict[str, list[str]] = {}
    for form in frozenset().union(*_known.values()):
        table.setdefault(form[:MIN_LENGTH], []).append(form)
    ordered = {head: tuple(sorted(forms, key=len, reverse=True)) for head, forms in table.items()}
    return (re.compile(_trie(sorted(ordered)), re.DOTALL) if ordered else None), ordered


def _trie(heads: list[str]) -> str:
    """One expression for many words of equal length, so that each character is looked at once."""
    if not heads[0]:
        return ""
    groups: dict[str, list[str]] = {}
    for head in heads:
        groups.setdefault(head[0], []).append(head[1:])
    branches = [re.escape(first) + _trie(rest) for first, rest in groups.items()]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _spans(text: str, pattern: re.Pattern[str], table: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[int, int]]:
    start = 0
    while (match := pattern.search(text, start)) is not None:
        start = match.start()
        found = next((form for form in table[match[0]] if text.startswith(form, start)), None)
        if found is not None:
            yield start, start + len(found)
        start += 1


def _merged(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join spans that overlap or touch; they come sorted by their start."""
    current: tuple[int, int] | None = None
    for start, end in spans:
        if current is None or start > current[1]:
            if current is not None:
                yield current
            current = (start, end)
        else:
            current = (current[0], max(current[1], end))
    if current is not None:
        yield current


def _forms(value: str) -> frozenset[str]:
    """All texts by which a secret may show."""
    forms = {value}
    for _ in range(2):
        forms |= {form for known in forms for form in _encoded(known)}
    forms |= {_json(_json(_json(value)))}  # a plan in a cell output in a notebook
    for line in (line.strip() for line in value.splitlines()):
        if len(line) >= _LINE_LENGTH:
            forms |= {line, *_encoded(line)}
    return frozenset(form for form in forms if len(form) >= MIN_LENGTH)


def _json(value: str) -> str:
    return json.dumps(value)[1:-1]


def _encoded(value: str) -> Iterator[str]:
    for escape in _ESCAPES:
        yield escape(value)
    data = value.encode("utf-8", "surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(data).decode()
        yield whole
        yield whole.rstrip("=")
        yield from (_inner(encode, data, shift) for shift in range(3))
    yield from base64.encodebytes(data).decode().splitlines()


def _inner(encode: Callable[[bytes], bytes], data: bytes, shift: int) -> str:
    """The part of base64 that does not depend on what stands before (`shift` bytes) and after."""
    text = encode(b"\0" * shift + data).decode().rstrip("=")
    front = {0: 0, 1: 2, 2: 3}[shift]
    return text[front : len(text) - (1 if (shift + len(data)) % 3 else 0)]


def _quote(value: str, safe: str = "") -> str:
    return urllib.parse.quote(value, safe=safe, errors="surrogatepass")


def _lower_quote(value: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), _quote(value))


_ESCAPES: tuple[Callable[[str], str], ...] = (
    _json,
    lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    lambda value: repr(value)[1:-1],
    _quote,
    _lower_quote,
    lambda value: _quote(value, "/"),
    lambda value: _quote(value, "/:@!$&'()*+,;=-._~"),
    lambda value: urllib.parse.quote_plus(value, errors="surrogatepass"),
    html.escape,
    lambda value: html.escape(value, quote=False),
)
