"""The SSH host key of a guest: one per VM, made from the seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.twin.secrets import ssh_private_key, ssh_public_key

if TYPE_CHECKING:
    from labkit.twin.guests.guest import Guest


def host_key(guest: Guest) -> str:
    """Return the private host key in OpenSSH's format."""
    return ssh_private_key(guest.host_key_seed)


def host_key_files(guest: Guest) -> dict[str, tuple[str, int]]:
    """Return path, text and mode of the files that hold the host key."""
    private = host_key(guest)
    public = ssh_public_key(private, f"root@{guest.hostname}") + "\n"
    return {
        "/etc/ssh/ssh_host_ed25519_key": (private, 0o600),
        "/etc/ssh/ssh_host_ed25519_key.pub": (public, 0o644),
    }
