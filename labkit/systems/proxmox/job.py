"""One change of one VM while it is carried out: where the VM is, how to read it, and how to write to it safely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from labkit.errors import LabError, StepFailed
from labkit.facts.proxmox import VmConfig, VmRow
from labkit.lab import Lab
from labkit.systems.access import Access, Step
from labkit.systems.proxmox.client import Client
from labkit.systems.proxmox.errors import ProxmoxError, Trouble, explain
from labkit.systems.proxmox.rows import parse_pending
from labkit.systems.proxmox.session import Session, session_of
from labkit.systems.retry import retry

T = TypeVar("T")

WRITE_DEADLINE = 180.0  # lab seconds that a write is tried again while something else holds a lock
TASK_DEADLINE = 600.0  # lab seconds for a task that has no deadline of its own
LEAST = 5.0  # real seconds of any deadline, however fast the lab's time runs
SETTLE = 10.0  # lab seconds in which a call of unknown outcome may still take effect


class _AgainError(Exception):
    """The write did nothing, as far as can be seen: it may be sent again."""

    def __init__(self, error: ProxmoxError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Job:
    """One VM of the lab and the change that is being made to it.

    `node` and `vmid` say where it is; both are unset until it is found or made.
    """

    lab: Lab
    access: Access
    step: Step
    name: str
    session: Session
    node: str = ""
    vmid: int = 0

    @property
    def client(self) -> Client:
        """Calls with the token that writes."""
        return self.session.writer

    @property
    def path(self) -> str:
        """The path of the VM in the API."""
        return f"nodes/{self.node}/qemu/{self.vmid}"

    def at(self, vm: VmRow) -> Job:
        """Remember where the VM is."""
        self.node, self.vmid = vm.node, vm.vmid
        return self

    def config(self) -> VmConfig:
        """Read the VM's configuration with what is pending."""
        return self.read(lambda: parse_pending(self.client.get(f"{self.path}/pending")), "reading its configuration")

    def status(self) -> str:
        """Read whether the VM runs: `running`, `stopped`."""
        return str(self.current()["status"])

    def current(self) -> dict[str, Any]:
        """Read the VM's present state: status, lock, uptime."""
        return self.read(lambda: dict(self.client.get(f"{self.path}/status/current")), "reading its state")

    def read(self, ask: Callable[[], T], doing: str) -> T:
        """Read something; what Proxmox refuses is explained."""
        try:
            return ask()
        except ProxmoxError as exc:
            raise explain(exc, f"VM {self.name}: {doing}") from exc

    def write(
        self,
        doing: str,
        call: Callable[[], Any],
        *,
        is_done: Callable[[], bool],
        deadline: float = TASK_DEADLINE,
        passing: tuple[Trouble, ...] = (),
        patience: float = WRITE_DEADLINE,
    ) -> None:
        """Send a write until it has taken effect, and wait for its task.

        A lock is waited for; when the outcome is unknown, `is_done` looks before anything is sent again.

        Args:
            doing: what is being done, for people: `starting it`.
            call: sends the write; returns a task id, or nothing when all is done at once.
            is_done: whether the effect is there, read now.
            deadline: lab seconds for the task.
            passing: refusals that are raised as they are, for the caller to handle.
            patience: lab seconds that a lock, or an operation that holds the VM, is waited for; 0 for not at all.

        Raises:
            StepFailed: it was refused, the task failed, or a lock stayed.
            SystemDown: Proxmox or the host does not answer.
        """
        what = f"VM {self.name}: {doing}"
        try:
            retry(
                lambda: self._once(what, call, is_done, deadline),
                on=_AgainError,
                clock=self.access.clock,
                deadline=self.stretch(patience),
                pause=2.0,
                attempts=None if patience else 1,
            )
        except _AgainError as exc:
            raise explain(exc.error, what) from exc.error
        except ProxmoxError as exc:
            if exc.trouble in passing:
                raise
            raise explain(exc, what) from exc

    def _once(self, what: str, call: Callable[[], Any], is_done: Callable[[], bool], deadline: float) -> None:
        try:
            answer = call()
            if isinstance(answer, str) and answer.startswith("UPID:"):
                end = self.session.tasks.wait(answer, what=what, deadline=self.stretch(deadline))
                for warning in end.warnings:
                    self.step.say(f"warning: {warning}", upid=answer)
        except ProxmoxError as exc:
            if exc.trouble in (Trouble.BUSY, Trouble.LOCKED):
                self.step.say(f"waits: {exc.reason}")
                raise _AgainError(exc) from exc
            if exc.trouble is Trouble.UNKNOWN:
                self.step.say(f"looks what became of it: {exc.reason}")
                if self._settles(is_done, exc):
                    return
                raise _AgainError(exc) from exc
            raise

    def _settles(self, is_done: Callable[[], bool], exc: ProxmoxError) -> bool:
        """Whether a call of unknown outcome has taken effect; one that may still go on gets some time."""
        if is_done():
            return True
        if "upid" in exc.reason or "worker" in exc.reason:
            return False  # its process never started
        end = self.access.clock.monotonic() + SETTLE
        while self.access.clock.monotonic() < end:
            self.access.clock.sleep(2.0)
            if is_done():
                return True
        return False

    def wait(self, probe: Callable[[], T | None], **options: Any) -> T:
        """Wait as `Access.wait` does; a lock or a host that is away for a moment does not end it."""

        def ask() -> T | None:
            try:
                return probe()
            except ProxmoxError as exc:
                if exc.trouble in (Trouble.BUSY, Trouble.LOCKED, Trouble.UNKNOWN):
                    return None
                raise explain(exc, f"VM {self.name}: {options['what']}") from exc

        what, deadline = f"VM {self.name}: {options['what']}", self.stretch(options["deadline"])
        return self.access.wait(ask, **{**options, "what": what, "deadline": deadline})

    def stretch(self, seconds: float) -> float:
        """Return lab seconds that are never less than a few real ones: a busy machine is no fault of the lab."""
        return max(seconds, LEAST / self.access.clock.scale)

    def fail(self, expected: str, got: str, next_step: str) -> LabError:
        """Make the error of a step that did not succeed."""
        return StepFailed(f"VM {self.name}: expected {expected}, got {got}", next_step=next_step)


def new_job(lab: Lab, access: Access, step: Step, name: str) -> Job:
    """Begin a change of one VM."""
    return Job(lab, access, step, name, session_of(lab, access))


def find_vm(job: Job, rows: tuple[VmRow, ...] | None = None) -> VmRow | None:
    """Look for the VM by name, anywhere in the cluster; a clone that died counts only when there is no other.

    Raises:
        StepFailed: there are two of that name.
    """
    rows = list_vms(job) if rows is None else rows
    found = [vm for vm in rows if vm.name == job.name and not vm.template]
    alive = [vm for vm in found if vm.lock != "clone"] or found[:1]
    if len(alive) > 1:
        names = ", ".join(str(vm) for vm in alive)
        raise job.fail("one VM of that name", names, "rename or remove all but one, then run again")
    return alive[0] if alive else None


def list_vms(job: Job) -> tuple[VmRow, ...]:
    """Read all guests of the cluster."""
    return job.read(job.session.list_vms, "looking for it")
