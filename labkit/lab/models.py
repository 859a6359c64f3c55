"""The lab file as typed models: pure data, frozen, secrets only by reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from labkit.lab.base import Model
from labkit.lab.health import Health
from labkit.lab.types import (
    NAME_PATTERN,
    SECRET_SCHEMES,
    Address,
    AddressRange,
    ApiUrl,
    BackupTarget,
    Branch,
    Bridge,
    Cores,
    Cron,
    Disk,
    Domain,
    FilePath,
    Fingerprint,
    GitUrl,
    HostName,
    HostPort,
    Hours,
    Interface,
    K3sVersion,
    KubeVip,
    LabelKey,
    LabelValue,
    Memory,
    Name,
    NasApi,
    Network,
    Pool,
    RepoPath,
    Role,
    SearchDomain,
    SecretRef,
    ServerName,
    Storage,
    StorePlace,
    Taint,
    Template,
    TokenId,
    UserName,
    Vlan,
    VmId,
    Zone,
    parse_range,
    parse_size,
)

__all__ = ["NAME_PATTERN", "SECRET_SCHEMES", "Address", "Lab", "Machine", "Model", "Network", "Role", "parse_size"]


class NetworkPart(Model):
    """The LAN that the guests live in."""

    cidr: Network
    """The network, for example 192.168.5.0/24."""
    gateway: Address
    """The router."""
    dns: tuple[Address, ...] = ()
    """Name servers for the guests; the gateway when empty."""
    search: SearchDomain = "lan"
    """The search domain of the guests."""
    load_balancer: tuple[AddressRange, ...] = ()
    """Addresses and ranges (`a-b`) that load balancer services may take; no VM may have one of them."""
    vip: Address | None = None
    """A virtual address of the Kubernetes API (kube-vip); none when absent."""
    vip_interface: Interface | None = None
    """The network interface of the servers that takes it; the one that has their address when absent."""

    @property
    def ranges(self) -> tuple[tuple[Address, Address], ...]:
        """The first and last address of each load balancer range."""
        return tuple(parse_range(text) for text in self.load_balancer)


class Tls(Model):
    """How a self-signed certificate is verified; the system's CAs when both are absent."""

    fingerprint: Fingerprint | None = None
    """The SHA-256 fingerprint, as Proxmox shows it under Certificates."""
    ca: FilePath | None = None
    """A file with the CA certificate (PEM), for Proxmox /etc/pve/pve-root-ca.pem."""


class ApiToken(Model):
    """An API token of Proxmox: its id, and where its secret is kept."""

    id: TokenId
    """user@realm!name"""
    secret: SecretRef
    """Where the secret of the token is kept."""


class Proxmox(Model):
    """The Proxmox cluster."""

    api: tuple[ApiUrl, ...] = Field(min_length=1)
    """URLs of the API, for example https://hades.lan:8006; later ones are used when earlier ones are down."""
    tls: Tls = Tls()
    """How its certificate is verified."""
    token: ApiToken
    """The token that writes; loaded inside apply only."""
    read_token: ApiToken | None = None
    """A token that only reads; the writing one when absent."""
    pool: Pool | None = None
    """A resource pool that new VMs join."""
    tag: Name = "labkit"
    """The tag on every VM that labkit made."""


class Sizing(Model):
    """Sizes that override the more general ones; absent means inherited."""

    cores: Cores | None = None
    """Virtual CPU cores."""
    memory: Memory | None = None
    """Memory, for example 4096 MiB."""
    disk: Disk | None = None
    """The size of the disk, for example 100 GiB; a disk is never shrunk."""


class HostDefaults(Model):
    """What all Proxmox hosts share unless a host says otherwise; `{host}` stands for the host's name."""

    template: Template = "ubuntu-template-{host}"
    """The template VM on each host, by name."""
    storage: Storage = "local-lvm"
    """Where disks of VMs go."""
    bridge: Bridge = "vmbr0"
    """The network bridge that VMs are attached to."""
    vlan: Vlan | None = None
    """The VLAN tag of the VMs; none when absent."""


class Host(Model):
    """One Proxmox host; what is absent comes from the defaults."""

    template: Template | None = None
    """The template VM on this host, by name."""
    storage: Storage | None = None
    """Where disks of VMs go on this host."""
    bridge: Bridge | None = None
    """The network bridge that VMs on this host are attached to."""
    vlan: Vlan | None = None
    """The VLAN tag of the VMs; none when absent."""
    vm: Sizing = Sizing()
    """Sizes of all VMs on this host."""
    server: Sizing = Sizing()
    """Sizes of the control plane VMs on this host."""
    agent: Sizing = Sizing()
    """Sizes of the worker VMs on this host."""


class VmDefaults(Model):
    """The size of a VM for which neither its host nor itself says otherwise."""

    cores: Cores = 2
    """Virtual CPU cores."""
    memory: Memory = 4096
    """Memory, for example 4096 MiB."""
    disk: Disk = 100 * 1024
    """The size of the disk, for example 100 GiB."""


class Defaults(Model):
    """Everything that is the same for most hosts and VMs."""

    host: HostDefaults = HostDefaults()
    """What all hosts share."""
    vm: VmDefaults = VmDefaults()
    """The size of every VM."""


