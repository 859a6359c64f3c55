"""The example repository: the lab's GitOps tree as data, made into a real Git repository with real encryption."""

from __future__ import annotations

from labkit.twin.repository.build import materialise
from labkit.twin.repository.fill import Secrets
from labkit.twin.repository.values import DATA, LabValues, example_files, lab_values

__all__ = ["DATA", "LabValues", "Secrets", "example_files", "lab_values", "materialise"]
