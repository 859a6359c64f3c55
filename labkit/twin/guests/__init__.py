"""The VMs of the twin from the inside: boot, cloud-init, files, units, a shell, and SSH."""

from labkit.twin.guests.group import Guests
from labkit.twin.guests.guest import Guest

__all__ = ["Guest", "Guests"]
