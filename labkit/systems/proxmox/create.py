"""Make one VM: clone, size, configure, start, and wait until it is really there."""

from __future__ import annotations

from labkit.errors import LabError, StepFailed
from labkit.facts.proxmox import VmConfig, VmRow
from labkit.lab import Machine
from labkit.lab.pveformat import boot_disk
from labkit.lab.vmconfig import (
    config_differences,
    describe_unfinished,
    is_half_made,
    render_vm_config,
)
from labkit.systems import ssh
from labkit.systems.proxmox.errors import ProxmoxError, Trouble
from labkit.systems.proxmox.guest import wait_until_ready
from labkit.systems.proxmox.job import Job, find_vm, list_vms
from labkit.systems.proxmox.power import destroy, make_stopped, start

CLONE_DEADLINE = 3600.0
TRIES = 20
CLONING = ("# qmclone temporary file", "qmclone temporary file")
"""What Proxmox itself writes into the notes while it clones."""


def create_vm(job: Job, machine: Machine) -> str:
    """Make a VM, or finish one that an ended run left half-made; return what was made.

    Raises:
        StepFailed: a step did not succeed; the VM is left, and the next run goes on with it.
    """
    rows = list_vms(job)
    template = _template(job, machine, rows)
    vm = find_vm(job, rows)
    if vm is not None and vm.lock == "clone":
        vm = _wait_for_clone(job, vm, template)
    if vm is None or not _finish_left(job, machine, vm):
        _clone(job, machine, template)
        _complete(job, machine)
    return f"VM {job.vmid} on {job.node}, {machine.address}"


def _finish_left(job: Job, machine: Machine, vm: VmRow) -> bool:
    """Finish a VM that was left half-made; when that does not succeed, remove it and return False."""
    job.step.say(f"goes on with {vm}, left half-made")
    job.at(vm)
    _check_unused(job)
    job.step.leave_lane()
    try:
        _complete(job, machine)
    except StepFailed as exc:
        job.step.say(f"makes it anew, as it holds no data: {exc.message}")
        _check_unused(job)
        destroy(job)
        return False
    return True


def _complete(job: Job, machine: Machine) -> None:
    """Everything after the clone; each step looks first, so that it goes on where another run ended."""
    key = ssh.public_key(job.lab, job.access)
    config = grow_disk(job, machine, job.config())
    _configure(job, machine, key, config)
    wait_until_ready(job, machine, just_started=start(job))
    _finish(job, machine, key)


def _clone(job: Job, machine: Machine, template: VmRow) -> None:
    """Clone on the host that holds the template: the task belongs to it."""
    job.node, job.vmid = machine.host, job.read(lambda: job.session.vmids.of(machine.name), "taking a VMID")
    options = {"name": machine.name, "full": 1, "storage": machine.storage}
    if job.lab.proxmox.pool:
        options["pool"] = job.lab.proxmox.pool
    for _ in range(TRIES):
        job.step.say(f"clones {template.name} as {job.vmid}", vmid=job.vmid)
        try:
            job.write(
                f"cloning {template.name} on {machine.host}",
                lambda: job.client.post(
                    f"nodes/{machine.host}/qemu/{template.vmid}/clone",
                    newid=job.vmid,
                    description=describe_unfinished(job.lab, machine.name),
                    **options,
                ),
                is_done=lambda: _ours(job) is not None,
                deadline=CLONE_DEADLINE,
                patience=CLONE_DEADLINE,
                passing=(Trouble.TAKEN,),
            )
        except ProxmoxError as exc:
            if _ours(job) is None:
                _take_another(job, machine, exc)
                continue
        job.step.leave_lane()  # the template is free again; what follows is this VM's alone
        vm = _ours(job)
        if vm is not None and (vm.lock != "clone" or _wait_for_clone(job, vm, template) is not None):
            return
        _take_another(job, machine, None)
    raise job.fail("a clone", f"none after {TRIES} tries", "see the tasks of the host in Proxmox, then run again")


def _take_another(job: Job, machine: Machine, exc: ProxmoxError | None) -> None:
    """Go on with the next VMID, unless the lab file asks for this one."""
    if machine.vmid is not None:
        raise job.fail(
            f"VMID {machine.vmid} free for it",
            exc.reason if exc else "a clone that died there",
            "give the VM another vmid in the lab file, or none",
        ) from exc
    before = job.vmid
    job.vmid = job.read(lambda: job.session.vmids.another(machine.name), "taking another VMID")
    job.step.say(f"VMID {before} is taken: goes on with {job.vmid}", vmid=job.vmid)


def _template(job: Job, machine: Machine, rows: tuple[VmRow, ...]) -> VmRow:
    found = [vm for vm in rows if vm.template and (vm.node, vm.name) == (machine.host, machine.template)]
    if len(found) != 1:
        got = ", ".join(str(vm) for vm in found) or "none"
        raise job.fail(f"one template {machine.template} on {machine.host}", got, "labkit run preflight")
    return found[0]


def _ours(job: Job) -> VmRow | None:
    """The VM with the VMID that was given out, when it is the clone that was asked for."""
    vm = next((vm for vm in list_vms(job) if vm.vmid == job.vmid), None)
    if vm is None or vm.node != job.node or vm.name not in (job.name, f"VM {vm.vmid}", ""):
        return None
    return vm if _is_unused(job.config()) else None


