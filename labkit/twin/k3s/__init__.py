"""k3s on the twin's guests: its installer, its units, its clusters."""
