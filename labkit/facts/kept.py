"""Where certificates are kept in Git, and until when a copy is of use. Pure."""

from __future__ import annotations

KEPT = "kept/certificates.yaml"
"""The file, from the root of the repository."""
UNTIL = "labkit/kept-until"
"""The annotation of a kept Secret: when its certificate ends; absent for one without an end, such as an account key."""
