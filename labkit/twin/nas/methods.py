"""The methods that the NAS answers, by release: what they need, and what they return."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labkit.twin.kube.door import Clock
from labkit.twin.nas.content import USER, Content, Row, date, make_snapshot
from labkit.twin.nas.errors import RpcError, call_error, invalid_params
from labkit.twin.nas.query import run_query
from labkit.twin.options import NasVersion

_FULL = {"25.04": "25.04.2.6", "25.10": "25.10.1"}
_API = {
    "25.04": ["v25.04.0", "v25.04.1", "v25.04.2"],
    "25.10": ["v25.04.0", "v25.04.1", "v25.04.2", "v25.10.0", "v25.10.1"],
}


@dataclass(frozen=True)
class Method:
    """One method: what it does with its parameters, and how it is to be called."""

    call: Callable[[list[Any]], Any]
    writes: bool = False
    job: bool = False
    public: bool = False
    """Whether it answers before login."""


class Methods:
    """The table of methods of one NAS."""

    def __init__(self, content: Content, version: NasVersion, host: str, clock: Clock) -> None:
        self.content = content
        self.version = version
        self._host = host
        self._clock = clock
        self._started = clock.now()
        self._numbers = itertools.count(1)
        self.table = self._common() | (self._old() if version == "25.04" else self._new())

    @property
    def api_versions(self) -> list[str]:
        """The versions of the API that this release serves."""
        return _API[self.version]

    def find(self, name: str) -> Method:
        """Return a method; raise RpcError (-32601)."""
        found = self.table.get(name)
        if found is None:
            raise RpcError(-32601, "Method does not exist", {
                "error": 22, "errname": "EINVAL", "reason": f"Method {name} not found", "extra": None, "trace": None,
            })  # fmt: skip
        return found

    def _common(self) -> dict[str, Method]:
        content = self.content
        rows: dict[str, Callable[[], list[Row]]] = {
            "pool.query": lambda: content.pools, "sharing.nfs.query": lambda: content.shares,
            "pool.snapshottask.query": lambda: content.snapshot_tasks,
            "replication.query": lambda: content.replications, "core.get_jobs": lambda: content.jobs,
            "pool.scrub.query": self._scrubs, "service.query": lambda: content.services,
            "api_key.query": lambda: content.keys,
        }  # fmt: skip
        found = {name: Method(_query(source)) for name, source in rows.items()}
        return found | {
            "core.ping": Method(lambda _: "pong", public=True), "core.get_methods": Method(self._list_methods),
            "system.info": Method(self._info), "system.version": Method(lambda _: _FULL[self.version]),
            "system.state": Method(lambda _: "READY"), "system.product_type": Method(lambda _: "COMMUNITY_EDITION"),
            "pool.dataset.query": Method(self._datasets), "disk.query": Method(self._disks),
            "alert.list": Method(lambda _: content.alerts), "alert.dismiss": Method(self._dismiss, writes=True),
            "disk.temperatures": Method(self._temperatures), "boot.get_state": Method(self._boot),
            "nfs.config": Method(self._nfs_config), "pool.dataset.snapshot_count": Method(self._snapshot_count),
            "pool.scrub.scrub": Method(self._scrub, writes=True, job=True),
            "replication.run": Method(self._replicate, writes=True, job=True),
        }  # fmt: skip

    def _old(self) -> dict[str, Method]:
        smart = {
            "smart.test.results": Method(self._smart_results),
            "smart.config": Method(lambda _: {"id": 1, "interval": 30, "powermode": "NEVER", "difference": 0}),
            "disk.smart_attributes": Method(lambda _: []),
        }
        return self._snapshot_methods("zfs.snapshot") | smart

    def _new(self) -> dict[str, Method]:
        return self._snapshot_methods("pool.snapshot")

    def _snapshot_methods(self, prefix: str) -> dict[str, Method]:
        return {
            f"{prefix}.query": Method(_query(lambda: self.content.snapshots)),
            f"{prefix}.create": Method(self._snapshot_create, writes=True),
            f"{prefix}.delete": Method(self._snapshot_delete, writes=True),
        }

    def begin_job(self, name: str, arguments: list[Any]) -> Row:
        """Enter a job that runs, and return it; `end_job` brings its result."""
        job = {
            "id": next(self._numbers), "method": name, "arguments": arguments, "state": "RUNNING", "result": None,
            "progress": {"percent": 0, "description": "", "extra": None}, "error": None, "exception": None,
            "exc_info": None, "abortable": False, "logs_path": None, "logs_excerpt": None, "time_finished": None,
            "time_started": date(self._clock.now()), "transient": False, "description": None, "message_ids": [],
            "credentials": {"type": "API_KEY", "data": {"username": USER}},
        }  # fmt: skip
        self.content.jobs.append(job)
        return job

    def end_job(self, job: Row, result: Any) -> None:
        """Finish a job well."""
        job |= {"state": "SUCCESS", "result": result, "time_finished": date(self._clock.now())}
        job["progress"] = {"percent": 100, "description": "", "extra": None}

    def _list_methods(self, _params: list[Any]) -> dict[str, Row]:
        return {
            name: {"description": "", "job": method.job, "filterable": name.endswith(".query"), "roles": [],
                   "item_method": False, "downloadable": False, "uploadable": False}
            for name, method in sorted(self.table.items())
        }  # fmt: skip

    def _info(self, _params: list[Any]) -> Row:
        up = self._clock.now() - self._started + 86400 * 12
        return {
            "version": _FULL[self.version], "hostname": self._host.partition(".")[0], "physmem": 67430051840,
            "model": "Intel(R) Core(TM) i3-12100", "cores": 8, "physical_cores": 4, "loadavg": [0.2, 0.2, 0.1],
            "uptime": "12 days, 0:00:00", "uptime_seconds": up, "system_serial": None, "system_product": None,
            "ecc_memory": True, "timezone": "Etc/UTC", "boottime": date(self._clock.now() - up),
            "datetime": date(self._clock.now()), "buildtime": date(self._started - 86400 * 40),
        }  # fmt: skip

    def _datasets(self, params: list[Any]) -> Any:
        """Query datasets; not flat, only the roots are listed, with their children inside."""
        filters, options = _arguments(params)
        extra = options.get("extra") or {}
        rows = self.content.datasets
        if extra.get("flat", True) is False:
            rows = [self._tree(row) for row in rows if "/" not in row["id"]]
        elif extra.get("retrieve_children", True):
            rows = [self._tree(row) for row in rows]
        chosen = extra.get("properties")
        if chosen is not None:
            known = {k for row in rows for k, v in row.items() if isinstance(v, dict) and "parsed" in v}
            rows = [{k: v for k, v in row.items() if k not in known or k in chosen} for row in rows]
        return run_query(rows, filters, options)

    def _tree(self, row: Row) -> Row:
        depth = row["id"].count("/") + 1
        inside = [one for one in self.content.datasets if one["id"].startswith(row["id"] + "/")]
        return {**row, "children": [self._tree(one) for one in inside if one["id"].count("/") == depth]}

    def _disks(self, params: list[Any]) -> Any:
        filters, options = _arguments(params)
        with_pools = (options.get("extra") or {}).get("pools")
        shown = [{key: value for key, value in row.items() if key != "temperature"} for row in self.content.disks]
        rows = [row if with_pools else {**row, "pool": None} for row in shown]
        return run_query(rows, filters, options)

    def _temperatures(self, params: list[Any]) -> dict[str, int | None]:
        names = params[0] if params else []
        return {
            row["name"]: row.get("temperature", 34) for row in self.content.disks if not names or row["name"] in names
        }

    def _scrubs(self) -> list[Row]:
        plan = {"minute": "0", "hour": "0", "dom": "*", "month": "*", "dow": "7"}
        return [{"id": p["id"], "pool": p["id"], "pool_name": p["name"], "threshold": 35, "enabled": True,
                 "description": "", "schedule": plan} for p in self.content.pools]  # fmt: skip

    def _nfs_config(self, _params: list[Any]) -> Row:
        return {"id": 1, "protocols": ["NFSV3", "NFSV4"], "servers": None, "bindip": [], "managed_nfsd": True,
                "v4_krb": False, "v4_domain": "", "allow_nonroot": False, "mountd_port": None}  # fmt: skip

    def _boot(self, _params: list[Any]) -> Row:
        return {"name": "boot-pool", "status": "ONLINE", "healthy": True, "warning": False, "scan": None}

    def _smart_results(self, params: list[Any]) -> Any:
        test = {"num": 1, "description": "Short offline", "status": "SUCCESS", "remaining": 0, "lifetime": 21034,
                "status_verbose": "Completed without error", "lba_of_first_error": None}  # fmt: skip
        rows = [{"disk": row["name"], "tests": [test], "current_test": None} for row in self.content.disks]
        return run_query(rows, *_arguments(params))

    def _snapshot_count(self, params: list[Any]) -> int:
        return sum(row["dataset"] == params[0] for row in self.content.snapshots)

    def _dismiss(self, params: list[Any]) -> None:
        for row in self.content.alerts:
            if row["uuid"] == params[0]:
                row["dismissed"] = True
                return
        raise call_error("ENOENT", f"Alert {params[0]} not found")

    def _snapshot_create(self, params: list[Any]) -> Row:
        given = params[0] if params and isinstance(params[0], dict) else {}
        dataset, name = given.get("dataset"), given.get("name")
        if not dataset or not name:
            raise invalid_params("snapshot_create.dataset" if not dataset else "snapshot_create.name", "Field required")
        if all(row["id"] != dataset for row in self.content.datasets):
            raise call_error("EFAULT", f"Failed to snapshot {dataset}@{name}: dataset does not exist")
        if any(row["id"] == f"{dataset}@{name}" for row in self.content.snapshots):
            raise call_error("EEXIST", f"Failed to snapshot {dataset}@{name}: dataset already exists")
        made = make_snapshot(dataset, name, self._clock.now(), 1000 + len(self.content.snapshots))
        self.content.snapshots.append(made)
        return made

    def _snapshot_delete(self, params: list[Any]) -> bool:
        left = [row for row in self.content.snapshots if row["id"] != params[0]]
        if len(left) == len(self.content.snapshots):
            raise call_error("ENOENT", f"{params[0]} not found", kind="InstanceNotFound")
        self.content.snapshots[:] = left
        return True

    def _scrub(self, params: list[Any]) -> None:
        if not any(row["name"] == params[0] for row in self.content.pools):
            raise call_error("EINVAL", f"Pool {params[0]} not found")

    def _replicate(self, params: list[Any]) -> None:
        for row in self.content.replications:
            if row["id"] == params[0]:
                row["state"] = {**row["state"], "state": "FINISHED", "datetime": date(self._clock.now())}
                return
        raise call_error("ENOENT", f"Replication {params[0]} not found", kind="InstanceNotFound")


def _arguments(params: list[Any]) -> tuple[Any, dict[str, Any]]:
    if len(params) > 2:
        raise invalid_params("", "Too many arguments (expected 2)")
    filters = params[0] if params else []
    return filters, params[1] if len(params) > 1 else {}


def _query(rows: Callable[[], list[Row]]) -> Callable[[list[Any]], Any]:
    return lambda params: run_query(rows(), *_arguments(params))
