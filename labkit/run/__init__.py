"""A run of a runbook: read, plan, approve, apply, verify, finish."""

from labkit.run.core import Run, start

__all__ = ["Run", "start"]
