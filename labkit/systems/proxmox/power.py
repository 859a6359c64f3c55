"""Start, stop and restart a VM; success is the state that was read back."""

from __future__ import annotations

from labkit.systems.proxmox.errors import ProxmoxError
from labkit.systems.proxmox.job import Job

POWER_DEADLINE = 180.0
STOP_TIMEOUT = 90  # seconds that a guest gets to shut down


def start(job: Job) -> bool:
    """Start a VM, unless it runs; return whether it was started now."""
    if job.status() == "running":
        return False
    job.step.say("starts it")
    job.write(
        "starting it",
        lambda: job.client.post(f"{job.path}/status/start"),
        is_done=lambda: job.status() == "running",
    )
    _wait_for(job, "running", "see the start task's log in Proxmox; HA may hold it back")
    return True


def make_stopped(job: Job) -> None:
    """Stop a VM at once, unless it is stopped; only for one that holds no data, or is about to be deleted."""
    if job.status() == "stopped":
        return
    job.step.say("stops it")
    job.write(
        "stopping it",
        lambda: job.client.post(f"{job.path}/status/stop"),
        is_done=lambda: job.status() == "stopped",
    )
    _wait_for(job, "stopped", "see the stop task's log in Proxmox; HA may start it again")


def restart(job: Job) -> None:
    """Shut the guest down and start it again, so that it takes over what was pending."""
    before = int(job.current().get("uptime") or 0)
    began = job.access.clock.monotonic()
    job.step.say("restarts it")

    def has_restarted() -> bool:
        now = job.current()
        passed = job.access.clock.monotonic() - began
        return now["status"] == "running" and int(now.get("uptime") or 0) + 2 < before + passed

    job.write(
        "restarting it",
        lambda: job.client.post(f"{job.path}/status/reboot", timeout=STOP_TIMEOUT),
        is_done=has_restarted,
    )
    _wait_for(job, "running", "see the reboot task's log in Proxmox, then start it there")


def destroy(job: Job) -> None:
    """Delete a VM with its disks and its places in HA, backup and replication."""
    make_stopped(job)
    job.step.say("deletes it with its disks")
    job.write(
        "deleting it",
        lambda: job.client.delete(f"{job.path}", **{"purge": 1, "destroy-unreferenced-disks": 1}),
        is_done=lambda: is_gone(job),
    )
    if not is_gone(job):
        raise job.fail("it gone", f"VM {job.vmid} still on {job.node}", "see the task's log in Proxmox")


def is_gone(job: Job) -> bool:
    """Whether no guest has the VMID any more."""
    try:
        return all(vm.vmid != job.vmid for vm in job.session.list_vms())
    except ProxmoxError:
        return False


def _wait_for(job: Job, status: str, causes: str) -> None:
    """A task of HA only asks for a state: wait for the state itself."""
    seen: list[str] = []

    def probe() -> bool | None:
        seen[:] = [job.status()]
        return True if seen == [status] else None

    job.wait(probe, what=f"it is {status}", deadline=POWER_DEADLINE, every=1.0, last=lambda: seen[0], causes=causes)
