"""Ingress in the twin: a real Traefik in front of stand-ins for apps and for Authelia."""

from labkit.twin.ingress.traefik import Ingress

__all__ = ["Ingress"]
