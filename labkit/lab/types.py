"""The kinds of values in a lab file: each says what it expects in words, and as a pattern for editors."""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from datetime import time
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

Role = Literal["server", "agent"]
Address = ipaddress.IPv4Address
Network = ipaddress.IPv4Network

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
SECRET_SCHEMES = ("env", "file", "sops", "keyring")
UNITS = {"MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}

NO_LITERAL = "a reference (env:NAME, file:path, sops:file#key, keyring:service/name), no literal"

_SIZE = re.compile(r"\s*(-?[0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)\s*")
_OWN_LABELS = ("kubelet.kubernetes.io", "node.kubernetes.io")


class FormError(ValueError):
    """Say in words what was expected; the message never holds the value."""


@dataclass(frozen=True)
class Form:
    """A text of a certain form: a pattern that must match whole, what it stands for, an example."""

    pattern: str
    expected: str
    example: str

    def check(self, value: str) -> str:
        """Return the text when it has the form; raise FormError with what is expected."""
        if re.fullmatch(self.pattern, value) is None:
            raise FormError(f"{self.expected}, for example {self.example}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"pattern": f"^(?:{self.pattern})$", "examples": [self.example]}


@dataclass(frozen=True)
class Checked:
    """A text that a function accepts or refuses with FormError; editors get an example and a pattern."""

    check: Callable[[str], str]
    example: str
    pattern: str = "."

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"pattern": self.pattern, "examples": [self.example]}


def parse_size(value: object) -> int:
    """Turn `4096 MiB`, `100 GiB` or `1 TiB` into MiB; raise FormError with the accepted form."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not match[2]:
        raise FormError("a size with its unit, for example 4096 MiB or 100 GiB")
    if match[2] not in UNITS:
        raise FormError("a size in one of the units MiB, GiB, TiB")
    mib = Decimal(match[1]) * UNITS[match[2]]
    if mib <= 0:
        raise FormError("a size above zero")
    if mib != int(mib):
        raise FormError("a whole number of MiB")
    return int(mib)


def format_size(mib: int) -> str:
    """Write a size in the largest unit that leaves a whole number: 102400 is `100 GiB`."""
    unit = next(unit for unit in reversed(UNITS) if mib % UNITS[unit] == 0)
    return f"{mib // UNITS[unit]} {unit}"


def _at_least(least: int, why: str) -> AfterValidator:
    def check(mib: int) -> int:
        if mib < least:
            raise FormError(f"at least {format_size(least)}, {why}")
        return mib

    return AfterValidator(check)


_size_schema = WithJsonSchema(
    {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? *(MiB|GiB|TiB)$", "examples": ["4096 MiB", "100 GiB"]}
)
_size_text = PlainSerializer(format_size, return_type=str, when_used="json")

Memory = Annotated[
    int, BeforeValidator(parse_size), _at_least(512, "the least that k3s needs"), _size_text, _size_schema
]
"""Memory in MiB, written with its unit; k3s needs 512 MiB in every role."""

Disk = Annotated[int, BeforeValidator(parse_size), _at_least(5120, "room for Ubuntu and k3s"), _size_text, _size_schema]
"""A disk in MiB, written with its unit."""

Cores = Annotated[int, Field(ge=1, le=512)]
Vlan = Annotated[int, Field(ge=1, le=4094)]
VmId = Annotated[int, Field(ge=100, le=999_999_999)]


def check_secret(value: str) -> str:
    """Accept a reference to a secret; the message never holds the text."""
    scheme, separator, rest = value.partition(":")
    if not separator or not re.fullmatch(r"[a-z][a-z0-9+-]*", scheme):
        raise FormError(NO_LITERAL)
    if scheme not in SECRET_SCHEMES:
        raise FormError("one of the schemes " + ", ".join(f"{name}:" for name in SECRET_SCHEMES))
    if not rest.strip():
        raise FormError(f"something after {scheme}:")
    if scheme == "sops" and not all(rest.rpartition("#")[::2]):
        raise FormError("sops:file#key.path")
    if scheme == "keyring" and not all(rest.rpartition("/")[::2]):
        raise FormError("keyring:service/name")
    if scheme == "env" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", rest):
        raise FormError("env: and the name of an environment variable")
    return value


SecretRef = Annotated[str, Checked(check_secret, "env:NAME", r"^(env|file|sops|keyring):.+$")]
"""A reference to a secret: env:NAME, file:path, sops:file#key.path, keyring:service/name."""


def _name(value: str) -> str:
    if len(value) > 63:
        raise FormError("a name of at most 63 characters")
    return Form(NAME_PATTERN, "a name of lower-case letters, digits and inner dashes", "k3s-master-01").check(value)


Name = Annotated[str, Checked(_name, "k3s-master-01", NAME_PATTERN)]
"""A DNS label: lower-case letters, digits and dashes."""

_HOST = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LABELS = rf"{_HOST}(\.{_HOST})*"
_FQDN = rf"(?=.{{1,253}}$){_LABELS}"
HostName = Annotated[str, Form(_HOST, "a host name of letters, digits and inner dashes", "hades")]
ServerName = Annotated[str, Form(_FQDN, "a host name or an address", "scale.lan")]
HostPort = Annotated[str, Form(rf"{_LABELS}:[0-9]{{1,5}}", "host:port", "hades.lan:8006")]
Domain = Annotated[str, Form(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", "a domain in lower case", "example.net")]
SearchDomain = Annotated[str, Form(_FQDN, "a search domain", "lan")]
TokenId = Annotated[
    str, Form(r"[^@!\s=]+@[^@!\s=]+![^@!\s=]+", "the id of an API token, user@realm!name", "labkit@pve!runbooks")
]
Fingerprint = Annotated[
    str,
    Form(r"([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}", "a SHA-256 fingerprint, 32 pairs joined by colons", "AA:BB:..."),
]
FilePath = Annotated[str, Form(r"[^\x00-\x1f]+", "the path of a file", "~/.config/labkit/ca.pem")]
Storage = Annotated[str, Form(r"[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]", "the name of a Proxmox storage", "local-lvm")]
Bridge = Annotated[str, Form(r"[A-Za-z][A-Za-z0-9_.-]{0,14}", "the name of a network bridge", "vmbr0")]
Pool = Annotated[str, Form(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}", "the name of a resource pool", "labkit")]
UserName = Annotated[str, Form(r"[a-z_][a-z0-9_-]{0,31}", "a Linux user name", "ubuntu")]
K3sVersion = Annotated[str, Form(r"v1\.\d+\.\d+\+k3s\d+", "a k3s version", "v1.33.4+k3s1")]
KubeVip = Annotated[str, Form(r"v\d+\.\d+\.\d+|none", "a version of kube-vip, or none", "v0.8.9")]
Interface = Annotated[str, Form(r"[A-Za-z][A-Za-z0-9_.-]{0,14}", "the name of a network interface", "eth0")]
Cron = Annotated[
    str,
    Form(
        r"@(hourly|daily|weekly|monthly)|[0-9*/,-]+( [0-9A-Za-z*/,?-]+){4}",
        "a cron schedule of five fields",
        "0 */6 * * *",
    ),
]
Branch = Annotated[str, Form(r"(?!-)[^\s~^:?*\[\\\x00-\x1f]+", "the name of a Git branch", "main")]
RepoPath = Annotated[
    str, Form(r"(\./)?(?!/)(?!.*\.\.)[A-Za-z0-9._/-]+", "a path inside the repository", "./clusters/production")
]
LabelValue = Annotated[
    str,
    Form(
        r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?",
        "a label value of at most 63 letters, digits, dots, dashes and underscores",
        "ssd",
    ),
]

_LABEL_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = rf"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?{_LABEL_NAME}"
Taint = Annotated[
    str,
    Form(
        rf"{_LABEL_KEY}(={_LABEL_NAME})?:(NoSchedule|PreferNoSchedule|NoExecute)",
        "a taint key=value:Effect with the effect NoSchedule, PreferNoSchedule or NoExecute",
        "CriticalAddonsOnly=true:NoExecute",
    ),
]


def _label_key(value: str) -> str:
    Form(_LABEL_KEY, "a label key, name or prefix/name", "disk.example.net/kind").check(value)
    prefix = value.rpartition("/")[0]
    if value == "topology.kubernetes.io/zone":
        raise FormError("no zone label: labkit sets it to the name of the Proxmox host")
    reserved = re.search(r"(^|\.)(kubernetes|k8s)\.io$", prefix)
    if reserved and prefix not in _OWN_LABELS and value != "topology.kubernetes.io/region":
        raise FormError("a label that a node may give itself, none reserved by Kubernetes")
    return value


LabelKey = Annotated[str, Checked(_label_key, "disk", rf"^{_LABEL_KEY}$")]


def _template(value: str) -> str:
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(value) if field is not None}
    except ValueError:
        fields = {""}
    if fields - {"host"}:
        raise FormError("a template name with no placeholder but {host}")
    Form(_FQDN, "the name of a template VM", "ubuntu-template-{host}").check(value.replace("{host}", "h"))
    return value


Template = Annotated[str, Checked(_template, "ubuntu-template-{host}", r"^([^{}\s]|\{host\})+$")]


def parse_range(value: str) -> tuple[Address, Address]:
    """Turn `192.168.5.50-192.168.5.59`, or one address, into its first and last address."""
    first, separator, last = (part.strip() for part in value.partition("-"))
    try:
        pair = Address(first), Address(last if separator else first)
    except ipaddress.AddressValueError:
        raise FormError("an address or a range, for example 192.168.5.50-192.168.5.59") from None
    if pair[0] > pair[1]:
        raise FormError("a range that begins with its lower address")
    return pair


def _range(value: str) -> str:
    parse_range(value)
    return value


AddressRange = Annotated[str, Checked(_range, "192.168.5.50-192.168.5.59", r"^[0-9.]+(\s*-\s*[0-9.]+)?$")]


def _url(value: str, schemes: tuple[str, ...], expected: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"\s", value):
        raise FormError(expected)
    if "@" in parts.netloc and (parts.scheme != "ssh" or parts.password is not None):
        raise FormError("a URL without credentials")
    return value


def _api_url(value: str) -> str:
    expected = "an https URL of a host, for example https://hades.lan:8006"
    if urlsplit(_url(value, ("https",), expected)).path.strip("/"):
        raise FormError(expected)
    return value


def _git_url(value: str) -> str:
    if re.fullmatch(r"[\w.-]+@[\w.-]+:[^\s:]+", value):
        return value
    return _url(value, ("ssh", "https"), "an ssh:// or https:// URL of a Git repository, or git@host:path")


def _nas_api(value: str) -> str:
    return _url(value, ("wss",), "a wss:// URL, for example wss://scale.lan/api/current")


def _backup_target(value: str) -> str:
    if value.startswith("s3://"):
        form = Form(r"s3://[a-z0-9.-]+@[a-z0-9-]+/\S*", "an S3 target", "s3://bucket@eu-central-1/folder")
        return form.check(value)
    if value.startswith("cifs://"):
        return _url(value, ("cifs",), "a CIFS target, for example cifs://scale.lan/backups")
    form = Form(r"nfs://[A-Za-z0-9.-]+:/\S*", "a backup target", "nfs://scale.lan:/mnt/tank/backups")
    return form.check(value)


def _store_place(value: str) -> str:
    expected = "a folder such as /mnt/backups, or sftp://user@host/path"
    if value.startswith(("/", "~/")) and not re.search(r"[\x00-\x1f]", value):
        return value
    parts = urlsplit(_url(value.replace("sftp://", "ssh://", 1), ("ssh",), expected))
    if not value.startswith("sftp://") or not parts.path.strip("/") or parts.query or parts.fragment:
        raise FormError(expected)
    return value


ApiUrl = Annotated[str, Checked(_api_url, "https://hades.lan:8006", r"^https://[^\s@/]+/?$")]
GitUrl = Annotated[
    str, Checked(_git_url, "ssh://git@github.com/owner/repository.git", r"^(ssh://|https://|[\w.-]+@).+")
]
NasApi = Annotated[str, Checked(_nas_api, "wss://scale.lan/api/current", "^wss://[^\\s@]+$")]
BackupTarget = Annotated[str, Checked(_backup_target, "nfs://scale.lan:/mnt/tank/backups", r"^(nfs|cifs|s3)://.+")]


def parse_hours(value: str) -> tuple[time, time]:
    """Turn `22:00-07:00` into its two times of day; the second may be the earlier one, of the next day."""
    found = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])\s*-\s*([01][0-9]|2[0-3]):([0-5][0-9])", value)
    if found is None:
        raise FormError("two times of day, for example 22:00-07:00")
    first, last = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    if first == last:
        raise FormError("two different times of day, for example 22:00-07:00")
    return first, last


def _hours(value: str) -> str:
    parse_hours(value)
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise FormError("a time zone, for example Europe/Berlin") from None
    return value


Hours = Annotated[
    str, Checked(_hours, "22:00-07:00", r"^([01][0-9]|2[0-3]):[0-5][0-9]\s*-\s*([01][0-9]|2[0-3]):[0-5][0-9]$")
]
Zone = Annotated[str, Checked(_zone, "Europe/Berlin", r"^[A-Za-z][A-Za-z0-9_+/-]*$")]
StorePlace = Annotated[str, Checked(_store_place, "/mnt/backups", r"^(/|~/|sftp://[^\s/]+/).+")]
