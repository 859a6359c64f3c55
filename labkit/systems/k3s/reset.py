"""`k3s server --cluster-reset`, as a unit of its own: it goes on when the login breaks, and its words stay."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from labkit.errors import StepFailed
from labkit.facts.diagnosis import Evidence, explain
from labkit.facts.etcd import LOCAL, Place, Restore
from labkit.lab import Lab, Machine
from labkit.plan import Change
from labkit.systems.access import Access, Step
from labkit.systems.guests import CONFIG, DATA, DATABASE, PROGRAM
from labkit.systems.k3s.etcd import UPLOADS, fetch, local_folder, snapshot_folder
from labkit.systems.k3s.snapshotfile import examine
from labkit.systems.ssh import Shell

_DONE = "cluster membership has been reset"
_DEADLINE = 900.0
"""Lab seconds: a database of some hundred MiB is written anew."""
_ENVIRONMENT = "/etc/systemd/system/k3s.service.env"


@dataclass(frozen=True)
class Site:
    """The server that etcd begins anew on, a login on it, and how far the restore has come."""

    lab: Lab
    access: Access
    machine: Machine
    shell: Shell
    record: Restore
    step: Step


def bring(site: Site, change: Change) -> str:
    """Return the path of the snapshot on the server, after bringing it there when it lies elsewhere.

    Raises:
        StepFailed: it is not there any more, or is another one than it was.
    """
    lab, access, shell, record = site.lab, site.access, site.shell, site.record
    own = f"{snapshot_folder(lab)}/{record.snapshot}"
    place = Place(where=str(change.after.get("at") or shell.name), path=str(change.after.get("path") or own))
    if place.where == shell.name:
        return place.path
    site.step.say(f"brings {record.snapshot} from {'this machine' if place.where == LOCAL else place.where}")
    data = fetch(lab, access, place)
    if problem := examine(data).problem:
        raise StepFailed(f"snapshot {record.snapshot}: expected a whole one, got: {problem}")
    if place.where != LOCAL:
        _keep(access, record.snapshot, data)
    target = f"{UPLOADS}/{record.snapshot}"
    shell.run(("install", "-d", "-m", "0700", UPLOADS), sudo=True)
    shell.write_file(target, data, mode=0o600)
    seen = shell.run(("sha256sum", "--", target), sudo=True).text.partition(" ")[0]
    if seen != hashlib.sha256(data).hexdigest():
        raise StepFailed(f"{shell.name}: expected {target} as it was sent, got another content",
                         next_step="look at the free room of its disk, then run again")  # fmt: skip
    return target


def _keep(access: Access, name: str, data: bytes) -> None:
    """Keep the copy that was fetched: it is not on a server."""
    folder = local_folder(access)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    path.touch(mode=0o600)
    path.write_bytes(data)


def reset(site: Site, path: str) -> None:
    """Let etcd begin anew with one member, once; `path` is the snapshot, empty to keep the data that is there.

    Raises:
        StepFailed: k3s refuses; names the cause.
    """
    shell, step, unit = site.shell, site.step, f"labkit-etcd-reset-{site.record.id}"
    _wait_for_end(site.access, shell, unit)
    if _DONE in _words(shell, unit):
        step.say("etcd was reset already")
        return
    if not path:
        _copy(shell, site.record, step)
    step.say("resets etcd to one member" + (f", from {path}" if path else ""))
    shell.run(("systemctl", "reset-failed", unit), sudo=True, check=False)
    command = [PROGRAM, "server", "--cluster-reset"]
    if path:
        command.append(f"--cluster-reset-restore-path={path}")
    if "etcd-s3" in site.lab.k3s.config:
        command.append("--etcd-s3=false")
    run = ("systemd-run", f"--unit={unit}", "--wait", "--quiet", f"--property=EnvironmentFile=-{_ENVIRONMENT}")
    done = shell.run((*run, *command), sudo=True, check=False, timeout=_DEADLINE)
    words = _words(shell, unit)
    if _DONE not in words:
        said = words or (done.text + done.stderr.decode("utf-8", "replace"))
        raise StepFailed(
            f"{shell.name}: expected etcd to be reset, got exit status {done.status}\n"
            f"{explain(shell.name, said, Evidence(unit='ended'))}",
            next_step=f"mend the cause (settings: {CONFIG}), then run again: nothing was lost, and it goes on",
        )


def _wait_for_end(access: Access, shell: Shell, unit: str) -> None:
    """Wait for the reset of an earlier run that still goes on."""

    def probe() -> bool | None:
        state = shell.run(("systemctl", "is-active", unit), check=False).text.strip()
        return None if state in ("active", "activating", "deactivating") else True

    access.wait(probe, what=f"{shell.name}: the end of {unit}", deadline=_DEADLINE,
                causes=f"look at `journalctl -u {unit}` there")  # fmt: skip


def _words(shell: Shell, unit: str) -> str:
    return shell.run(("journalctl", "-u", unit, "--no-pager", "-o", "cat"), sudo=True, check=False).text


def _copy(shell: Shell, record: Restore, step: Step) -> None:
    """Copy the database before it is reset: there may be no other one that is left."""
    aside = f"{DATA}/server/db-before-{record.id}"
    if shell.run(("test", "-d", aside), sudo=True, check=False).status == 0:
        return
    step.say(f"copies the database to {aside}")
    part = f"{aside}.part"
    shell.run(("rm", "-rf", "--", part), sudo=True)
    shell.run(("cp", "-a", "-T", "--", DATABASE, part), sudo=True, timeout=_DEADLINE)
    shell.run(("mv", "-T", "--", part, aside), sudo=True)
