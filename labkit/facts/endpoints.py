"""What was seen when the lab's addresses were knocked at, and when its secret references were looked up."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class Endpoint(BaseModel):
    """One address: whether it answers, and how its certificate was verified."""

    model_config = ConfigDict(frozen=True)

    name: str
    """host:port"""
    purpose: str
    reachable: bool
    verified: bool
    """Whether the certificate is the expected one: by CA, by fingerprint, or by the system's CAs."""
    expires: datetime | None = None
    problem: str = ""
    milliseconds: float = 0.0


class EndpointFacts(BaseModel):
    """All addresses that runbooks will use."""

    model_config = ConfigDict(frozen=True)

    endpoints: tuple[Endpoint, ...]
    read_at: datetime


class Reference(BaseModel):
    """One secret reference of the lab file, where it stands, and what is wrong with it (nothing when empty)."""

    model_config = ConfigDict(frozen=True)

    where: str
    reference: str
    problem: str = ""


class ReferenceFacts(BaseModel):
    """All secret references of the lab file."""

    model_config = ConfigDict(frozen=True)

    references: tuple[Reference, ...]
