"""From `on` to an Access: the real lab as the file says, or a twin of it (the only place that starts one)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labkit.errors import InputError, Mistake, Refused
from labkit.lab import Lab
from labkit.lab.models import Tls
from labkit.secrets import Secrets
from labkit.systems.access import Access, Clock
from labkit.systems.repository.decrypt import public_keys

TWIN_VARIABLE = "LABKIT_TWIN"
_LATE = "loss/"


@dataclass(frozen=True)
class Connection:
    """An Access and what ends with it: `close` stops a twin that was started for this run."""

    access: Access
    close: Callable[[], None] = lambda: None
    writes: Callable[[], dict[str, int]] = dict


def check_on(on: str) -> Literal["twin", "lab"]:
    """Return `on` when it is one of the two words; raise InputError otherwise."""
    if on == "twin":
        return "twin"
    if on == "lab":
        return "lab"
    raise InputError([Mistake("parameters", 0, 0, "on", "twin or lab", repr(on))])


def state_dir(lab: str) -> Path:
    """Return the folder of what outlasts a run on the real lab: known hosts, locks, evidence."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "labkit" / lab


def connect(lab: Lab, lab_file: Path, *, on: Literal["twin", "lab"], scenario: str) -> Connection:
    """Open the way to a lab: the real one, the twin of `LABKIT_TWIN`, or a new twin in `scenario`."""
    if on == "lab":
        state = state_dir(lab.name)
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        secrets = Secrets(base=lab_file.parent)
        return Connection(Access(on="lab", secrets=secrets, state=state, connect=dict(lab.connect_to)))
    if joined := os.environ.get(TWIN_VARIABLE):
        return _join(lab, Path(joined))
    return _start(lab_file, scenario)


def _join(lab: Lab, state: Path) -> Connection:
    from labkit.twin.client import join_twin  # noqa: PLC0415  # only a rehearsal needs the twin

    twin = join_twin(state)
    if twin.lab != lab.name:
        raise Refused(
            f"twin {state}: expected the twin of lab {lab.name}, got one of {twin.lab}",
            next_step=f"unset {TWIN_VARIABLE}, or `labkit twin up --lab` with this lab's file",
        )
    return _of_twin(twin)


def _start(lab_file: Path, scenario: str) -> Connection:
    from labkit.twin.client import start_twin  # noqa: PLC0415  # only a rehearsal needs the twin

    twin = start_twin(lab_file, scenario=scenario, parent=os.getpid())
    return _of_twin(twin, close=lambda: twin.stop(remove=True))


@contextmanager
def open_twin(
    lab_file: Path,
    *,
    scenario: str = "empty",
    faults: Sequence[str] = (),
    seed: int = 1,
    scale: float | None = None,
    repo: str = "",
    repo_branch: str = "",
    age_key: str = "",
    warn: Callable[[str], None] = lambda _text: None,
) -> Iterator[Path]:
    """Keep a twin for the time of the block, for runs that follow each other on it; yields its state folder."""
    from labkit.twin.client import DEFAULT_SCALE, start_twin  # noqa: PLC0415  # only a rehearsal needs the twin

    twin = start_twin(
        lab_file,
        scenario=scenario,
        faults=faults,
        seed=seed,
        scale=DEFAULT_SCALE if scale is None else scale,
        parent=os.getpid(),
        repo=repo,
        repo_branch=repo_branch,
        age_key=owner_age_key(age_key),
    )
    if said := say_unreadable(twin.unreadable):
        warn(said)
    try:
        yield twin.state
    finally:
        twin.stop(remove=True)


def split_faults(lab: Lab, faults: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell the faults that a rehearsal begins with from those that come with the loss of everything.

    Those that concern only backups and restores come late by themselves, any other one when it is written `loss/NAME`.

    Raises:
        InputError: there is no such fault, or it is aimed at what the lab has not.
    """
    from labkit.twin.faults import LATE, parse_fault  # noqa: PLC0415  # only a rehearsal needs the twin
    from labkit.twin.targets import check_faults  # noqa: PLC0415

    late = [text for text in faults if text.startswith(_LATE) or parse_fault(text).fault.name in LATE]
    plain = [text.removeprefix(_LATE) for text in late]
    check_faults(lab, plain)
    return [text for text in faults if text not in late], plain


def ask_twin(state: Path, action: str, **given: Any) -> Any:
    """Have the twin of a state folder do something that no real lab does: write data, be destroyed, tell the past."""
    from labkit.twin.client import join_twin  # noqa: PLC0415  # only a rehearsal needs the twin

    return join_twin(state).ask(action, **given)


def owner_age_key(ref: str) -> str:
    """Return the text of the age key that a reference names, for a twin of the owner's own repository; "" for none.

    Raises:
        InputError: the reference leads to nothing, or to something else.
    """
    if not ref:
        return ""
    text = Secrets().resolve(ref)
    try:
        public_keys(text)
    except InputError as exc:
        got = "none that age can read"
        raise InputError([Mistake("--age-key", 0, 0, "", f"a line AGE-SECRET-KEY-1... at {ref}", got)]) from exc
    return text


def say_unreadable(files: Sequence[str]) -> str:
    """Say that a twin's age key does not open files of its repository, and what helps; "" when it opens all."""
    if not files:
        return ""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return (
        f"{files[0]}{more}: encrypted for another age key than the twin's, so that bootstrap-flux will refuse what "
        "Flux applies of it; give the twin yours, such as --age-key file:~/.config/sops/age/keys.txt"
    )


def _of_twin(twin: object, close: Callable[[], None] = lambda: None) -> Connection:
    from labkit.twin.client import TwinHandle  # noqa: PLC0415  # only a rehearsal needs the twin

    assert isinstance(twin, TwinHandle)  # noqa: S101  # narrows the type that the lazy import hides
    state = twin.state / "labkit"
    state.mkdir(exist_ok=True, mode=0o700)
    access = Access(
        on="twin",
        secrets=Secrets(overrides=twin.secrets),
        state=state,
        clock=Clock(twin.scale),
        connect_file=twin.connect_file,
        closed=True,
        trust={name: Tls(ca=trust["ca"]) for name, trust in twin.trust.items()},
        mounts={url: Path(folder) for url, folder in twin.exports.items()},
    )
    return Connection(access, close, lambda: dict(twin.status()["writes"]))
