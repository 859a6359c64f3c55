import pytest

from labkit.systems.access import Clock
from labkit.systems.retry import retry


@pytest.mark.parametrize("scale", [1e-9, 1e-3])
def test_attempts_are_made_however_quick_the_time_of_the_twin_is(scale: float) -> None:
    left = list(range(4))

    def once() -> str:
        if left:
            left.pop()
            raise OSError("broken")
        return "there"

    assert retry(once, on=OSError, clock=Clock(scale), deadline=30, pause=0.5, attempts=5) == "there"


def test_after_the_last_attempt_its_error_is_raised() -> None:
    seen: list[int] = []

    def once() -> None:
        seen.append(len(seen))
        raise OSError(f"broken {len(seen)}")

    with pytest.raises(OSError, match="broken 3"):
        retry(once, on=OSError, clock=Clock(1e-6), deadline=30, attempts=3)