def _is_unused(config: VmConfig) -> bool:
    """Whether a VM is one that labkit has begun to make, so that it never held data."""
    return is_half_made(config.values) or config.values.get("description", "").strip() in CLONING


def _wait_for_clone(job: Job, vm: VmRow, template: VmRow) -> VmRow | None:
    """Wait while a clone goes on; return None when it has died and another one is to be made."""
    job.at(vm)
    running = job.read(
        lambda: job.session.tasks.running(vm.node, "qmclone", template.vmid), "looking for its clone task"
    )
    if running is not None:
        job.step.say(f"waits for the clone that goes on as {vm.vmid}", upid=running)
        try:
            job.session.tasks.wait(running, what=f"VM {job.name}: cloning", deadline=CLONE_DEADLINE)
        except ProxmoxError as exc:
            job.step.say(f"that clone failed: {exc.reason}")
    now = next((row for row in list_vms(job) if row.vmid == vm.vmid), None)
    if now is None:
        return None
    if now.lock != "clone":
        return now
    _remove_dead(job, now)
    return None


def _remove_dead(job: Job, vm: VmRow) -> None:
    """Remove a clone that died half-way; it never held data. Proxmox may leave that to root."""
    if not _is_unused(job.config()):
        raise job.fail("a clone that labkit began", f"{vm}, locked by a clone of somebody else", "look at its tasks")
    job.step.say(f"removes {vm}: its clone died half-way")
    try:
        job.write(
            "removing its dead clone",
            lambda: job.client.delete(f"nodes/{vm.node}/qemu/{vm.vmid}", purge=1),
            is_done=lambda: all(row.vmid != vm.vmid for row in list_vms(job)),
            patience=0,
        )
    except LabError as exc:
        command = f"qm unlock {vm.vmid} && qm destroy {vm.vmid}"
        job.step.say(f"warning: {vm} stays ({exc.message}); as root on {vm.node}: {command}")


def _check_unused(job: Job) -> None:
    if not _is_unused(job.config()):
        raise job.fail(
            "no VM of that name, or one left half-made",
            f"VM {job.vmid} on {job.node}, finished",
            "it was made meanwhile: run again",
        )


def grow_disk(job: Job, machine: Machine, config: VmConfig) -> VmConfig:
    """Grow the disk that the VM boots from; it is never shrunk. Return the configuration as it is then."""
    disk = boot_disk(config.values)
    if disk is None:
        raise job.fail("a disk to boot from", "none", f"look at the template {machine.template}: boot order, scsi0")
    key, size = disk
    if size >= machine.disk:
        return config
    job.step.say(f"grows {key} from {size} to {machine.disk} MiB")
    job.write(
        f"growing {key}",
        lambda: job.client.put(f"{job.path}/resize", disk=key, size=f"{machine.disk}M"),
        is_done=lambda: _disk_size(job.config()) >= machine.disk,
    )
    config = job.config()
    if _disk_size(config) < machine.disk:
        got = f"{_disk_size(config)} MiB"
        raise job.fail(f"{key} of {machine.disk} MiB", got, "see the task's log in Proxmox, then run again")
    return config


def _disk_size(config: VmConfig) -> int:
    disk = boot_disk(config.values)
    return disk[1] if disk else 0


def _configure(job: Job, machine: Machine, key: str, config: VmConfig) -> None:
    """Set everything but the notes: they say "being made" until the end."""
    wanted = render_vm_config(job.lab, machine, key)
    del wanted["description"]
    first_boot = {"ciupgrade": wanted["ciupgrade"]}
    if job.lab.guests.password is not None:
        first_boot["cipassword"] = job.access.secrets.resolve(job.lab.guests.password)
    differences = config_differences(wanted, config.values)
    if not differences and config.values.get("ciupgrade", "1") == wanted["ciupgrade"]:
        return
    make_stopped(job)  # one that was started by hand would take most of it over only later
    set_config(job, {name: value for name, (_, value) in differences.items()}, more=first_boot)


def set_config(job: Job, values: dict[str, str], more: dict[str, str] | None = None) -> VmConfig:
    """Write keys of the configuration, and return the configuration that was read back."""
    job.step.say(f"sets {', '.join(sorted({*values, *(more or {})}))}")
    job.write(
        "setting its configuration",
        lambda: job.client.put(f"{job.path}/config", **values, **(more or {})),
        is_done=lambda: not config_differences(values, job.config().wanted),
    )
    config = job.config()
    left = config_differences(values, config.wanted)
    if left:
        got = ", ".join(f"{name}={before or 'none'}" for name, (before, _) in left.items())
        raise job.fail(f"{', '.join(left)} as written", got, "somebody else may change it: run again")
    return config


def _finish(job: Job, machine: Machine, key: str) -> None:
    """Replace the notes: from here on the VM counts as made; then compare it as a whole."""
    wanted = render_vm_config(job.lab, machine, key)
    notes = job.config().values.get("description", "")
    config = set_config(job, {"description": config_differences(wanted, {"description": notes})["description"][1]})
    left = config_differences(wanted, config.values)
    if left:
        raise job.fail("its whole configuration", f"differences in {', '.join(left)}", "run again")
