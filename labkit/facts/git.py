"""What was read from the lab's Git repository: the commit at the branch's head, its files, and what they build."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pydantic import ConfigDict, Field

from labkit.facts.proxmox import Fact
from labkit.facts.repository import Build, Cluster, RepositoryFacts, Resource


class Proposal(Fact):
    """A branch that labkit pushed for review: the files that it changes, by path; None for one that it removes."""

    branch: str
    head: str
    files: dict[str, str | None] = Field(default_factory=dict, exclude=True)


class GitFacts(Fact):
    """The lab's repository as it was fetched; the commit stands for all that is not saved with the facts."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    url: str
    branch: str
    path: str
    """The folder of the cluster's entry, from the root: `kubernetes/clusters/production`."""
    head: str = ""
    """The commit at the branch's head; empty for a branch that does not exist yet."""
    host_keys: tuple[str, ...] = ()
    """The fingerprints by which the Git server is known."""
    texts: dict[str, str] = Field(default_factory=dict, exclude=True)
    """The text files by their path."""
    repository: RepositoryFacts = Field(default=RepositoryFacts("", ()), exclude=True)
    proposals: tuple[Proposal, ...] = ()
    flux_version: str = ""
    """The version of the committed components, for example v2.9.4; empty when there are none."""
    controllers: dict[str, str] = Field(default_factory=dict)
    """The image of each of Flux's controllers, by its name."""
    crds: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The versions of each committed custom resource definition of Flux, by its name."""

    @property
    def revision(self) -> str:
        """The head as Flux writes it: `master@sha1:<40 digits>`."""
        return f"{self.branch}@sha1:{self.head}" if self.head else ""

    @property
    def flux_folder(self) -> str:
        """Where bootstrap keeps its files: `<path>/flux-system`."""
        return f"{self.path}/flux-system" if self.path else "flux-system"

    @cached_property
    def cluster(self) -> Cluster | None:
        """The cluster that the lab's path is the entry of."""
        return next((one for one in self.repository.clusters if one.name == (self.path or "flux-system")), None)

    @property
    def builds(self) -> tuple[Build, ...]:
        """Every Kustomization that Flux would build."""
        return self.cluster.builds if self.cluster is not None else ()

    def build(self, name: str) -> Build | None:
        """The build of a Kustomization by `name` or `namespace/name`, or None."""
        return next((one for one in self.builds if name in (one.name, one.source.name)), None)

    def resource(self, kind: str, name: str, namespace: str) -> Resource | None:
        """An object that Flux would apply, or None."""
        found = self.cluster.resources if self.cluster is not None else ()
        return next((one for one in found if (one.kind, one.name, one.namespace) == (kind, name, namespace)), None)

    def place(self, identity: str) -> str:
        """Return `file:line` of an object `Kind/namespace/name`; empty when it does not stand in Git."""
        kind, _, rest = identity.partition("/")
        namespace, _, name = rest.rpartition("/")
        found = self.resource(kind, name, namespace or "default")
        return f"{found.file}:{found.line}" if found is not None else ""

    def places(self) -> Mapping[str, str]:
        """Return the place of every object, by `Kind/namespace/name`."""
        found = self.cluster.resources if self.cluster is not None else ()
        return {f"{one.kind}/{one.namespace}/{one.name}": f"{one.file}:{one.line}" for one in found}
