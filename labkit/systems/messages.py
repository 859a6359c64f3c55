"""Messages to people through apprise: each place side by side with the others, with a time limit, nothing leaked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from labkit.errors import InputError, StepFailed
from labkit.plan import Finding, Severity
from labkit.process import run_program
from labkit.redaction import MASK, MIN_LENGTH, redact, remember
from labkit.systems.access import Access

LIMIT = 30.0
"""Seconds that one place may take."""
_WIDTH = 8
_LARGEST = 5 * 1024 * 1024
_SHORTEST = 4
"""The shortest part of a URL that is hidden in what is said of it: shorter ones are ports and common words."""


@dataclass(frozen=True)
class Delivery:
    """What became of a message at one place.

    Attributes:
        reference: where the lab file says that its URL is kept.
        service: what apprise calls it; empty when it does not know.
        problem: why it was not taken; empty when it was.
        attached: whether the page went with it.
    """

    reference: str
    service: str = ""
    problem: str = ""
    attached: bool = False

    @property
    def ok(self) -> bool:
        """Whether the service took it."""
        return not self.problem

    def __str__(self) -> str:
        name = f"{self.reference} ({self.service})" if self.service else self.reference
        return f"{name}: {self.problem or ('sent, with the page' if self.attached else 'sent')}"


def send_to(
    access: Access, references: Sequence[str], title: str, body: str, *, page: Path | None = None, limit: float = LIMIT
) -> tuple[Delivery, ...]:
    """Send a message to each place; what goes wrong at one is said of it and stops no other.

    Args:
        access: for the secrets.
        references: where the URLs are kept.
        title: one line.
        body: plain text.
        page: an HTML file, attached where the service takes attachments.
        limit: seconds that each place has.
    """
    if not references:
        return ()
    attach = str(page) if page is not None and page.is_file() and page.stat().st_size <= _LARGEST else None
    order = {"title": redact(title), "body": redact(body), "attach": attach}
    with ThreadPoolExecutor(max_workers=min(_WIDTH, len(references))) as pool:
        return tuple(pool.map(lambda one: _send(access, one, order, limit), references))


def undelivered(deliveries: Sequence[Delivery]) -> tuple[Finding, ...]:
    """Return a finding for every place that did not take the message."""
    return tuple(
        Finding(id="messages.undelivered", severity=Severity.WARNING, subject=f"messages to {one.reference}",
                expected="a service that takes them", got=one.problem,
                remedy="correct the URL behind the reference; `labkit message test` tries again")
        for one in deliveries if not one.ok
    )  # fmt: skip


def _send(access: Access, reference: str, order: Mapping[str, str | None], limit: float) -> Delivery:
    try:
        url = access.secrets.resolve(reference).strip()
    except InputError as exc:
        return Delivery(reference, problem=" ".join(str(exc.mistakes[0]).split()))
    if password := _giveaways(url)[0]:
        remember(password)
    given = json.dumps({"url": url, **order}).encode()
    try:
        done = run_program([sys.executable, "-m", "labkit.systems.messenger"], stdin=given, timeout=limit)
        answer = json.loads(done.stdout)
    except StepFailed as exc:
        slow = isinstance(exc.__cause__, subprocess.TimeoutExpired)
        said = f"no answer within {limit:g} s" if slow else f"apprise failed: {_hide(exc.message, url)}"
        return Delivery(reference, problem=said)
    except ValueError:
        return Delivery(reference, problem="apprise gave no answer")
    said = _hide(str(answer["said"]), url)[:500]
    problem = "" if answer["ok"] else said or "the service did not take it"
    return Delivery(reference, str(answer["service"]), problem, bool(answer["attached"]) and not problem)


def _giveaways(url: str) -> tuple[str, tuple[str, ...]]:
    """Return the password of a URL, and all its parts that could give it away; nothing of what is no URL."""
    try:
        parts = urlsplit(url)
        password, user = parts.password or "", parts.username or ""
    except ValueError:
        return "", ()
    words = [password, user, *parts.path.split("/"), *parts.query.replace("&", "=").split("="), parts.fragment]
    found = {form for word in words for form in (word, unquote(word)) if len(form) >= _SHORTEST}
    return password if len(password) >= MIN_LENGTH else "", tuple(sorted(found, key=len, reverse=True))


def _hide(text: str, url: str) -> str:
    """Replace the parts of a URL in what was said of it; services name topics and tokens in their paths."""
    text = redact(text)
    for part in _giveaways(url)[1]:
        text = text.replace(part, MASK)
    return " ".join(text.split())
