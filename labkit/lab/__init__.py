"""The lab file: typed models and their loader."""

from labkit.lab.models import Lab, Machine

__all__ = ["Lab", "Machine"]
