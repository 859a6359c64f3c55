"""One twin of three hosts with a cluster for all tests of this folder, and a look at it as the report takes it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from labkit.checks.health import Area, Scene, all_checks
from labkit.facts.survey import Unread
from labkit.lab import load_lab
from labkit.lab.models import Tls
from labkit.run.survey import survey
from labkit.secrets import Secrets
from labkit.systems.access import Access, Clock, Tally
from labkit.twin.client import TwinHandle, start_twin

LAB_FILE = Path(__file__).parents[2] / "data" / "e2e" / "k3s" / "lab.yaml"
SYSTEMS = ("proxmox-health", "guest-health", "kubernetes")
AREAS = (Area.PROXMOX, Area.GUESTS, Area.KUBERNETES)


class Bench:
    """A twin, and the reading of it."""

    def __init__(self, twin: TwinHandle, lab_file: Path) -> None:
        self.twin = twin
        self.lab = load_lab(lab_file)
        state = twin.state / "labkit"
        state.mkdir(exist_ok=True)
        self.access = Access(
            on="twin", secrets=Secrets(twin.secrets, Path.cwd()), state=state, clock=Clock(twin.scale),
            connect_file=twin.connect_file, closed=True, tally=Tally(),
            trust={name: Tls(**trust) for name, trust in twin.trust.items()},
        )  # fmt: skip

    def read(self, *names: str) -> dict[str, Any]:
        """Read systems, all of which must answer."""
        facts = dict(survey(self.lab, self.access, names or SYSTEMS).facts)
        away = [str(one) for one in facts.values() if isinstance(one, Unread)]
        assert not away
        return facts

    def find(self, *names: str) -> list[tuple[str, str, str]]:
        """Return what the checks of the three areas find in what these systems show."""
        scene = Scene(self.lab, self.read(*names), datetime.now(UTC))
        checks = [check for check in all_checks() if check.area in AREAS and not check.missing(scene)]
        return sorted((one.id, str(one.severity), one.subject) for check in checks for one in check(scene))

    def requests(self, *names: str) -> Counter[str]:
        """Return how many requests a reading takes, by port."""
        before = self.access.tally.view()
        self.read(*names)
        found: Counter[str] = Counter()
        for place, count in (self.access.tally.view() - before).items():
            found[place.rpartition(":")[2]] += count
        return found


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("lab") / "parameters"
    folder.mkdir()
    lab_file = Path(shutil.copy(LAB_FILE, folder / "lab.yaml"))
    twin = start_twin(lab_file, state=tmp_path_factory.mktemp("twin"), scenario="k3s", scale=0.01)
    try:
        yield Bench(twin, lab_file)
    finally:
        twin.stop()
