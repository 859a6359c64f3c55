"""Checks: pure predicates on facts that give findings."""
