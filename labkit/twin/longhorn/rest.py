"""Longhorn's REST service, which answers behind the API server's proxy for longhorn-frontend and longhorn-backend."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from labkit.twin.controllers.objects import labels_of, name_of, spec_of
from labkit.twin.kube.door import ApiError, Object
from labkit.twin.longhorn import restforms as forms
from labkit.twin.longhorn.api import Actions
from labkit.twin.longhorn.hub import Hub
from labkit.twin.longhorn.names import (
    BACKUP_VOLUME_LABEL,
    BACKUP_VOLUMES,
    BACKUPS,
    GROUP_PREFIX,
    JOB_PREFIX,
    JOBS,
    KINDS,
    NAMESPACE,
    NODES,
    SETTINGS,
    SNAPSHOTS,
    TARGETS,
    VERSION,
    VOLUMES,
)

Body = dict[str, Any]
_API_TICKET = "longhorn-api"
_NEW_VOLUME = (
    "size", "fromBackup", "numberOfReplicas", "frontend", "dataLocality", "accessMode", "dataEngine", "encrypted",
    "staleReplicaTimeout", "nodeSelector", "diskSelector", "backupTargetName", "restoreVolumeRecurringJob",
    "backupCompressionMethod",
)  # fmt: skip


class Rest:
    """Answer requests; `serve` is what the API server's proxy calls."""

    def __init__(self, hub: Hub, actions: Actions) -> None:
        self.hub = hub
        self.actions = actions
        self._base = ""
        self._shown: dict[str, tuple[str, str, Callable[[Object], forms.Form]]] = {
            "volumes": (VOLUMES, "volume", lambda o: forms.volume_form(hub, o, self._base)),
            "backupvolumes": (BACKUP_VOLUMES, "backupVolume", lambda o: forms.backup_volume_form(o, self._base)),
            "backups": (BACKUPS, "backup", lambda o: forms.backup_form(o, self._base)),
            "backuptargets": (TARGETS, "backupTarget", lambda o: forms.target_form(o, self._base)),
            "nodes": (NODES, "node", lambda o: forms.node_form(o, self._base)),
            "settings": (SETTINGS, "setting", lambda o: forms.setting_form(o, self._base)),
            "recurringjobs": (JOBS, "recurringJob", lambda o: forms.job_form(o, self._base)),
        }
        self._acts: dict[tuple[str, str], Callable[[str, Body], Any]] = {
            ("volumes", "attach"): self._attach, ("volumes", "detach"): self._detach,
            ("volumes", "snapshotCreate"): self._snapshot_create, ("volumes", "snapshotList"): self._snapshot_list,
            ("volumes", "snapshotGet"): self._snapshot_get, ("volumes", "snapshotDelete"): self._snapshot_delete,
            ("volumes", "snapshotBackup"): self._snapshot_backup, ("volumes", "pvCreate"): self._pv_create,
            ("volumes", "pvcCreate"): self._pvc_create, ("volumes", "recurringJobAdd"): self._job_add,
            ("volumes", "recurringJobDelete"): self._job_delete, ("volumes", "recurringJobList"): self._job_list,
            ("volumes", "updateReplicaCount"): self._replica_count, ("volumes", "activate"): self._activate,
            ("backupvolumes", "backupList"): self._backup_list, ("backupvolumes", "backupGet"): self._backup_get,
            ("backupvolumes", "backupDelete"): self._backup_delete,
            ("backupvolumes", "backupVolumeSync"): self._backup_volume_sync,
            ("backuptargets", "backupTargetSync"): self._target_sync,
        }  # fmt: skip

    async def serve(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer one request; `path` is what stands behind the proxy, such as /v1/volumes."""
        self._base = f"{request.scheme}://{request.host}{request.path.partition('/proxy/')[0]}/proxy/v1"
        if request.method != "GET":
            self.hub.on_write()
        try:
            text = await request.text()
            body = json.loads(text) if text.strip() else {}
            found = self._answer(request.method, path.strip("/").split("/"), request.query.get("action", ""), body)
        except ApiError as exc:
            code = 404 if exc.code == 404 else 500
            return web.json_response(forms.error(code, str(exc)), status=code)
        except (ValueError, KeyError, TypeError) as exc:
            return web.json_response(forms.error(500, f"cannot read the request: {exc}"), status=500)
        return web.json_response(found) if found is not None else web.Response(status=204)

    def _answer(self, method: str, parts: list[str], action: str, body: Body) -> Any:
        if parts[0] != "v1" or (len(parts) > 1 and parts[1] not in self._shown) or len(parts) > 3:
            raise not_found("/".join(parts))
        if len(parts) == 1:
            return {"id": "v1", "type": "apiVersion", "links": {name: f"{self._base}/{name}" for name in self._shown}}
        plural, name = parts[1], parts[2] if len(parts) == 3 else ""
        if action:
            return self._act(plural, name, action, body)
        if method == "GET":
            return self._get(plural, name) if name else self._list(plural)
        if method == "POST" and plural == "volumes" and not name:
            return self._create_volume(body)
        if method == "DELETE" and name and plural in ("volumes", "recurringjobs", "backupvolumes"):
            self._find(plural, name)
            self.hub.api.delete(self._shown[plural][0], name, NAMESPACE)
            return {}
        if method == "PUT":
            return self._put(plural, name, body)
        raise not_found(f"{method} {'/'.join(parts)}")

    def _list(self, plural: str) -> forms.Form:
        resource, kind, show = self._shown[plural]
        return forms.collection(kind, self._base, plural, [show(o) for o in self.hub.list(resource)])

    def _find(self, plural: str, name: str) -> Object:
        found = self.hub.get(self._shown[plural][0], name)
        if found is None:
            raise not_found(f'{plural}.longhorn.io "{name}" not found')
        return found

    def _get(self, plural: str, name: str) -> forms.Form:
        return self._shown[plural][2](self._find(plural, name))

    def _act(self, plural: str, name: str, action: str, body: Body) -> Any:
        self._find(plural, name)
        act = self._acts.get((plural, action))
        if act is None:
            raise not_found(f"action {action} of {plural}")
        return act(name, body)

    def _put(self, plural: str, name: str, body: Body) -> Any:
        if plural == "settings":
            self._find(plural, name)
            self.hub.patch(SETTINGS, name, {"value": str(body["value"])})
            return self._get(plural, name)
        if plural in ("backuptargets", "backupvolumes") and not name:
            resource = self._shown[plural][0]
            for found in self.hub.list(resource):
                self._request_sync(resource, name_of(found))
            return self._list(plural)
        raise not_found(f"PUT {plural}")

    def _create_volume(self, body: Body) -> forms.Form:
        spec = {key: body[key] for key in _NEW_VOLUME if key in body}
        spec["frontend"] = spec.get("frontend") or "blockdev"
        spec["size"] = str(spec.get("size") or "0")
        labels = {
            (GROUP_PREFIX if one.get("isGroup") else JOB_PREFIX) + one["name"]: "enabled"
            for one in body.get("recurringJobSelector") or ()
        }
        made = self.hub.api.create(VOLUMES, {
            "apiVersion": VERSION, "kind": KINDS[VOLUMES], "spec": spec,
            "metadata": {"name": str(body["name"]), "namespace": NAMESPACE, "labels": labels},
        })  # fmt: skip
        return self._get("volumes", name_of(made))

    def _attach(self, name: str, body: Body) -> forms.Form:
        ident = str(body.get("attachmentID") or _API_TICKET)
        kind = str(body.get("attacherType") or _API_TICKET)
        self.hub.ticket(name, ident, kind, str(body["hostId"]), frontend=not body.get("disableFrontend"))
        return self._get("volumes", name)

    def _detach(self, name: str, body: Body) -> forms.Form:
        self.hub.end_ticket(name, str(body.get("attachmentID") or _API_TICKET))
        return self._get("volumes", name)

    def _snapshot_create(self, name: str, body: Body) -> forms.Form:
        return forms.snapshot_form(self.actions.snapshot(name, str(body.get("name") or ""), body.get("labels")))

    def _snapshot_list(self, name: str, _body: Body) -> forms.Form:
        mine = [s for s in self.hub.list(SNAPSHOTS) if spec_of(s).get("volume") == name]
        return forms.collection("snapshot", self._base, "snapshots", [forms.snapshot_form(s) for s in mine])

    def _snapshot(self, body: Body) -> Object:
        found = self.hub.get(SNAPSHOTS, str(body["name"]))
        if found is None:
            raise not_found(f'snapshot.longhorn.io "{body["name"]}" not found')
        return found

    def _snapshot_get(self, _name: str, body: Body) -> forms.Form:
        return forms.snapshot_form(self._snapshot(body))

    def _snapshot_delete(self, name: str, body: Body) -> forms.Form:
        self.hub.api.delete(SNAPSHOTS, name_of(self._snapshot(body)), NAMESPACE)
        return self._get("volumes", name)

    def _snapshot_backup(self, name: str, body: Body) -> forms.Form:
        self._snapshot(body)
        self.actions.backup(name, str(body["name"]), body.get("labels"), str(body.get("backupMode") or ""))
        return self._get("volumes", name)

    def _pv_create(self, name: str, body: Body) -> forms.Form:
        self.actions.make_pv(name, body)
        return self._get("volumes", name)

    def _pvc_create(self, name: str, body: Body) -> forms.Form:
        self.actions.make_pvc(name, body)
        return self._get("volumes", name)

    def _job_add(self, name: str, body: Body) -> forms.Form:
        return self._choose_job(name, body, "enabled")

    def _job_delete(self, name: str, body: Body) -> forms.Form:
        return self._choose_job(name, body, None)

    def _choose_job(self, name: str, body: Body, value: str | None) -> forms.Form:
        key = (GROUP_PREFIX if body.get("isGroup") else JOB_PREFIX) + str(body["name"])
        self.hub.patch(VOLUMES, name, {"metadata": {"labels": {key: value}}})
        return self._job_list(name, body)

    def _job_list(self, name: str, _body: Body) -> forms.Form:
        chosen = forms.selectors(self.actions.volume(name))
        return {"data": [{"id": one["name"], "type": "volumeRecurringJob", **one} for one in chosen]}

    def _replica_count(self, name: str, body: Body) -> forms.Form:
        self.hub.patch(VOLUMES, name, {"spec": {"numberOfReplicas": int(body["replicaCount"])}})
        return self._get("volumes", name)

    def _activate(self, name: str, body: Body) -> forms.Form:
        frontend = str(body.get("frontend") or "blockdev")
        self.hub.patch(VOLUMES, name, {"spec": {"Standby": False, "frontend": frontend}})
        self.hub.status(VOLUMES, name, {"isStandby": False})
        return self._get("volumes", name)

    def _backups(self, name: str) -> list[Object]:
        volume = spec_of(self._find("backupvolumes", name))["volumeName"]
        return [b for b in self.hub.list(BACKUPS) if labels_of(b).get(BACKUP_VOLUME_LABEL) == volume]

    def _backup_list(self, name: str, _body: Body) -> forms.Form:
        return forms.collection(
            "backup", self._base, "backups", [forms.backup_form(b, self._base) for b in self._backups(name)]
        )

    def _backup_get(self, name: str, body: Body) -> forms.Form:
        for found in self._backups(name):
            if name_of(found) == body["name"]:
                return forms.backup_form(found, self._base)
        raise not_found(f'backup.longhorn.io "{body["name"]}" not found')

    def _backup_delete(self, name: str, body: Body) -> forms.Form:
        self.hub.api.delete(BACKUPS, str(body["name"]), NAMESPACE)
        return self._get("backupvolumes", name)

    def _backup_volume_sync(self, name: str, _body: Body) -> forms.Form:
        self._request_sync(BACKUP_VOLUMES, name)
        return self._get("backupvolumes", name)

    def _target_sync(self, name: str, _body: Body) -> forms.Form:
        self._request_sync(TARGETS, name)
        return self._get("backuptargets", name)

    def _request_sync(self, resource: str, name: str) -> None:
        self.hub.patch(resource, name, {"spec": {"syncRequestedAt": self.hub.synced()}})


def not_found(what: str) -> ApiError:
    """Build the error for something that is not there."""
    return ApiError({"kind": "Status", "status": "Failure", "message": what, "reason": "NotFound", "code": 404})
