"""An app as it is wanted: what a person says about it, from which its folder in Git is rendered. Pure data."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from labkit.lab.models import Model
from labkit.lab.types import Checked, Form, FormError, Name, SecretRef, ServerName

_SIZE = re.compile(r"([0-9]{1,6}) ?(Mi|Gi|Ti)B?")
_NFS = re.compile(r"(?:([A-Za-z0-9.-]+):)?(/[^:]*):(/[^:]*?)(?::(ro|rw))?")
_MOUNT = r"/[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*"
_LAST = {"/", "/etc", "/usr", "/bin", "/lib", "/proc", "/sys", "/dev", "/var", "/tmp"}  # noqa: S108  # places of a container


def _size(value: object) -> object:
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise FormError("a size such as 5Gi")
    return f"{int(found[1])}{found[2]}"


def _mount(value: str) -> str:
    if re.fullmatch(_MOUNT, value) is None or "/../" in f"{value}/" or value in _LAST:
        raise FormError("an absolute path inside the container, not of its system, for example /config")
    return value


def _export(value: str) -> str:
    if re.fullmatch(_MOUNT, value) is None or "/../" in f"{value}/":
        raise FormError("an absolute path on the NAS, for example /mnt/tank/media")
    return value


def _image(value: str) -> str:
    form = r"([a-z0-9.-]+(:[0-9]+)?/)?[a-z0-9._/-]+(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
    if re.fullmatch(form, value) is None or "//" in value:
        raise FormError("a container image, for example ghcr.io/traefik/whoami:v1.11.0")
    return value


def _host(value: str) -> str:
    pattern = r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}"
    return Form(pattern, "a host name in lower case, with its domain", "app.example.net").check(value)


def _nfs(value: object) -> object:
    """Read `server:/export:/mount:ro`; server and ro may be left out."""
    if not isinstance(value, str):
        return value
    found = _NFS.fullmatch(value)
    if found is None:
        raise FormError("an NFS mount, export:mount or server:export:mount, :ro behind it to only read")
    given = {"server": found[1], "export": found[2], "mount": found[3], "read_only": found[4] == "ro"}
    return {key: item for key, item in given.items() if item is not None}


Size = Annotated[str, BeforeValidator(_size)]
MountPath = Annotated[str, Checked(_mount, "/config", f"^{_MOUNT}$")]
ExportPath = Annotated[str, Checked(_export, "/mnt/tank/media", f"^{_MOUNT}$")]
Image = Annotated[str, Checked(_image, "ghcr.io/traefik/whoami:v1.11.0")]
AppHost = Annotated[str, Checked(_host, "app.example.net")]
UrlPath = Annotated[str, Form(r"/[A-Za-z0-9._~/%-]*", "a path that begins with a slash", "/oauth/callback")]
EnvName = Annotated[str, Form(r"[A-Za-z_][A-Za-z0-9_.-]*", "the name of an environment variable", "TZ")]
Group = Annotated[str, Form(r"[A-Za-z0-9_.@-]+", "the name of a group", "admins")]


class NfsMount(Model):
    """A folder of the NAS inside the app."""

    export: ExportPath
    """The path on the NAS."""
    mount: MountPath
    """Where the app sees it."""
    read_only: bool = False
    """Whether the app may only read it."""
    server: ServerName | None = None
    """The NFS server; the lab's NAS when absent."""
    size: Size = "10Ti"
    """What the claim asks for: Kubernetes wants a size, NFS does not look at it."""

    @property
    def name(self) -> str:
        """The last part of the path in the app, as a name."""
        return volume_name(self.mount)


Nfs = Annotated[NfsMount, BeforeValidator(_nfs)]


class Volume(Model):
    """A Longhorn volume for what the app keeps."""

    size: Size
    """How large it is, for example 5Gi."""
    mount: MountPath = "/config"
    """Where the app sees it."""
    backup: Name | None = None
    """A group of recurring jobs that it joins; the default group when absent."""

    @property
    def name(self) -> str:
        """The last part of the path in the app, as a name."""
        return volume_name(self.mount)


