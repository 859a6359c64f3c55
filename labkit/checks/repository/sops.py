"""Rules on encrypted files: who can open them, and whether they were changed since. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labkit.checks.repository.finding import Hit, Question, rule
from labkit.facts.repository import CreationRule
from labkit.plan import Severity


def rule_for(rules: tuple[CreationRule, ...], path: str) -> CreationRule | None:
    """Return the first creation rule whose expression matches a path from the root."""
    return next((one for one in rules if not one.path_regex or _matches(one.path_regex, path)), None)


def _matches(pattern: str, path: str) -> bool:
    try:
        return re.search(pattern, path) is not None
    except re.error:
        return False


def _short(recipients: frozenset[str]) -> str:
    return ", ".join(f"{recipient[:12]}..." for recipient in sorted(recipients))


@rule("sops-recipients", Severity.ERROR, "encrypted files are for the recipients of .sops.yaml").repository
def find_recipients(question: Question) -> Iterator[Hit]:
    """Yield encrypted files that are for other age recipients than the rule for their path says."""
    facts = question.facts
    for file in facts.files if facts.sops_rules is not None else ():
        wanted = rule_for(facts.sops_rules or (), file.path)
        if not file.recipients or file.is_template or wanted is None or not wanted.recipients:
            continue
        lacking, surplus = wanted.recipients - set(file.recipients), frozenset(file.recipients) - wanted.recipients
        remedy = f"sops updatekeys --yes {file.path}"
        if lacking:
            why = f"it cannot be opened by {_short(lacking)}, which .sops.yaml (line {wanted.line}) names for this path"
            yield file.path, file.recipients_line, why, remedy
        if surplus:
            why = f"it can still be opened by {_short(surplus)}, which .sops.yaml does not name for this path"
            yield file.path, file.recipients_line, why, f"{remedy}, then sops rotate --in-place, and change the secrets"


@rule("sops-key", Severity.ERROR, "the given age key opens every encrypted file").repository
def find_wrong_key(question: Question) -> Iterator[Hit]:
    """Yield encrypted files that the given key does not open."""
    for one in question.facts.decryptions:
        if one.result == "key":
            file = question.facts.by_path[one.path]
            mine = _short(frozenset(question.facts.key_recipients))
            why = f"the given age key ({mine}) does not open it: it is for {_short(frozenset(file.recipients))}"
            yield one.path, file.recipients_line, why, "give the right key, or sops updatekeys with a key that opens it"


@rule("sops-mac", Severity.ERROR, "encrypted files are as sops wrote them").repository
def find_changed(question: Question) -> Iterator[Hit]:
    """Yield encrypted files that were changed without sops; Flux does not see it, sops does."""
    for one in question.facts.decryptions:
        if one.result in {"mac", "other"}:
            file = question.facts.by_path[one.path]
            said = "its MAC does not match: it was changed without sops" if one.result == "mac" else one.message
            why = f"sops cannot verify it: {said}" if one.result == "other" else said
            yield one.path, file.recipients_line, why, "look at its history, then write it anew with sops edit"
