"""Names and labels that the server accepts, and its words for those that it does not."""

from __future__ import annotations

import re
from typing import Any

from labkit.twin.kube.status import Cause, required, wrong

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
    "end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
    "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_LABEL_KINDS = {"namespaces"}
_1035_KINDS = {"services"}
_FREE_KINDS = {
    "roles.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
}


def check_name(key: str, name: str) -> list[Cause]:
    """Return what is wrong with the name of an object of this resource."""
    if not name:
        return [required("metadata.name", "name or generateName is required")]
    if key in _FREE_KINDS:
        bad = name in (".", "..") or "/" in name or "%" in name
        return [wrong("metadata.name", name, "may not contain '/'")] if bad else []
    form, text, limit = _SUBDOMAIN, _SUBDOMAIN_TEXT, 253
    if key in _LABEL_KINDS:
        form, text, limit = _LABEL, _LABEL_TEXT, 63
    elif key in _1035_KINDS:
        form, text, limit = _1035, _1035_TEXT, 63
    causes = []
    if len(name) > limit:
        causes.append(wrong("metadata.name", name, f"must be no more than {limit} bytes"))
    if not form.fullmatch(name):
        causes.append(wrong("metadata.name", name, text))
    return causes


def check_labels(labels: dict[str, Any], field: str) -> list[Cause]:
    """Return what is wrong with a map of labels."""
    causes = []
    for key, value in labels.items():
        causes += _check_key(str(key), field)
        if not _VALUE.fullmatch(str(value)):
            causes.append(wrong(field, value, _VALUE_TEXT))
        if len(str(value)) > 63:
            causes.append(wrong(field, value, "must be no more than 63 bytes"))
    return causes


def check_annotations(annotations: dict[str, Any], field: str) -> list[Cause]:
    """Return what is wrong with a map of annotations: their keys, and more than 256 KiB in all."""
    causes = [cause for key in annotations for cause in _check_key(str(key).lower(), field)]
    size = sum(len(str(k)) + len(str(v)) for k, v in annotations.items())
    if size > 256 * 1024:
        text = f"Too long: may not be more than {256 * 1024} bytes"
        causes.append(Cause(field, "FieldValueTooLong", text))
    return causes


def _check_key(key: str, field: str) -> list[Cause]:
    prefix, slash, name = key.rpartition("/")
    causes = []
    if slash and not _SUBDOMAIN.fullmatch(prefix):
        causes.append(wrong(field, key, f"prefix part {_SUBDOMAIN_TEXT}"))
    if not name:
        causes.append(wrong(field, key, "name part must be non-empty"))
    if not _QUALIFIED.fullmatch(name):
        causes.append(wrong(field, key, _QUALIFIED_TEXT))
    if len(name) > 63:
        causes.append(wrong(field, key, "name part must be no more than 63 bytes"))
    return causes
