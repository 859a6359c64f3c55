"""The twin: an embedded stand-in of the owner's lab, on loopback, for rehearsals."""
