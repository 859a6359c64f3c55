"""TrueNAS by its JSON-RPC API over WebSocket, read only."""

from labkit.systems.nas.read import read_nas

__all__ = ["read_nas"]
