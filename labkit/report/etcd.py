"""Snapshots and members of etcd as pandas tables. Pure."""

from __future__ import annotations

import pandas as pd

from labkit.facts.etcd import EtcdFacts, Snapshot
from labkit.facts.guests import GuestFacts, TokenState
from labkit.facts.k3s import K3sFacts
from labkit.lab import Lab

_MIB = 1024**2
_TOKENS = {TokenState.SAME: "fits", TokenState.OTHER: "another one", TokenState.UNKNOWN: "", TokenState.NONE: ""}


def snapshot_table(facts: EtcdFacts, *, most: int = 12) -> pd.DataFrame:
    """Return one row per snapshot, the newest first: when, where, how large, and whether it can be restored."""
    rows = [_snapshot(snapshot) for snapshot in facts.snapshots[:most]]
    columns = ["snapshot", "made (UTC)", "MiB", "where", "token", "whole"]
    return pd.DataFrame(rows, columns=columns).set_index("snapshot")


def _snapshot(snapshot: Snapshot) -> dict[str, str]:
    whole = "" if not snapshot.examined else snapshot.problem or "yes"
    return {
        "snapshot": snapshot.name,
        "made (UTC)": f"{snapshot.created:%Y-%m-%d %H:%M:%S}",
        "MiB": f"{snapshot.size / _MIB:.1f}",
        "where": ", ".join(dict.fromkeys(place.where for place in snapshot.places)),
        "token": _TOKENS[snapshot.token],
        "whole": whole,
    }


def member_table(lab: Lab, guests: GuestFacts, k3s: K3sFacts, etcd: EtcdFacts) -> pd.DataFrame:
    """Return one row per server of the lab: what data it holds, how k3s stands, whether it votes."""
    return pd.DataFrame([_member(name, guests, k3s, etcd) for name in (s.name for s in lab.servers)]).set_index(
        "server"
    )


def _member(name: str, guests: GuestFacts, k3s: K3sFacts, etcd: EtcdFacts) -> dict[str, str]:
    guest, node, seen = guests.guest(name), k3s.node(name), etcd.server(name)
    votes = "" if node is None or node.voter is None else "yes" if node.voter and node.ready else "no"
    return {
        "server": name,
        "answers": "yes" if guest.reachable else "no",
        "k3s": guest.unit("server") if guest.installed else "none",
        "data": "yes" if guest.server_db else "none",
        "token": _TOKENS[guest.server_token],
        "votes": votes,
        "set aside": ", ".join(path.rpartition("/")[2] for path in seen.aside),
    }
