"""The charts that the twin knows: what each makes of its values, and what its program then does."""

from labkit.twin.charts.catalogue import Catalogue, Chart, ChartMissing, Found
from labkit.twin.charts.release import Release

__all__ = ["Catalogue", "Chart", "ChartMissing", "Found", "Release"]
