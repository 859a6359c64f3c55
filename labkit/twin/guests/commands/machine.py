"""Commands about the machine: names, time, processors, memory, disk, network, power."""

from __future__ import annotations

import ipaddress
import json
import re
from datetime import UTC, datetime

from labkit.twin.guests import system
from labkit.twin.guests.changes import note_change
from labkit.twin.guests.commands.registry import Run, command
from labkit.twin.guests.result import Result, complain, say

_FIELDS = {"%Y": "%Y", "%m": "%m", "%d": "%d", "%H": "%H", "%M": "%M", "%S": "%S", "%F": "%Y-%m-%d", "%T": "%H:%M:%S",
           "%Z": "UTC", "%z": "+0000"}  # fmt: skip


@command("hostname", "hostnamectl")
async def _hostname(run: Run) -> Result:
    domain = run.guest.settings.get("searchdomain", "")
    if run.has("-f", "--fqdn"):
        return say(f"{run.guest.hostname}.{domain}".rstrip("."))
    return say(run.guest.address if run.has("-I") else run.guest.hostname)


@command("uname")
async def _uname(run: Run) -> Result:
    parts = {"-s": "Linux", "-n": run.guest.hostname, "-r": system.KERNEL, "-m": system.MACHINE, "-o": "GNU/Linux"}
    wanted = [text for option, text in parts.items() if run.has(option, "-a")]
    return say(" ".join(wanted or ["Linux"]))


@command("arch")
async def _arch(_run: Run) -> Result:
    return say(system.MACHINE)


@command("date")
async def _date(run: Run) -> Result:
    now = run.guest.now()
    form = next((word[1:] for word in run.args if word.startswith("+")), "")
    moment = datetime.fromtimestamp(now, UTC)
    if not form:
        iso = run.has("-I", "--iso-8601")
        return say(moment.isoformat(timespec="seconds") if iso else moment.strftime("%c UTC"))

    def field(match: re.Match[str]) -> str:
        word = match[0]
        if word == "%s":
            return str(int(now))
        if word in {"%N", "%3N"}:
            nanoseconds = f"{now % 1:.9f}"[2:]
            return nanoseconds[:3] if word == "%3N" else nanoseconds
        return moment.strftime(_FIELDS.get(word, word))

    return say(re.sub(r"%3?[A-Za-z]", field, form))


@command("nproc")
async def _nproc(run: Run) -> Result:
    return say(str(run.guest.cores))


