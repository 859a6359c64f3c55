"""Facts: typed, immutable records of what was read from a system; they can be saved as JSON."""
