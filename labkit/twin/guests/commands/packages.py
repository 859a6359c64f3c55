"""Commands about packages, kernel modules and settings of the kernel."""

from __future__ import annotations

from labkit.twin.guests.changes import note_change
from labkit.twin.guests.commands.registry import Run, command
from labkit.twin.guests.result import Result, complain, say
from labkit.twin.guests.units import Unit

_UNITS = {
    "open-iscsi": "iscsid.service",
    "nfs-common": "rpc-statd.service",
    "qemu-guest-agent": "qemu-guest-agent.service",
}
_VERSION = "1.0-1ubuntu1"


@command("apt-get", "apt")
async def _apt(run: Run) -> Result:
    if not run.words:
        return complain("E: no command given")
    action, *names = run.operands("-o")
    if run.user != "root":
        return complain("E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)", 100)
    if action == "install":
        return _install(run, names)
    if action in {"remove", "purge"}:
        for name in names:
            run.guest.packages.pop(name, None)
        note_change()
    return say("Reading package lists...")


def _install(run: Run, names: list[str]) -> Result:
    new = [name for name in names if name not in run.guest.packages]
    for name in new:
        run.guest.packages[name] = _VERSION
        if unit := _UNITS.get(name):
            run.guest.units.add(Unit(unit, name, state="active"))
    if new:
        note_change()
    done = [f"Setting up {name} ({_VERSION}) ..." for name in new]
    return say("\n".join(["Reading package lists...", *done, f"0 upgraded, {len(new)} newly installed, 0 to remove."]))


@command("dpkg-query", "dpkg")
async def _dpkg_query(run: Run) -> Result:
    form = run.value("-f", "--showformat", default="${Package}\t${Version}\n").replace("\\n", "\n").replace("\\t", "\t")
    names = run.operands("-f", "--showformat") or sorted(run.guest.packages)
    out, err = [], []
    for name in names:
        version = run.guest.packages.get(name)
        if version is None:
            err.append(f"dpkg-query: no packages found matching {name}\n")
            continue
        values = {"${Package}": name, "${Version}": version, "${Status}": "install ok installed",
                  "${db:Status-Status}": "installed", "${Architecture}": "amd64"}  # fmt: skip
        text = form
        for key, value in values.items():
            text = text.replace(key, value)
        out.append(text)
    return Result(1 if err else 0, "".join(out).encode(), "".join(err).encode())


@command("lsmod")
async def _lsmod(run: Run) -> Result:
    lines = ["Module                  Size  Used by", *(f"{name:<22} 16384  0" for name in sorted(run.guest.modules))]
    return say("\n".join(lines))


@command("modprobe")
async def _modprobe(run: Run) -> Result:
    if run.user != "root":
        return complain(f"modprobe: ERROR: could not insert '{run.words[0]}': Operation not permitted")
    new = {name.replace("-", "_") for name in run.words} - run.guest.modules
    if new and not run.has("-n", "--dry-run"):
        run.guest.modules |= new
        note_change()
    return Result()


@command("sysctl")
async def _sysctl(run: Run) -> Result:
    words = [word.replace(" ", "") for word in run.words]
    for word in words:
        if "=" in word:
            name, _, value = word.partition("=")
            run.guest.sysctl[name] = value
            note_change()
    lines = [f"{name} = {run.guest.sysctl.get(name, '0')}" for name in (word.partition("=")[0] for word in words)]
    return say("\n".join(line.partition(" = ")[2] for line in lines) if run.has("-n") else "\n".join(lines))
