"""Small loops that do to objects what the controllers of a real cluster do."""
