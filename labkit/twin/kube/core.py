"""The server without HTTP: creating and updating objects with everything that admission does to them."""

from __future__ import annotations

import random
import uuid
from ipaddress import IPv4Network
from typing import Any

from labkit.twin.clock import TwinClock
from labkit.twin.kube import custom, status
from labkit.twin.kube.admission import Admission
from labkit.twin.kube.clock import stamp
from labkit.twin.kube.clone import clone
from labkit.twin.kube.decode import Decoder
from labkit.twin.kube.defaults import apply_defaults
from labkit.twin.kube.door import ApiError, Clock, Object
from labkit.twin.kube.managed import Claims, Owner, read_claims, record_update, write_claims
from labkit.twin.kube.names import check_name
from labkit.twin.kube.options import Target, WriteOptions
from labkit.twin.kube.registry import Registry
from labkit.twin.kube.resources import Resource
from labkit.twin.kube.status import Cause, denied
from labkit.twin.kube.store import Record, Store
from labkit.twin.kube.validate import check
from labkit.twin.kube.webhooks import Webhook

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
# Kept from the stored object whatever an update says.
_IDENTITY = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


class Core:
    """Objects, the resources they belong to, and the rules of writing them.

    Args:
        clock: the time of the twin.
        seed: of generated names, uids, addresses and ports.
        service_cidr: the network of cluster addresses.
        history: how many changes of each resource a watch can look back.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        seed: int = 0,
        service_cidr: str = "10.43.0.0/16",
        history: int = 5000,
    ) -> None:
        self.clock: Clock = clock or TwinClock()
        self.registry = Registry()
        self.store = Store(history=history)
        self.dice = random.Random(seed)  # noqa: S311 - names, not secrets
        self.admission = Admission(self.store, self.dice, self.clock, service_cidr)
        self.webhooks: dict[str, Webhook] = {}
        for name in NAMESPACES:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.create(Target(self.resource("namespaces")), body, WriteOptions(manager="kube-apiserver"))
        self._publish_itself(service_cidr)

    def _publish_itself(self, service_cidr: str) -> None:
        """Make the Service under which pods reach the API."""
        labels = {"component": "apiserver", "provider": "kubernetes"}
        port = {"name": "https", "port": 443, "targetPort": 6443}
        body = {
            "metadata": {"name": "kubernetes", "labels": labels},
            "spec": {"clusterIP": str(IPv4Network(service_cidr)[1]), "ports": [port]},
        }
        target = Target(self.resource("services"), "default")
        self.create(target, body, WriteOptions(manager="kube-apiserver"))

    def resource(self, key: str) -> Resource:
        """Return a resource by its key; raise ApiError (404) when it is not served."""
        found = self.registry.named(key)
        if found is None:
            raise status.no_such_resource()
        return found

    def get(self, resource: Resource, namespace: str, name: str) -> Record:
        """Return an object; raise ApiError (404)."""
        found = self.store.get(resource.key, namespace if resource.namespaced else "", name)
        if found is None:
            raise status.not_found(resource.plural, resource.group, name)
        return found

    def now(self) -> str:
        """Return the time as the API writes it."""
        return stamp(self.clock.now())

    def create(self, target: Target, body: Object, options: WriteOptions) -> Record:
        """Create an object; `body` belongs to the server from here on.

        Raises:
            ApiError: as the real server refuses it.
        """
        return self.insert(target, self.read(target.resource, body, options), options)

    def insert(self, target: Target, obj: Object, options: WriteOptions, claims: Claims | None = None) -> Record:
        """Store a decoded new object; `claims` come from server-side apply, None records an update."""
        resource, meta = target.resource, obj.setdefault("metadata", {})
        if meta.get("resourceVersion"):
            text = "resourceVersion should not be set on objects to be created"
            raise status.failure(500, "InternalError", text)
        self.place(target, meta)
        self._name(resource, meta)
        self._check_namespace(resource, meta)
        self._identify(resource, meta)
        if resource.status:
            obj.pop("status", None)
        self._complete(resource, obj, None)
        if resource.key in self.webhooks:
            self.webhooks[resource.key].admit(obj, None)
        causes = check_name(resource.key, meta.get("name", "")) + self._causes(resource, obj, None)
        self._refuse(resource, obj, causes)
        if self.store.get(resource.key, meta.get("namespace", ""), meta["name"]):
            raise status.already_exists(resource.plural, resource.group, meta["name"])
        write_claims(obj, self._claim({}, None, obj, target, options) if claims is None else claims)
        return Record("", obj, 0) if options.dry_run else self.store.put(resource.key, obj)

    def _identify(self, resource: Resource, meta: Object) -> None:
        for key in (*_IDENTITY, "selfLink"):
            meta.pop(key, None)
        meta["uid"] = str(uuid.UUID(int=self.dice.getrandbits(128), version=4))
        meta["creationTimestamp"] = self.now()
        if resource.generation:
            meta["generation"] = 1

    def update(self, target: Target, body: Object, options: WriteOptions) -> Record:
        """Replace an object or one of its subresources; `body` belongs to the server from here on."""
        obj = self.read(target.resource, body, options)
        old = self.get(target.resource, target.namespace, target.name)
        self.check_sent_name(target, obj.setdefault("metadata", {}))
        return self.replace(target, old, obj, options)

    def check_sent_name(self, target: Target, meta: Object) -> None:
        """Raise ApiError (400) when an object names another object or namespace than its URL."""
        if meta.setdefault("name", target.name) != target.name:
            raise status.bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({target.name})"
            )
        self.place(target, meta)

    def replace(
        self,
        target: Target,
        old: Record,
        obj: Object,
        options: WriteOptions,
        claims: Claims | None = None,
    ) -> Record:
        """Store a decoded new version of an object; what changes nothing writes nothing."""
        resource = target.resource
        self._check_version(resource, old, obj["metadata"])
        new = self._merged(target, old.object, obj)
        self._complete(resource, new, old.object)
        if resource.key in self.webhooks and not target.subresource:
            self.webhooks[resource.key].admit(new, old.object)
        self._count(resource, old.object, new)
        causes = _new_finalizers(old.object, new) + self._causes(resource, new, old.object)
        self._refuse(resource, new, causes)
        if claims is None:
            told = obj if obj["metadata"].get("managedFields") is not None else old.object
            claims = self._claim(read_claims(told), old.object, new, target, options)
        write_claims(new, claims)
        new["metadata"]["resourceVersion"] = old.meta["resourceVersion"]
        return old if new == old.object else self._keep(resource, old, new, options)

    def _keep(self, resource: Resource, old: Record, new: Object, options: WriteOptions) -> Record:
        if options.dry_run:
            return Record(old.path, new, old.revision)
        if is_finished(new):
            return self.store.remove(resource.key, old, new)
        return self.store.put(resource.key, new)

    def read(self, resource: Resource, body: Object, options: WriteOptions) -> Object:
        """Decode an object that a client sent: its kind checked, unknown fields dropped or refused."""
        _check_kind(resource, body)
        if resource.custom:
            obj, unknown = custom.read(resource, body)
        else:
            decoder = Decoder(resource)
            obj = decoder.read(body, resource.shape)
            unknown = decoder.unknown
        if unknown and options.validation == "Strict":
            said = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise status.bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
                f"strict decoding error: {said}"
            )
        if options.validation == "Warn":
            options.warnings += [f'unknown field "{path}"' for path in unknown]
        obj["apiVersion"], obj["kind"] = self._stored_kind(resource)
        return obj

    def _stored_kind(self, resource: Resource) -> tuple[str, str]:
        preferred = self.registry.named(resource.key) or resource
        return preferred.group_version, preferred.kind

    def place(self, target: Target, meta: Object) -> None:
        """Put metadata into the namespace of the request; raise ApiError (400) when it names another."""
        if not target.resource.namespaced:
            meta.pop("namespace", None)
        elif meta.setdefault("namespace", target.namespace) != target.namespace:
            raise status.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )

    def _name(self, resource: Resource, meta: Object) -> None:
        if not meta.get("name") and meta.get("generateName"):
            taken = self.store.shelf(resource.key).records
            while not meta.get("name") or f"{meta.get('namespace', '')}/{meta['name']}" in taken:
                meta["name"] = f"{str(meta['generateName'])[:58]}{self.admission.suffix()}"

    def _check_namespace(self, resource: Resource, meta: Object) -> None:
        if not resource.namespaced:
            return
        found = self.store.get("namespaces", "", meta["namespace"])
        if found is None:
            raise status.not_found("namespaces", "", meta["namespace"])
        if found.meta.get("deletionTimestamp"):
            raise _terminating(resource, meta)

    def _complete(self, resource: Resource, obj: Object, old: Object | None) -> None:
        """Fill in defaults and what admission adds."""
        if resource.custom:
            custom.complete(resource, obj)
            return
        apply_defaults(resource.key, obj)
        if resource.status:
            obj.setdefault("status", {})
        if old is None:
            self.admission.complete(resource.key, obj)
        elif resource.key == "services":
            self.admission.service(obj, old)

    def _causes(self, resource: Resource, new: Object, old: Object | None) -> list[Cause]:
        if resource.custom:
            return custom.check(resource, new)
        return check(resource.key, new, old)

    def _refuse(self, resource: Resource, obj: Object, causes: list[Cause]) -> None:
        if causes:
            name = obj["metadata"].get("name", "")
            raise status.invalid(resource.kind, resource.group, name, causes)

    def _check_version(self, resource: Resource, old: Record, sent: Object) -> None:
        version, name = sent.get("resourceVersion"), old.meta["name"]
        if version and version != old.meta["resourceVersion"]:
            raise status.conflict(resource.plural, resource.group, name, status.STALE)
        uid = sent.get("uid")
        if uid and uid != old.meta["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old.meta['uid']}"
            raise status.conflict(resource.plural, resource.group, name, why)

    def _merged(self, target: Target, old: Object, obj: Object) -> Object:
        """Return the new version: of the old one what this endpoint may not change, of the sent one the rest."""
        resource, subresource = target.resource, target.subresource
        if subresource == "status":
            new = clone(old)
            new.pop("status", None)
            if "status" in obj:
                new["status"] = obj["status"]
            if not resource.custom:
                new["metadata"] = dict(obj["metadata"])
        elif subresource == "finalize":
            new = clone(old)
            new["spec"] = obj.get("spec", {})
        else:
            new = dict(obj)
            if resource.status:
                new.pop("status", None)
                if "status" in old:
                    new["status"] = clone(old["status"])
            if resource.key == "namespaces":
                new["spec"] = clone(old["spec"])
        new["metadata"] = meta = dict(new["metadata"])
        for key in _IDENTITY:
            meta.pop(key, None)
            if key in old["metadata"]:
                meta[key] = old["metadata"][key]
        if "generateName" in old["metadata"]:
            meta.setdefault("generateName", old["metadata"]["generateName"])
        meta["name"] = old["metadata"]["name"]
        return new

    def _count(self, resource: Resource, old: Object, new: Object) -> None:
        if resource.generation and _counted(old) != _counted(new):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def _claim(self, base: Claims, old: Object | None, new: Object, target: Target, options: WriteOptions) -> Claims:
        resource, subresource = target.resource, target.subresource
        owner = Owner(options.manager, "Update", subresource, resource.group_version)
        ignored = ("status",) if resource.status and subresource != "status" else ()
        return record_update(base, (old, new), resource.shape, owner, time=self.now(), ignored=ignored)


def _counted(obj: Object) -> Object:
    return {k: v for k, v in obj.items() if k not in ("metadata", "status", "apiVersion", "kind")}


def _check_kind(resource: Resource, body: Any) -> None:
    if not isinstance(body, dict):
        raise status.bad_request(f"the object provided is unrecognized (must be of type {resource.kind})")
    kind, version = body.get("kind"), body.get("apiVersion")
    if not resource.custom:  # the path says what a built-in kind is, when the body does not
        kind, version = kind or resource.kind, version or resource.group_version
    if not kind:
        raise status.bad_request(f"Object 'Kind' is missing in '{status.shown(body)[:200]}'")
    if kind != resource.kind:
        raise status.bad_request(
            f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}: converting '
            f"(v1.{kind}) to (core.{resource.kind}): unknown conversion"
        )
    if version != resource.group_version:
        raise status.bad_request(
            f"the API version in the data ({version}) does not match the expected API version "
            f"({resource.group_version})"
        )


def _terminating(resource: Resource, meta: Object) -> ApiError:
    space = meta["namespace"]
    why = f"unable to create new content in namespace {space} because it is being terminated"
    text = f"namespace {space} is being terminated"
    cause = {"reason": "NamespaceTerminating", "message": text, "field": "metadata.namespace"}
    return status.forbidden(resource.plural, resource.group, meta.get("name", ""), why, [cause])


def _new_finalizers(old: Object, new: Object) -> list[Cause]:
    if not old["metadata"].get("deletionTimestamp"):
        return []
    had = old["metadata"].get("finalizers", [])
    added = [name for name in new["metadata"].get("finalizers", []) if name not in had]
    if not added:
        return []
    listed = ", ".join(f'"{name}"' for name in added)
    text = "no new finalizers can be added if the object is being deleted, found new finalizers "
    return [denied("metadata.finalizers", f"{text}[]string{{{listed}}}")]


def is_finished(obj: Object) -> bool:
    """Whether a deleted object has nothing left to wait for: no grace, no finalizer."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
        return False
    return not (obj.get("kind") == "Namespace" and obj.get("spec", {}).get("finalizers"))
