"""The small text formats inside a Proxmox VM configuration: properties, sizes, tags, keys. Pure."""

from __future__ import annotations

import math
import re
import urllib.parse
from collections.abc import Mapping

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([KMGT]?)$")
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_DRIVE = re.compile(r"^(scsi|virtio|sata|ide)\d+$")
MIB = 1024**2


def parse_props(text: str) -> dict[str, str]:
    """Split `virtio=AA:BB,bridge=vmbr0` into a dict; a part without `=` has the empty key."""
    props = {}
    for part in text.split(","):
        key, separator, value = part.partition("=")
        if part:
            props[key if separator else ""] = value if separator else part
    return props


def render_props(props: Mapping[str, str]) -> str:
    """Join what `parse_props` split."""
    return ",".join(f"{key}={value}" if key else value for key, value in props.items())


def parse_bytes(text: str) -> int | None:
    """Turn a disk size of Proxmox (`32G`, `528K`, `1.5T`) into bytes; None when it is none."""
    match = _SIZE.match(text)
    return int(float(match[1]) * _BYTES[match[2]]) if match else None


def parse_tags(text: str) -> tuple[str, ...]:
    """Split tags, which Proxmox separates with semicolons, commas or spaces, in alphabetical order."""
    return tuple(sorted({tag for tag in re.split(r"[;,\s]+", text) if tag}))


def parse_flag(text: str) -> bool:
    """Read a boolean of Proxmox."""
    return text.strip().lower() in ("1", "on", "yes", "true")


def parse_agent(text: str) -> bool:
    """Read whether the guest agent is enabled: `1`, `1,type=virtio`, `enabled=1`."""
    props = parse_props(text)
    return parse_flag(props.get("enabled", props.get("", "0")))


def parse_memory(text: str) -> int | None:
    """Read memory in MiB: `4096`, since Proxmox 8.1 also `current=4096`."""
    number = text.removeprefix("current=").split(",")[0]
    return int(number) if number.isdigit() else None


def ssh_keys(text: str) -> frozenset[tuple[str, str]]:
    """Read URL-encoded authorized keys as (type, base64) pairs, without comments."""
    lines = (line.split() for line in urllib.parse.unquote(text).splitlines())
    return frozenset((words[0], words[1]) for words in lines if len(words) >= 2)


def boot_disk(config: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the key and the size in MiB (rounded up) of the disk that a VM boots from, or None without one."""
    boot = parse_props(config.get("boot", "").replace("order=", "order:", 1)).get("", "")
    first = [key for key in boot.removeprefix("order:").split(";") if key]
    others = sorted(key for key in config if _DRIVE.match(key))
    for key in [*first, config.get("bootdisk", ""), *others]:
        props = parse_props(config.get(key, "")) if _DRIVE.match(key) else {}
        size = parse_bytes(props.get("size", ""))
        if size is not None and props.get("media") != "cdrom":
            return key, math.ceil(size / MIB)
    return None


def has_cloud_init_drive(config: Mapping[str, str]) -> bool:
    """Whether a VM has the drive that hands its settings to cloud-init."""
    return any(_DRIVE.match(key) and "cloudinit" in value.split(",")[0] for key, value in config.items())
