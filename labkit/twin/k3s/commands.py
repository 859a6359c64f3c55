"""The commands that k3s brings to a guest: k3s, kubectl, and the scripts that stop or remove it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from labkit.twin.guests.changes import note_change
from labkit.twin.guests.commands.registry import Run, command, script
from labkit.twin.guests.result import Result, complain, say
from labkit.twin.k3s import places
from labkit.twin.k3s.cluster import Cluster
from labkit.twin.k3s.errors import Fatal, log_line
from labkit.twin.k3s.host import Host
from labkit.twin.k3s.hosts import host_of
from labkit.twin.k3s.places import UNITS
from labkit.twin.k3s.reset import reset_cluster
from labkit.twin.k3s.server import Server
from labkit.twin.k3s.settings import Settings, read_settings
from labkit.twin.k3s.snapshots import (
    ON_DEMAND,
    delete_snapshot,
    folder_of,
    list_snapshots,
    prune_snapshots,
    save_snapshot,
    show_json,
    show_table,
)
from labkit.twin.kube.door import Object

_REMOVED = ("/etc/rancher/k3s", "/run/k3s", "/run/flannel", places.DATA, "/var/lib/kubelet")
_SCRIPTS = ("k3s-killall.sh", "k3s-uninstall.sh", "k3s-agent-uninstall.sh")


@command("k3s")
async def _k3s(run: Run) -> Result:
    host = host_of(run.guest)
    if host is None or not host.version:
        there = run.guest.files.exists(places.BINARY)
        text = (
            "/usr/local/bin/k3s: cannot execute binary file: Exec format error" if there else "k3s: command not found"
        )
        return complain(f"bash: line 1: {text}", 126 if there else 127)
    first, rest = (run.args[0], run.args[1:]) if run.args else ("--version", [])
    if first in {"--version", "-v"}:
        return say(f"k3s version {host.version} (148243c4)\ngo version go1.24.5")
    return await _subcommand(run, host, first, rest)


async def _subcommand(run: Run, host: Host, first: str, rest: list[str]) -> Result:
    actions: dict[str, Callable[[Host, list[str], Run], Awaitable[Result]]] = {
        "etcd-snapshot": _snapshot, "server": _server, "kubectl": _kubectl, "token": _token,
    }  # fmt: skip
    if first not in actions:
        return complain(f"No help topic for '{first}'", 3)
    if run.user != "root":
        return complain(log_line(run.guest.now(), "fatal", f"open {places.CONFIG}: permission denied"))
    try:
        return await actions[first](host, rest, run)
    except Fatal as exc:
        return complain(log_line(run.guest.now(), "fatal", str(exc)))


@command("kubectl")
async def _kubectl_link(run: Run) -> Result:
    host = host_of(run.guest)
    if host is None or not run.guest.files.exists("/usr/local/bin/kubectl"):
        return complain("bash: line 1: kubectl: command not found", 127)
    return await _kubectl(host, run.args, run)


async def _snapshot(host: Host, words: list[str], run: Run) -> Result:
    """Save, list, delete or prune snapshots on a server that runs."""
    action, rest = (words[0], words[1:]) if words and not words[0].startswith("-") else ("save", words)
    server, settings = _running_server(host), read_settings(run.guest.files, rest, {})
    stamp = run.guest.now()
    if action == "save":
        saved = save_snapshot(server, settings, settings.one("name", ON_DEMAND))
        note_change()
        await host.system.world.clock.sleep(host.system.pace.k3s_snapshot)
        return Result(0, b"", (log_line(stamp, "info", f"Snapshot {saved.name} saved.") + "\n").encode())
    if action in {"ls", "list", "l"}:
        return _list_snapshots(host, server, settings)
    if action == "delete":
        names = [word for word in rest if not word.startswith("-")]
        gone = [name for name in names if delete_snapshot(server, settings, name)]
        lines = [log_line(stamp, "info", f"Snapshot {name} deleted.") for name in gone]
        return Result(0 if gone else 1, b"", ("\n".join(lines) + "\n").encode())
    if action == "prune":
        keep = int(settings.one("snapshot-retention") or settings.one("etcd-snapshot-retention", "5"))
        pruned = prune_snapshots(server, settings, settings.one("name", ON_DEMAND), keep)
        lines = [log_line(stamp, "info", f"Snapshot {name} deleted.") for name in pruned]
        return Result(0, b"", "".join(f"{line}\n" for line in lines).encode())
    return complain(f"No help topic for '{action}'", 3)


def _list_snapshots(host: Host, server: Server, settings: Settings) -> Result:
    found = list_snapshots(host.guest, folder_of(settings))
    form = settings.one("output") or settings.one("o", "table")
    if form == "json" and server.cluster is not None:
        return say(show_json(found, server.name, server.cluster))
    return say(show_table(found))


def _running_server(host: Host) -> Server:
    if not isinstance(host.run, Server) or not host.serves:
        raise Fatal('Error: see server log for details: Post "https://127.0.0.1:6443/db/snapshot": '
                    "dial tcp 127.0.0.1:6443: connect: connection refused")  # fmt: skip
    return host.run


async def _server(host: Host, words: list[str], run: Run) -> Result:
    """Run `k3s server --cluster-reset`; a server in the foreground has no place in a shell of the twin."""
    settings = host.settings("server", *words)
    if not settings.on("cluster-reset"):
        return complain("k3s: expected --cluster-reset: start a server with systemctl", 1)
    note_change()
    await host.system.world.clock.sleep(host.system.pace.k3s_snapshot)
    text = reset_cluster(host, settings)
    return Result(0, b"", (log_line(run.guest.now(), "info", text) + "\n").encode())


async def _token(host: Host, words: list[str], run: Run) -> Result:
    """Answer `k3s token list`: there are no bootstrap tokens beside the cluster's own."""
    if words[:1] == ["generate"]:
        return say(host.system.world.seed.hex("bootstrap token", run.guest.name, length=22))
    _running_server(host)
    return say("TOKEN     TTL       EXPIRES   USAGES    DESCRIPTION   EXTRA GROUPS")