class Oidc(Model):
    """How the app logs its users in through Authelia."""

    callback: tuple[UrlPath, ...] = Field(min_length=1)
    """Paths that Authelia may send the user back to, as the app's documentation names them."""
    scopes: tuple[str, ...] = ("openid", "profile", "email", "groups")
    """What the app may ask."""
    secret_key: EnvName = "OIDC_CLIENT_SECRET"  # noqa: S105  # the name of a variable
    """The environment variable that gets the client's secret."""
    id_key: EnvName | None = None
    """The environment variable that gets the client's id; none when absent."""
    pkce: bool = False
    """Whether the app must use PKCE."""
    auth_method: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"
    """How the app shows its secret."""


class AppSpec(Model):
    """One app."""

    name: Name
    """Its name: of its folder, and of its objects."""
    image: Image
    """Its container image, with a tag."""
    port: int = Field(ge=1, le=65535)
    """The port that it listens on."""
    host: AppHost
    """The host that it answers for, under the lab's domain."""
    authentication: Literal["forward", "oidc", "none"] = "forward"
    """Who asks for the login: Authelia in front of the app, the app through Authelia, or nobody."""
    restricted: bool = False
    """Whether only one group may use it."""
    group: Group = "admins"
    """That group."""
    policy: Literal["one_factor", "two_factor"] = "one_factor"
    """What Authelia asks for."""
    replicas: int = Field(default=1, ge=1, le=20)
    """How many copies run."""
    volume: Volume | None = None
    """What it keeps; nothing when absent."""
    nfs: tuple[Nfs, ...] = ()
    """Folders of the NAS, `export:mount` or mappings."""
    env: dict[EnvName, str] = Field(default_factory=dict)
    """Its settings; no secrets."""
    secrets: dict[EnvName, SecretRef] = Field(default_factory=dict)
    """Settings that are secret, by reference."""
    oidc: Oidc | None = None
    """For `authentication: oidc`."""
    args: tuple[str, ...] = ()
    """Arguments of the container."""
    health: UrlPath = "/"
    """The path that answers when it is well."""
    cpu: Annotated[str, Form(r"[0-9]+m?", "a CPU request", "50m")] = "50m"
    """The CPU that it asks for."""
    memory: Size = "256Mi"
    """The memory that it asks for and may use."""

    @model_validator(mode="after")
    def _fits(self) -> AppSpec:
        mounts = [one.mount for one in (self.volume, *self.nfs) if one is not None]
        names = [volume_name(mount) for mount in mounts]
        if len(set(mounts)) < len(mounts) or len(set(names)) < len(names):
            raise FormError("mounts that end in different names")
        if self.replicas > 1 and self.volume is not None:
            raise FormError("one replica with a volume: only one pod may write to it")
        if self.authentication == "oidc" and self.oidc is None:
            raise FormError("oidc with its callback, since authentication is oidc")
        if both := sorted(set(self.env) & set(self.secrets)):
            raise FormError(f"each name in env or in secrets, not {', '.join(both)} in both")
        return self

    @property
    def tag(self) -> str:
        """The tag or digest of its image; empty when it has none."""
        _, at, digest = self.image.partition("@")
        return digest if at else self.image.rpartition("/")[2].partition(":")[2]

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The keys of its Secret."""
        made = [self.oidc.secret_key] if self.authentication == "oidc" and self.oidc is not None else []
        return tuple(dict.fromkeys([*self.secrets, *made]))

    @property
    def needs_login(self) -> bool:
        """Whether a stranger is sent to Authelia before the app answers."""
        return self.authentication == "forward"


def volume_name(mount: str) -> str:
    """Turn the last part of a path into the name of a volume."""
    word = re.sub(r"[^a-z0-9-]+", "-", mount.rstrip("/").rpartition("/")[2].lower()).strip("-")
    return word[:40] or "data"


def secret_word(name: str) -> bool:
    """Tell whether a variable of that name usually holds a secret."""
    return re.search(r"(?i)(password|passwd|secret|token|api_?key|private_?key|credential)s?($|_(?!file|path|url))",
                     name) is not None  # fmt: skip


def looks_secret(name: str, value: Any) -> bool:
    """Tell whether a setting is a secret in clear: by its name, and with a value that is no reference or switch."""
    text = str(value).strip()
    if not secret_word(name) or not text or text.startswith(("$", "/")):
        return False
    return text.lower() not in ("true", "false", "yes", "no", "on", "off", "none", "null", "0", "1")
