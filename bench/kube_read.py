"""Read all pods and nodes once, in a process of its own: `python -m bench.kube_read labkit|typed FOLDER`.

It prints one line of JSON: the seconds, the peak memory of the process in MiB, and how many rows came. `labkit` reads
as the runbooks do, `typed` with the objects of the official client.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

HOST = "localhost"


def main() -> None:
    """Read in the named way, and print what it took."""
    way, folder = sys.argv[1], Path(sys.argv[2])
    server = json.loads((folder / "server.json").read_text())
    ask = {"labkit": _labkit, "typed": _typed}[way](folder, server)
    began = time.perf_counter()
    rows = ask()
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": took, "mib": peak, "rows": rows}))


def _labkit(folder: Path, server: dict[str, Any]) -> Any:
    from labkit.systems.k3s.read import parse_node, parse_pod  # noqa: PLC0415  # each process imports its own

    cluster = connect(folder, server)

    def ask() -> int:
        nodes = [parse_node(item) for item in cluster.items("/api/v1/nodes")]
        table = cluster.table("/api/v1/pods")
        pods = [
            parse_pod(table.cell(row, "node"), table.cell(row, "status"), table.cell(row, "ready"), row.metadata, ())
            for row in table.rows
        ]
        return len(nodes) + len(pods)

    return ask


def connect(folder: Path, server: dict[str, Any]) -> Any:
    """Return labkit's own way to the API."""
    from labkit.secrets import Secrets  # noqa: PLC0415  # each process imports its own
    from labkit.systems.access import Access  # noqa: PLC0415  # each process imports its own
    from labkit.systems.kubernetes import PORT, Cluster, Credentials  # noqa: PLC0415  # each process imports its own

    place = {f"{HOST}:{PORT}": f"127.0.0.1:{server['port']}"}
    access = Access(on="twin", secrets=Secrets({}), state=folder, connect=place, closed=True)
    return Cluster(access, [HOST], Credentials(ca=(folder / "ca.pem").read_text(), token=server["token"]))


def _typed(folder: Path, server: dict[str, Any]) -> Any:
    from kubernetes.client import ApiClient, Configuration, CoreV1Api  # noqa: PLC0415  # each process imports its own

    configuration = Configuration(host=f"https://127.0.0.1:{server['port']}")
    configuration.ssl_ca_cert = str(folder / "ca.pem")
    configuration.api_key["authorization"] = f"Bearer {server['token']}"
    api = CoreV1Api(ApiClient(configuration))
    return lambda: len(api.list_pod_for_all_namespaces().items) + len(api.list_node().items)


if __name__ == "__main__":
    main()
