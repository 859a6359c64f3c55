"""The kubeconfig: fetched from a server, kept in the user's file beside other contexts, read from there again."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from labkit.errors import StepFailed
from labkit.facts.k3s import KubeconfigSeen
from labkit.lab import Lab
from labkit.lab.k3sconfig import api_hosts
from labkit.systems.access import Access
from labkit.systems.kubernetes import Credentials
from labkit.systems.ssh import Shell

SERVER_FILE = "/etc/rancher/k3s/k3s.yaml"
_RENEWED = timedelta(days=30)


def fetch_credentials(shell: Shell) -> Credentials | None:
    """Return the administrator's credentials from a server; None when k3s has not written them yet."""
    done = shell.run(("cat", "--", SERVER_FILE), sudo=True, check=False)
    if done.status != 0:
        return None
    return parse_credentials(_load(done.text) or {})


def parse_credentials(
    document: Mapping[str, Any], context: str = "", read: Callable[[str], str] = lambda _path: ""
) -> Credentials | None:
    """Return the credentials of a context of a kubeconfig; None when incomplete.

    Args:
        document: the kubeconfig.
        context: the current one when empty.
        read: returns the text of a file that the kubeconfig names, as a pod's does for its service account; only
            the user's own kubeconfig may name files.
    """
    found = _entry(document, "contexts", context or str(document.get("current-context") or ""))
    cluster = _entry(document, "clusters", str(found.get("cluster") or ""))
    user = _entry(document, "users", str(found.get("user") or ""))
    try:
        credentials = Credentials(
            ca=_decode(cluster.get("certificate-authority-data")) or read(cluster.get("certificate-authority") or ""),
            certificate=_decode(user.get("client-certificate-data")),
            key=_decode(user.get("client-key-data")),
            token=str(user.get("token") or "") or read(user.get("tokenFile") or ""),
        )
    except (binascii.Error, UnicodeDecodeError):
        return None
    return credentials if credentials.ca and (credentials.key or credentials.token) else None


def _entry(document: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    for item in document.get(kind) or ():
        if item.get("name") == name:
            found: Mapping[str, Any] = item.get(kind.removesuffix("s")) or {}
            return found
    return {}


def _decode(text: object) -> str:
    return base64.b64decode(str(text or ""), validate=False).decode()


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def stored_credentials(lab: Lab, access: Access) -> Credentials | None:
    """Return the credentials of the lab's context in the user's kubeconfig, or None."""
    document = _glance(access.path(lab.k3s.kubeconfig))
    return None if document is None else parse_credentials(document, lab.name, _named_file)


def _named_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip() if path else ""
    except (OSError, UnicodeDecodeError):
        return ""


def compare(lab: Lab, access: Access, credentials: Credentials, *, vip: bool) -> KubeconfigSeen:
    """Say how the user's kubeconfig compares with what the cluster hands out now."""
    document = _read(access.path(lab.k3s.kubeconfig)) or {}
    if not _entry(document, "contexts", lab.name):
        return KubeconfigSeen(state="missing")
    seen = parse_credentials(document, lab.name, _named_file)
    if seen is None:
        return KubeconfigSeen(state="stale")
    cluster = _entry(document, "clusters", str(_entry(document, "contexts", lab.name).get("cluster") or ""))
    server = str(cluster.get("server") or "")
    host = urlsplit(server).hostname
    good = (str(lab.network.vip),) if vip else api_hosts(lab)
    current = host in good and seen.ca == credentials.ca and is_fresh(seen, credentials)
    return KubeconfigSeen(state="current" if current else "stale", expires=expiry(seen), server=server)


def is_fresh(seen: Credentials, offered: Credentials) -> bool:
    """Whether a client certificate is of the same authority as one that is offered now, and does not end much before.

    Every server signs one of its own for the administrator, so that they are never equal.
    """
    try:
        mine = x509.load_pem_x509_certificate(seen.certificate.encode())
        theirs = x509.load_pem_x509_certificate(offered.certificate.encode())
    except ValueError:
        return seen == offered
    same = _authority(mine) == _authority(theirs) and mine.subject == theirs.subject
    return same and theirs.not_valid_after_utc - mine.not_valid_after_utc < _RENEWED


def _authority(certificate: x509.Certificate) -> object:
    """Who signed a certificate: its key's id where it stands there, else the name."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return certificate.issuer
    return found.value.key_identifier


def expiry(credentials: Credentials) -> datetime | None:
    """Return when a client certificate ends; None without one."""
    try:
        return x509.load_pem_x509_certificate(credentials.certificate.encode()).not_valid_after_utc
    except ValueError:
        return None


def fingerprint(pem: str) -> str:
    """Return a short name for a CA certificate, the same wherever the file was read; empty for an empty text."""
    text = "".join(pem.split())
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def store_kubeconfig(lab: Lab, access: Access, credentials: Credentials, server: str) -> Path:
    """Put the lab's context into the user's kubeconfig, mode 0600; all else in the file stays.

    Raises:
        StepFailed: the file is there and is no kubeconfig, or cannot be written.
    """
    path = access.path(lab.k3s.kubeconfig)
    document = _read(path)
    if document is None and path.exists():
        raise StepFailed(f"{path}: expected a kubeconfig, got something else; nothing was written",
                         next_step="mend it or move it away, then run again")  # fmt: skip
    text = merge(document, lab.name, credentials, server)
    try:
        _write(path, text)
    except OSError as exc:
        raise StepFailed(f"{path}: expected a kubeconfig that can be written, got {exc.strerror or exc}") from exc
    return path


def merge(document: Any, name: str, credentials: Credentials, server: str) -> str:
    """Return the text of a kubeconfig with one more context, named like its cluster and its user."""
    merged = document or {"apiVersion": "v1", "kind": "Config"}
    user = {"token": credentials.token} if credentials.token else {
        "client-certificate-data": _encode(credentials.certificate),
        "client-key-data": _encode(credentials.key),
    }  # fmt: skip
    _put(merged, "clusters", name, {"server": server, "certificate-authority-data": _encode(credentials.ca)})
    _put(merged, "users", name, user)
    context = {**_entry(merged, "contexts", name), "cluster": name, "user": name}
    _put(merged, "contexts", name, context)
    if not merged.get("current-context"):
        merged["current-context"] = name
    stream = io.StringIO()
    _editor().dump(merged, stream)
    return stream.getvalue()


def _put(document: Any, kind: str, name: str, value: dict[str, Any]) -> None:
    entry = {"name": name, kind.removesuffix("s"): value}
    items = document.get(kind)
    if not items:
        document[kind] = [entry]
        return
    for place, item in enumerate(items):
        if item.get("name") == name:
            items[place] = entry
            return
    items.append(entry)


def _editor() -> YAML:
    editor = YAML(typ="rt")
    editor.preserve_quotes = True
    editor.width = 1 << 20  # a certificate is one line
    return editor


def _load(text: str) -> Any:
    try:
        document = _editor().load(text)
    except YAMLError:
        return None
    return document if isinstance(document, dict) else None


def _read(path: Path) -> Any:
    """The document in a file; an empty one for an empty file; None when there is no kubeconfig."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return _load(text) if text.strip() else {}


def _glance(path: Path) -> Any:
    """The same for one that is not written again: every runbook begins with it, and this parser is quick."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return document if isinstance(document, dict) else {} if document is None else None


def _write(path: Path, text: str) -> None:
    target = path.resolve()  # a link (to a folder that is synchronized, say) stays a link
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".kubeconfig-")  # made with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
