"""The Git host of the lab: a bare repository, served over SSH by the real git."""

from labkit.twin.git.repository import Bare, Person, serve_copy
from labkit.twin.git.server import GitServer

__all__ = ["Bare", "GitServer", "Person", "serve_copy"]
