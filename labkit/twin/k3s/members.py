"""The members of a cluster's etcd: who votes, who is up, who may join."""

from __future__ import annotations

from dataclasses import dataclass, field

from labkit.twin.k3s.errors import Fatal


@dataclass
class Member:
    """One copy of the data: on which node it is, and whether it votes and runs."""

    id: str
    node: str
    address: str
    voter: bool = False
    up: bool = False


@dataclass
class Members:
    """All members, by the name of their node."""

    by_node: dict[str, Member] = field(default_factory=dict)

    @property
    def voters(self) -> list[Member]:
        """Those that vote."""
        return [member for member in self.by_node.values() if member.voter]

    @property
    def has_quorum(self) -> bool:
        """Whether more than half of the voters run."""
        return 2 * sum(member.up for member in self.voters) > len(self.voters)

    def of(self, ident: str) -> Member | None:
        """Return a member by its id."""
        return next((member for member in self.by_node.values() if member.id == ident), None)

    def busy(self) -> str:
        """Return why nobody can join now; empty when one can."""
        if any(not member.voter for member in self.by_node.values()):
            return "etcdserver: too many learner members in cluster"
        if not self.has_quorum:
            return "context deadline exceeded"
        return "" if all(member.up for member in self.voters) else "etcdserver: unhealthy cluster"

    def add(self, member: Member) -> Member:
        """Add a member; raise Fatal when its node has one already."""
        if member.node in self.by_node:
            raise Fatal("duplicate node name found, please use a unique name for this node")
        self.by_node[member.node] = member
        return member

    def remove(self, node: str) -> None:
        """Remove the member of a node, if it has one."""
        self.by_node.pop(node, None)
