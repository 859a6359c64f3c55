"""Systems: one module per outside system; they read, apply and wait, and never decide."""