@command("free")
async def _free(run: Run) -> Result:
    unit = {"-b": 1, "-m": 1024**2, "-g": 1024**3}
    factor = next((size for option, size in unit.items() if run.has(option)), 1024)
    total = run.guest.memory * 1024 * 1024 * 97 // 100
    left = total * (100 - run.guest.condition.memory_percent) // 100
    row = [total, total - left, left * 3 // 4, 1024**2, left // 4, left]
    numbers = "".join(f"{value // factor:>12}" for value in row)
    head = "               total        used        free      shared  buff/cache   available"
    return say(f"{head}\nMem:    {numbers}\nSwap:              0           0           0")


@command("df")
async def _df(run: Run) -> Result:
    """Tell of the root file system, which holds everything: once for each path that is there."""
    unit = 1 if run.has("-B1") or "--block-size=1" in run.args or "-B1" in run.args else 1024
    figures, heads = _space(run, unit), _HEADS | {"size": "1B-blocks" if unit == 1 else "1K-blocks"}
    wanted = [name for name in run.value("--output").split(",") if name in figures]
    columns = wanted or ["source", "size", "used", "avail", "pcent", "target"]
    asked = run.operands("--output") or ["/"]
    missing = [word for word in asked if not run.guest.files.exists(run.path(word))]
    rows = [" ".join(figures[name] for name in columns) for word in asked if word not in missing]
    errors = "".join(f"df: {word}: No such file or directory\n" for word in missing)
    lines = [" ".join(heads[name] for name in columns), *rows] if rows else []
    return Result(1 if missing else 0, say("\n".join(lines)).out, errors.encode())


_HEADS = {"source": "Filesystem", "fstype": "Type", "used": "Used", "avail": "Available", "pcent": "Use%",
          "target": "Mounted on", "itotal": "Inodes", "iused": "IUsed", "iavail": "IFree",
          "ipcent": "IUse%"}  # fmt: skip


def _space(run: Run, unit: int) -> dict[str, str]:
    guest = run.guest
    size = guest.disk * 1024 * 1024 * 95 // 100
    share = guest.condition.disk_percent
    used = min(3 * 1024**3, size // 2) if share is None else size * share // 100
    used = size if guest.files.is_full() else used
    inodes = size // 16384
    taken = inodes * guest.condition.inode_percent // 100
    return {
        "source": "/dev/sda1", "fstype": "ext4", "size": str(size // unit), "used": str(used // unit),
        "avail": str((size - used) // unit), "target": "/", "pcent": f"{100 * used // max(size, 1)}%",
        "itotal": str(inodes), "iused": str(taken), "iavail": str(inodes - taken),
        "ipcent": f"{guest.condition.inode_percent}%",
    }  # fmt: skip


@command("findmnt")
async def _findmnt(run: Run) -> Result:
    """Tell of the root file system: `findmnt -no OPTIONS /`."""
    options = ("ro" if run.guest.condition.read_only else "rw") + ",relatime,discard,errors=remount-ro"
    values = {"TARGET": "/", "SOURCE": "/dev/sda1", "FSTYPE": "ext4", "OPTIONS": options}
    wanted = run.value("-no", "-o", "--output", default="TARGET,SOURCE,FSTYPE,OPTIONS").split(",")
    if run.operands("-no", "-o", "--output") not in ([], ["/"]):
        return Result(1)
    line = " ".join(values.get(name.upper(), "") for name in wanted)
    bare = any(word.startswith("-") and "n" in word for word in run.args)
    return say(line if bare else " ".join(wanted) + "\n" + line)


@command("uptime")
async def _uptime(run: Run) -> Result:
    if run.has("-s"):
        return say(datetime.fromtimestamp(run.guest.booted, UTC).strftime("%Y-%m-%d %H:%M:%S"))
    return say(f" up {int(system.uptime(run.guest) // 60)} min,  1 user,  load average: 0.08, 0.03, 0.01")


@command("whoami")
async def _whoami(run: Run) -> Result:
    return say(run.user)


@command("id")
async def _id(run: Run) -> Result:
    number = 0 if run.user == "root" else 1000
    if run.has("-u"):
        return say(run.user if run.has("-n") else str(number))
    return say(f"uid={number}({run.user}) gid={number}({run.user}) groups={number}({run.user})")


@command("ip")
async def _ip(run: Run) -> Result:
    words = run.words
    if not words or not any("address".startswith(word) for word in words[:1]):
        return complain(f'Object "{words[0] if words else ""}" is unknown, try "ip help".')
    cards = [_card(number, card) for number, card in enumerate(run.guest.interfaces(), 1)]
    if run.has("-j", "-json", "--json"):
        return say(json.dumps(cards))
    lines = []
    for card in cards:
        lines.append(f"{card['ifindex']}: {card['ifname']}: <UP> mtu 1500 state UP")
        lines += [f"    {info['family']} {info['local']}/{info['prefixlen']} scope {info['scope']}"
                  for info in card["addr_info"]]  # type: ignore[attr-defined]  # built below  # fmt: skip
    return say("\n".join(lines))


@command("ss")
async def _ss(run: Run) -> Result:
    lines = [f"LISTEN 0      4096   {address:>15}:{port:<6}      0.0.0.0:*"
             for port, address in sorted(run.guest.listening.items())]  # fmt: skip
    if not run.has("-H"):
        lines.insert(0, "State  Recv-Q Send-Q  Local Address:Port   Peer Address:Port")
    return say("\n".join(lines))


@command("swapon")
async def _swapon(_run: Run) -> Result:
    return Result()


@command("timedatectl")
async def _timedatectl(run: Run) -> Result:
    synchronized = "no" if run.guest.clock_offset else "yes"
    if run.words[:1] == ["show"]:
        name = run.value("-p", "--property", default="NTPSynchronized")
        return say(synchronized if run.has("--value") else f"{name}={synchronized}")
    return say(f"System clock synchronized: {synchronized}\nNTP service: active")


@command("reboot", "poweroff", "halt", "shutdown")
async def _power(run: Run) -> Result:
    if run.user != "root":
        return complain("Call to Reboot failed: Interactive authentication required.")
    note_change()
    again = run.name == "reboot" or (run.name == "shutdown" and run.has("-r", "--reboot"))
    (run.guest.on_reboot if again else run.guest.on_power_off)(run.guest)
    return Result()


@command("cloud-init")
async def _cloud_init(run: Run) -> Result:
    state = run.guest.cloud_init
    if run.words[:1] != ["status"]:
        return complain(f"cloud-init: error: argument subcommand: invalid choice: {run.words[:1]}", 2)
    if run.has("--wait", "-w"):
        await state.finished.wait()
    errors = list(state.errors)
    if run.value("--format", default="") == "json":
        return Result(1 if errors else 0, (json.dumps(_cloud_init_json(run)) + "\n").encode())
    text = f"status: {state.status}"
    if run.has("--long", "-l"):
        text += "\nextended_status: " + ("error - " if errors else "") + state.status + f"\nerrors: {errors}"
    return say(text, 1 if errors else 0)


def _cloud_init_json(run: Run) -> dict[str, object]:
    state = run.guest.cloud_init
    return {
        "status": state.status, "extended_status": state.status, "boot_status_code": "enabled-by-generator",
        "datasource": "nocloud", "detail": "DataSourceNoCloud [seed=/dev/sr0]", "errors": list(state.errors),
        "recoverable_errors": {}, "last_update": datetime.fromtimestamp(run.guest.now(), UTC).isoformat(),
    }  # fmt: skip


def _card(number: int, card: dict[str, object]) -> dict[str, object]:
    infos = []
    for entry in card["ip-addresses"]:  # type: ignore[attr-defined]  # a list, by our own making
        address = ipaddress.ip_address(entry["ip-address"])
        scope = "host" if address.is_loopback else "link" if address.is_link_local else "global"
        infos.append({"family": "inet" if address.version == 4 else "inet6", "local": str(address),
                      "prefixlen": entry["prefix"], "scope": scope})  # fmt: skip
    return {"ifindex": number, "ifname": card["name"], "mtu": 1500, "operstate": "UP",
            "address": card["hardware-address"], "addr_info": infos}  # fmt: skip
