"""One module per plot: plain rows in, a matplotlib figure out."""
