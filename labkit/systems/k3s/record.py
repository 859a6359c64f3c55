"""What labkit notes on the servers about a restore of etcd, so that any later run goes on with it.

The server that etcd begins anew on has the record; the others have a mark. No secret is in either.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from labkit.errors import StepFailed
from labkit.facts.etcd import ObjectRow, Restore
from labkit.systems.guests import RESTORE
from labkit.systems.ssh import Shell

_FOLDER = "/var/lib/labkit"
_RESTORED, _STOPPED, _REJOINED = "restored", "stopped", "rejoined"


def read_note(shell: Shell) -> dict[str, Any]:
    """Return what stands on a server, {} when nothing does."""
    done = shell.run(("cat", "--", RESTORE), sudo=True, check=False)
    if done.status != 0:
        return {}
    try:
        note = json.loads(done.text)
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def parse_record(note: dict[str, Any]) -> Restore | None:
    """Return the record in a note; None when it is a mark, or another version's."""
    if note.get("role") != _RESTORED:
        return None
    fields = {key: value for key, value in note.items() if key in Restore.model_fields}
    try:
        return Restore.model_validate(fields)
    except ValueError:
        return None


def parse_mark(note: dict[str, Any]) -> str:
    """Return the id of the restore for which a server's old data was set aside; empty when it was not."""
    return str(note.get("id") or "") if note.get("role") == _REJOINED else ""


def need_record(shell: Shell) -> Restore:
    """Return the record of the server that etcd begins anew on.

    Raises:
        StepFailed: there is none.
    """
    record = parse_record(read_note(shell))
    if record is None:
        raise StepFailed(f"{shell.name}: expected the record of a restore in {RESTORE}, got none",
                         next_step="run restore-etcd again: it begins with that")  # fmt: skip
    return record


def write_record(shell: Shell, record: Restore) -> Restore:
    """Note how a restore stands; return it."""
    _write(shell, RESTORE, {"role": _RESTORED, **record.model_dump(mode="json")})
    return record


def mark_stopped(shell: Shell, ident: str) -> None:
    """Note on a server that a restore has stopped it: nobody else is to start its old data."""
    _write(shell, RESTORE, {"role": _STOPPED, "id": ident})


def mark_aside(shell: Shell, ident: str) -> None:
    """Note on a server that its old data was set aside: what comes from now on is new."""
    _write(shell, RESTORE, {"role": _REJOINED, "id": ident})


def write_before(shell: Shell, ident: str, rows: tuple[ObjectRow, ...]) -> None:
    """Keep what was in the API before a restore."""
    _write(shell, _before(ident), [row.model_dump(mode="json") for row in rows])


def read_before(shell: Shell, ident: str) -> tuple[ObjectRow, ...] | None:
    """Return what was in the API before a restore; None when it did not answer then."""
    done = shell.run(("cat", "--", _before(ident)), sudo=True, check=False)
    if done.status != 0:
        return None
    try:
        return tuple(ObjectRow.model_validate(row) for row in json.loads(done.text))
    except (ValueError, TypeError):
        return None


def new_id(clock: float) -> str:
    """Return the name of a restore that begins now, by a server's clock."""
    return datetime.fromtimestamp(clock, UTC).strftime("%Y%m%dT%H%M%SZ")


def _before(ident: str) -> str:
    return f"{_FOLDER}/etcd-before-{ident}.json"


def _write(shell: Shell, path: str, content: Any) -> None:
    shell.run(("install", "-d", "-m", "0700", _FOLDER), sudo=True)
    shell.write_file(path, json.dumps(content).encode(), mode=0o600)
