"""Wait until a VM that was started is really there: agent, address, SSH, cloud-init."""

from __future__ import annotations

from labkit.errors import LabError
from labkit.lab import Machine
from labkit.systems import ssh
from labkit.systems.proxmox.agent import read_addresses
from labkit.systems.proxmox.hostkeys import store_key
from labkit.systems.proxmox.job import Job

AGENT_DEADLINE, AGENT_LEAST = 300.0, 15.0
SSH_DEADLINE = 120.0
CLOUD_INIT_DEADLINE = 900.0
NEARLY = 0.9  # of the time that the last VM took to boot
CLOUD_INIT = ("cloud-init", "status", "--wait", "--long")
DONE, DEGRADED = 0, 2
"""Exit statuses of cloud-init: 2 is an end with errors that it recovered from."""


def wait_until_ready(job: Job, machine: Machine, *, just_started: bool) -> None:
    """Wait until a running VM has its address, is known by its SSH host key, and cloud-init is done.

    Args:
        job: says where the VM is.
        machine: what it is to be.
        just_started: whether it boots now, so that there is little to ask until it may be up.

    Raises:
        StepFailed: with what was seen last and the likely causes.
    """
    job.step.say("waits for the guest agent")
    began = job.access.clock.monotonic()
    if just_started:
        job.access.clock.sleep(NEARLY * job.session.boot)
    up = 0.0 if just_started else float(job.current().get("uptime") or 0)
    wait_for_address(job, machine, deadline=max(AGENT_DEADLINE - up, AGENT_LEAST))
    if just_started:
        job.session.boot = job.access.clock.monotonic() - began
    with _connect(job, machine) as shell:
        job.step.say("waits for cloud-init")
        done = shell.run(CLOUD_INIT, timeout=CLOUD_INIT_DEADLINE, check=False)
    text = done.text.strip()
    if done.status == DEGRADED:
        job.step.say(f"warning: cloud-init recovered from errors: {_detail(text)}")
    elif done.status != DONE:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise job.fail(
            "cloud-init done",
            _detail(text) or said or f"exit status {done.status}",
            f"see /var/log/cloud-init-output.log on {machine.name} ({machine.address}); "
            "a VM that holds no data yet may be deleted in Proxmox and made again",
        )


def wait_for_address(job: Job, machine: Machine, *, deadline: float = AGENT_DEADLINE) -> None:
    """Wait until the guest agent answers and names the address that was asked for."""
    seen: list[str] = []

    def probe() -> bool | None:
        addresses = read_addresses(job.client, job.path)
        seen[:] = ["no answer from the agent"] if addresses is None else addresses or ["no address yet"]
        return True if str(machine.address) in seen else None

    job.wait(
        probe,
        what=f"the guest agent answers with the address {machine.address}",
        deadline=deadline,
        every=1.0,
        last=lambda: ", ".join(seen) or "nothing",
        causes="look at the VM's console. No answer: qemu-guest-agent is missing in the template, or the VM does "
        "not boot. Another address: its cloud-init drive is missing, or something else gives out addresses",
    )


def _connect(job: Job, machine: Machine) -> ssh.Shell:
    """Log in; the key is read again when it is another one, as cloud-init makes new ones at the first boot."""
    said: list[str] = []
    store_key(job, machine)

    def probe() -> ssh.Shell | None:
        try:
            return ssh.connect(job.lab, job.access, machine)
        except ssh.HostKeyChanged as exc:
            said[:] = [exc.message]
            store_key(job, machine)
        except LabError as exc:
            said[:] = [exc.message]
        return None

    return job.wait(
        probe,
        what=f"log in by SSH as {job.lab.guests.user}",
        deadline=SSH_DEADLINE,
        last=lambda: said[0] if said else "nothing",
        causes="look at the VM's console: does sshd run, did cloud-init make the user with labkit's key? Another "
        "host key: does another machine answer at that address?",
    )


def _detail(text: str) -> str:
    """The telling lines of what cloud-init says: everything but the boot statistics."""
    dull = ("boot_status_code", "last_update", "extended_status")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(dull))
