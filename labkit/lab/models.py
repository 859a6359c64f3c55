"""The lab file as typed models: pure data, frozen, secrets only by reference."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

Role = Literal["server", "agent"]

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
SECRET_SCHEMES = ("env", "file", "sops", "keyring")
_SIZE = re.compile(r"^\s*(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$")
_MIB = {"MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}


def parse_size(value: object) -> int:
    """Turn `4096 MiB`, `100 GiB` or `1 TiB` into MiB; raise ValueError with the accepted form."""
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a size with its unit, for example 4096 MiB or 100 GiB")
    number, unit = float(match[1]), match[2]
    if unit not in _MIB:
        raise ValueError("one of the units MiB, GiB, TiB")
    mib = number * _MIB[unit]
    if mib <= 0:
        raise ValueError("a size above zero")
    if mib != int(mib):
        raise ValueError("a whole number of MiB")
    return int(mib)


def _secret_reference(value: str) -> str:
    scheme, separator, rest = value.partition(":")
    if not separator or not scheme.isidentifier():
        raise ValueError("a reference (env:NAME, file:path, sops:file#key, keyring:service/name), no literal")
    if scheme not in SECRET_SCHEMES:
        raise ValueError("one of the schemes " + ", ".join(f"{name}:" for name in SECRET_SCHEMES))
    if not rest.strip():
        raise ValueError(f"something after {scheme}:")
    if scheme == "sops" and "#" not in rest:
        raise ValueError("sops:file#key.path")
    if scheme == "keyring" and "/" not in rest:
        raise ValueError("keyring:service/name")
    return value


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ ?(MiB|GiB|TiB)$", "examples": ["4096 MiB"]}),
]
"""A size in MiB, written with its unit."""

SecretRef = Annotated[
    str,
    AfterValidator(_secret_reference),
    WithJsonSchema({"type": "string", "pattern": r"^(env|file|sops|keyring):.+$", "examples": ["env:NAME"]}),
]
"""A reference to a secret: env:NAME, file:path, sops:file#key.path, keyring:service/name."""

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""A DNS label: lower-case letters, digits and dashes."""

Address = ipaddress.IPv4Address
Network = ipaddress.IPv4Network


class Model(BaseModel):
    """The base of all parts of a lab: frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NetworkPart(Model):
    """The LAN that the guests live in."""

    cidr: Network
    """The network, for example 192.168.5.0/24."""
    gateway: Address
    """The router."""
    dns: tuple[Address, ...] = ()
    """Name servers for the guests; the gateway when empty."""
    search: str = "lan"
    """The search domain of the guests."""
    load_balancer: tuple[str, ...] = ()
    """Addresses and ranges (`a-b`) that load balancer services may take; no VM may have one of them."""
    vip: Address | None = None
    """A virtual address of the Kubernetes API (kube-vip); none when absent."""


class Tls(Model):
    """How a self-signed certificate is verified; the system's CAs when both are absent."""

    fingerprint: str | None = Field(default=None, pattern=r"^([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$")
    """The SHA-256 fingerprint, as Proxmox shows it under Certificates."""
    ca: str | None = None
    """A file with the CA certificate (PEM), for Proxmox /etc/pve/pve-root-ca.pem."""


class ApiToken(Model):
    """An API token of Proxmox: its id, and where its secret is kept."""

    id: str = Field(pattern=r"^[^@!\s]+@[^@!\s]+![^@!\s]+$")
    """user@realm!name"""
    secret: SecretRef


class Proxmox(Model):
    """The Proxmox cluster."""

    api: tuple[str, ...] = Field(min_length=1)
    """URLs of the API, for example https://hades.lan:8006; later ones are used when earlier ones are down."""
    tls: Tls = Tls()
    token: ApiToken
    """The token that writes; loaded inside apply only."""
    read_token: ApiToken | None = None
    """A token that only reads; the writing one when absent."""
    pool: str | None = None
    """A resource pool that new VMs join."""
    tag: Name = "labkit"
    """The tag on every VM that labkit made."""


class Sizing(Model):
    """Sizes that override the more general ones; absent means inherited."""

    cores: int | None = Field(default=None, ge=1, le=512)
    memory: Size | None = None
    disk: Size | None = None


class HostDefaults(Model):
    """What all Proxmox hosts share unless a host says otherwise; `{host}` stands for the host's name."""

    template: str = "ubuntu-template-{host}"
    """The template VM on each host, by name."""
    storage: str = "local-lvm"
    """Where disks of VMs go."""
    bridge: str = "vmbr0"
    vlan: int | None = Field(default=None, ge=1, le=4094)


class Host(Model):
    """One Proxmox host; what is absent comes from the defaults."""

    template: str | None = None
    storage: str | None = None
    bridge: str | None = None
    vlan: int | None = Field(default=None, ge=1, le=4094)
    vm: Sizing = Sizing()
    """Sizes of all VMs on this host."""
    server: Sizing = Sizing()
    """Sizes of the control plane VMs on this host."""
    agent: Sizing = Sizing()
    """Sizes of the worker VMs on this host."""


class VmDefaults(Model):
    """The size of a VM for which neither its host nor itself says otherwise."""

    cores: int = Field(default=2, ge=1, le=512)
    memory: Size = 4096
    disk: Size = 100 * 1024


