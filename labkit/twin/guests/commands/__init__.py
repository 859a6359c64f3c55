"""The commands of a guest, by name: others add theirs with `command` or, for one guest, to `guest.commands`."""

from labkit.twin.guests.commands.registry import COMMANDS, SCRIPTS, Command, Run, command, script

__all__ = ["COMMANDS", "SCRIPTS", "Command", "Run", "command", "script"]
