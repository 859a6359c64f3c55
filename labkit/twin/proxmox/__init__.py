"""Proxmox in the twin: fakepve as its own process, and a thin proxy that supplies what it only pretends."""