class Defaults(Model):
    """Everything that is the same for most hosts and VMs."""

    host: HostDefaults = HostDefaults()
    vm: VmDefaults = VmDefaults()


class Vm(Model):
    """One VM: its role in the cluster, where it runs, its address; sizes only where it differs."""

    role: Role
    host: str
    address: Address
    vmid: int | None = Field(default=None, ge=100, le=999_999_999)
    """A fixed VMID; the next free one when absent."""
    cores: int | None = Field(default=None, ge=1, le=512)
    memory: Size | None = None
    disk: Size | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    """Kubernetes node labels beside the zone."""
    taints: tuple[str, ...] = ()
    """Kubernetes node taints, `key=value:Effect`."""


class Guests(Model):
    """How labkit logs in to the VMs."""

    user: str = Field(default="ubuntu", pattern=r"^[a-z_][a-z0-9_-]*$")
    ssh_key: SecretRef
    """The private key (OpenSSH format); its public half goes into cloud-init."""
    password: SecretRef | None = None
    """A console password for cloud-init; none when absent."""
    upgrade: bool = False
    """Whether cloud-init upgrades all packages at the first boot."""


class K3s(Model):
    """The k3s cluster."""

    version: str = Field(pattern=r"^v1\.\d+\.\d+\+k3s\d+$")
    token: SecretRef
    """The cluster token: a snapshot is worthless without it."""
    install: Literal["script", "airgap"] = "script"
    """Whether a guest fetches the installer itself or gets installer and binary from here."""
    airgap_dir: str | None = None
    """For `install: airgap`: the folder with install.sh, k3s, images and sha256sum-amd64.txt."""
    disable: tuple[Literal["servicelb", "traefik", "local-storage", "metrics-server", "coredns"], ...] = ()
    """Packaged components that k3s leaves out."""
    kubeconfig: str = "~/.kube/config"
    """The file that gets a context named after the lab."""
    snapshot_schedule: str = "0 */6 * * *"
    snapshot_retention: int = Field(default=20, ge=1)
    config: dict[str, Any] = Field(default_factory=dict)
    """More keys of /etc/rancher/k3s/config.yaml for every server."""


class Git(Model):
    """The repository that Flux reconciles."""

    url: str = Field(pattern=r"^(ssh://|https://|git@).+")
    branch: str = "master"
    path: str = "./kubernetes/clusters/production"
    deploy_key: SecretRef
    known_hosts: str | None = None
    """A known_hosts file (or text) that verifies the Git server."""
    age_key: SecretRef
    """The age key that decrypts the secrets in the repository."""


class Nas(Model):
    """The TrueNAS box."""

    host: str
    api: str | None = None
    """wss://host/api/current; derived from the host when absent."""
    tls: Tls = Tls()
    api_key: SecretRef | None = None
    backup_target: str = Field(pattern=r"^(nfs|cifs|s3)://.+")
    """Longhorn's backup target."""


class Lab(Model):
    """The whole lab, as `parameters/lab.yaml` describes it."""

    name: Name
    domain: str = Field(pattern=r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$")
    network: NetworkPart
    proxmox: Proxmox
    defaults: Defaults = Defaults()
    hosts: dict[Name, Host] = Field(min_length=1)
    vms: dict[Name, Vm] = Field(min_length=1)
    guests: Guests
    k3s: K3s
    git: Git
    ingress: Address
    """The address of Traefik's load balancer service."""
    nas: Nas

    @property
    def machines(self) -> tuple[Machine, ...]:
        """Every VM with all defaults filled in, in the order of the file."""
        return tuple(resolve_machine(self, name) for name in self.vms)

    @property
    def servers(self) -> tuple[Machine, ...]:
        """The control plane VMs, in the order of the file."""
        return tuple(machine for machine in self.machines if machine.role == "server")


class Machine(Model):
    """One VM with everything that it inherits: what the rules work on. Sizes in MiB."""

    name: str
    role: Role
    host: str
    address: Address
    vmid: int | None
    cores: int
    memory: int
    disk: int
    template: str
    storage: str
    bridge: str
    vlan: int | None
    labels: Mapping[str, str]
    taints: tuple[str, ...]


def resolve_machine(lab: Lab, name: str) -> Machine:
    """Fill in a VM's defaults: its own value, else by role on its host, else its host's, else everyone's."""
    vm, host = lab.vms[name], lab.hosts[lab.vms[name].host]
    layers = (vm, host.server if vm.role == "server" else host.agent, host.vm, lab.defaults.vm)

    def size(field: str) -> int:
        return next(int(value) for layer in layers if (value := getattr(layer, field)) is not None)

    def place(field: str) -> Any:
        own = getattr(host, field)
        return getattr(lab.defaults.host, field) if own is None else own

    return Machine(
        name=name, role=vm.role, host=vm.host, address=vm.address, vmid=vm.vmid,
        cores=size("cores"), memory=size("memory"), disk=size("disk"),
        template=place("template").replace("{host}", vm.host), storage=place("storage"),
        bridge=place("bridge"), vlan=place("vlan"), labels=vm.labels, taints=vm.taints,
    )  # fmt: skip
