"""labkit: homelab runbooks that can be rehearsed on a twin."""

__version__ = "0.1.0"