class Vm(Model):
    """One VM: its role in the cluster, where it runs, its address; sizes only where it differs."""

    role: Role
    """server (control plane with etcd) or agent (worker)."""
    host: HostName
    """The Proxmox host that it runs on."""
    address: Address
    """Its static IPv4 address."""
    vmid: VmId | None = None
    """A fixed VMID; the next free one when absent."""
    cores: Cores | None = None
    """Virtual CPU cores."""
    memory: Memory | None = None
    """Memory, for example 4096 MiB."""
    disk: Disk | None = None
    """The size of the disk, for example 100 GiB; a disk is never shrunk."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Kubernetes node labels beside the zone."""
    taints: tuple[Taint, ...] = ()
    """Kubernetes node taints, `key=value:Effect`."""


class Guests(Model):
    """How labkit logs in to the VMs."""

    user: UserName = "ubuntu"
    """The user that cloud-init makes."""
    ssh_key: SecretRef
    """The private key (OpenSSH format); its public half goes into cloud-init."""
    password: SecretRef | None = None
    """A console password for cloud-init; none when absent."""
    upgrade: bool = False
    """Whether cloud-init upgrades all packages at the first boot."""


class K3s(Model):
    """The k3s cluster."""

    version: K3sVersion
    """The version of k3s, for example v1.33.4+k3s1."""
    token: SecretRef
    """The cluster token: a snapshot is worthless without it."""
    install: Literal["script", "airgap"] = "script"
    """Whether a guest fetches the installer itself or gets installer and binary from here."""
    airgap_dir: FilePath | None = None
    """For `install: airgap`: the folder with install.sh, k3s, images (kube-vip's too), sha256sum-amd64.txt."""
    kube_vip: KubeVip = "v0.8.9"
    """The version of kube-vip that serves network.vip; none when something else serves it."""
    disable: tuple[Literal["servicelb", "traefik", "local-storage", "metrics-server", "coredns"], ...] = ()
    """Packaged components that k3s leaves out."""
    kubeconfig: FilePath = "~/.kube/config"
    """The file that gets a context named after the lab."""
    snapshot_schedule: Cron = "0 */6 * * *"
    """When etcd takes its snapshots."""
    snapshot_retention: int = Field(default=20, ge=1)
    """How many scheduled snapshots each server keeps."""
    config: dict[str, Any] = Field(default_factory=dict)
    """More keys of /etc/rancher/k3s/config.yaml for every server."""


class Git(Model):
    """The repository that Flux reconciles."""

    url: GitUrl
    """The repository, for example ssh://git@github.com/owner/repository.git."""
    branch: Branch = "master"
    """The branch that Flux follows."""
    path: RepoPath = "./kubernetes/clusters/production"
    """The folder that Flux applies."""
    deploy_key: SecretRef
    """The private key with which Flux reads the repository."""
    known_hosts: str | None = None
    """A known_hosts file (or text) that verifies the Git server."""
    age_key: SecretRef
    """The age key that decrypts the secrets in the repository."""


class Nas(Model):
    """The TrueNAS box."""

    host: ServerName
    """Its name or address."""
    api: NasApi | None = None
    """wss://host/api/current; derived from the host when absent."""
    tls: Tls = Tls()
    """How its certificate is verified."""
    api_key: SecretRef | None = None
    """The key of its API; its API is not used when absent."""
    api_user: UserName = "labkit"
    """The user that the key belongs to; the role READONLY_ADMIN is enough."""
    backup_target: BackupTarget
    """Longhorn's backup target."""
    store: StorePlace | None = None
    """Where labkit reads that target's folder without the cluster: mounted here, or sftp://user@host/path."""


class Messages(Model):
    """Who is told when something got worse or better."""

    to: tuple[SecretRef, ...] = Field(min_length=1)
    """Destinations: references to URLs as apprise has them (ntfy, mail, Gotify, Matrix, ...)."""
    only: tuple[Literal["worse", "better"], ...] = Field(default=("worse", "better"), min_length=1)
    """What is told of."""
    least: Literal["info", "warning", "error"] = "warning"
    """The severity from which a finding counts."""
    quiet: Hours | None = None
    """Hours in which only new errors are told at once, for example 22:00-07:00; the rest comes afterwards."""
    zone: Zone | None = None
    """The time zone of the quiet hours; that of the machine when absent."""


class Lab(Model):
    """The whole lab, as `parameters/lab.yaml` describes it."""

    name: Name
    """The name of the lab: runs, locks and the kubeconfig context carry it."""
    domain: Domain
    """The domain of the applications."""
    network: NetworkPart
    """The LAN that the guests live in."""
    proxmox: Proxmox
    """The Proxmox cluster."""
    defaults: Defaults = Defaults()
    """Everything that is the same for most hosts and VMs."""
    hosts: dict[HostName, Host] = Field(min_length=1)
    """The Proxmox hosts by name; {} for one that differs in nothing from the defaults."""
    vms: dict[Name, Vm] = Field(min_length=1)
    """The VMs by name, the first server first."""
    guests: Guests
    """How labkit logs in to the VMs."""
    k3s: K3s
    """The k3s cluster."""
    git: Git
    """The repository that Flux reconciles."""
    ingress: Address
    """The address of Traefik's load balancer service."""
    nas: Nas
    """The TrueNAS box."""
    health: Health = Health()
    """What the health report looks at."""
    messages: Messages | None = None
    """Who is told when something got worse or better; nobody when absent."""
    connect_to: dict[HostPort, HostPort] = Field(default_factory=dict)
    """Where to connect instead, as curl's --connect-to: for port forwards and jump hosts; names are still verified."""

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
