"""What holds for all tests: a property is about what is true, never about how long that takes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("labkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("labkit")