async def _kubectl(host: Host, words: list[str], run: Run) -> Result:
    """Answer the few questions that are asked on a guest; everything else goes through the API."""
    if run.user != "root" and not _may_read(run, places.KUBECONFIG):
        path = places.KUBECONFIG
        return complain(f'error: error loading config file "{path}": open {path}: permission denied')
    if not host.serves:
        text = "The connection to the server 127.0.0.1:6443 was refused"
        return complain(f"{text} - did you specify the right host or port?")
    if not host.cluster_now.serves:
        return complain("Error from server: etcdserver: request timed out")
    return _ask_cluster(host.cluster_now, words)


def _ask_cluster(cluster: Cluster, words: list[str]) -> Result:
    plain = [word for word in words if not word.startswith("-")]
    form = next((word.partition("=")[2] for word in words if word.startswith(("-o=", "--output="))), "")
    form = words[words.index("-o") + 1] if "-o" in words[:-1] else form
    match plain:
        case ["get", "nodes" | "node" | "no", *_]:
            return say(_show_nodes(cluster.api.list("nodes"), form))
        case ["get", "/readyz" | "/livez" | "/healthz"] if "--raw" in words:
            return say("ok")
        case ["delete", "nodes" | "node" | "no", name, *_]:
            if cluster.api.get("nodes", name) is None:
                return complain(f'Error from server (NotFound): nodes "{name}" not found')
            cluster.api.delete("nodes", name)
            note_change()
            return say(f'node "{name}" deleted')
        case _:
            return complain(f'error: unknown command "{" ".join(words)}" for "kubectl" on a guest of the twin')


def _show_nodes(items: list[Object], form: str) -> str:
    if form == "json":
        return json.dumps({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {}})
    names = [item["metadata"]["name"] for item in items]
    return "\n".join(f"node/{name}" if form == "name" else name for name in names)


def _may_read(run: Run, path: str) -> bool:
    try:
        run.guest.files.read(path, run.user)
    except OSError:
        return False
    return True


@command(*_SCRIPTS)
async def _undo(run: Run) -> Result:
    host = host_of(run.guest)
    if host is None or not run.guest.files.exists(f"/usr/local/bin/{run.name}"):
        return complain(f"bash: line 1: {run.name}: command not found", 127)
    await kill_all(host)
    if run.name != "k3s-killall.sh":
        await uninstall(host)
    return Result()


@script(b"# labkit-twin: k3s-")
async def _undo_by_shell(run: Run) -> Result:
    name = next(name for name in _SCRIPTS if f"# labkit-twin: {name}\n".encode() in run.script)
    return await _undo(Run(run.guest, name, run.args, run.user, run.env))


async def kill_all(host: Host) -> None:
    """Stop k3s and the containers of all pods."""
    note_change()
    for role in UNITS:
        unit = host.guest.units.get(UNITS[role])
        if unit is not None and unit.state in {"active", "activating"}:
            await host.guest.units.stop(unit)
    host.kill_pods()


async def uninstall(host: Host) -> None:
    """Remove everything of k3s but the password of the node."""
    files = host.guest.files
    gone = [*_REMOVED, *(f"/usr/local/bin/{name}" for name in ("k3s", "kubectl", "crictl", "ctr", *_SCRIPTS))]
    gone += [f"/etc/systemd/system/{name}.service{end}" for name in UNITS.values() for end in ("", ".env")]
    for path in gone:
        if files.locate(path, follow=False).is_symlink() or files.exists(path):
            files.remove(path, recursive=True)
    host.follow_units()
