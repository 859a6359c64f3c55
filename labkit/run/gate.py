"""The gate before writing: what `approve` lets through, on the twin and on the lab. Pure."""

from __future__ import annotations

import re
from typing import Literal

from labkit.errors import InputError, Mistake, NotApproved, Refused, counted
from labkit.plan import Plan, Risk
from labkit.systems.access import Access

_DIGEST = re.compile(r"^[0-9a-f]{12}$")


def check_approval(approve: str) -> None:
    """Refuse an `approve` that is none of empty, `none`, `safe` and a digest.

    Raises:
        InputError: with what was expected.
    """
    if approve in ("", "none", "safe") or _DIGEST.match(approve):
        return
    expected = "empty, none, safe, or a plan's digest of 12 hexadecimal digits"
    raise InputError([Mistake("parameters", 0, 0, "approve", expected, repr(approve))])


def is_protected(_lab: object, access: Access) -> bool:
    """Whether there is something to lose, so that destructive changes must be confirmed by name: not on a twin."""
    return access.on == "lab"


def pass_gate(plan: Plan, *, approve: str, on: Literal["twin", "lab"], rehearsed: str = "") -> None:
    """Return when this plan may be applied; raise when not. `rehearsed` says whether it went through on a twin.

    Raises:
        InputError: `approve` is none of the known forms.
        Refused: the plan has findings that block it, or its digest is not the approved one.
        NotApproved: nobody approved it.
    """
    check_approval(approve)
    if plan.blockers:
        reasons = "\n".join(f"  {finding}" for finding in plan.blockers)
        found = counted(len(plan.blockers), "finding")
        raise Refused(f"plan {plan.digest} is blocked by {found}; nothing was written\n{reasons}")
    if not plan:
        return
    digest = plan.digest
    if approve == "safe":
        risky = [change.id for change in plan.changes if change.risk is not Risk.SAFE]
        if risky:
            raise NotApproved(
                f"plan {digest}: expected safe changes only, got {', '.join(risky)}; nothing was written",
                digest=digest,
                next_step=f"read the plan; approve it with approve={digest}",
            )
    elif approve in ("", "none"):
        if approve == "none" or on == "lab":
            words = "; ".join(text for text in (plan.summary(), rehearsed) if text)
            raise NotApproved(
                f"plan {digest} waits for approval ({words}); nothing was written",
                digest=digest,
                next_step=f"read the plan; apply exactly this one with approve={digest}",
            )
    elif approve != digest:
        raise Refused(
            f"plan: expected the approved digest {approve}, got {digest}: what is there or what is wanted "
            "has changed since; nothing was written",
            next_step=f"read the new plan; approve it with approve={digest}",
        )
