"""The NAS: a folder that is its NFS export, and TrueNAS' JSON-RPC over WebSocket."""
