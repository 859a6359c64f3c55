"""Rules: pure functions from what is wanted and what was seen to a plan."""
