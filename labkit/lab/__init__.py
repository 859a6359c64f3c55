"""The lab file: typed models and their loader."""

from labkit.lab.loader import load_lab
from labkit.lab.models import Lab, Machine

__all__ = ["Lab", "Machine", "load_lab"]
