"""The twin's Longhorn."""
