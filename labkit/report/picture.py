"""A picture of the lab: hosts side by side, their VMs stacked by role, drawn with matplotlib."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

from labkit.errors import counted
from labkit.lab import Lab, Machine

# Okabe-Ito: told apart by colour-blind people, and in grey by the hatching.
_FACE = {"server": "#0072B2", "agent": "#E69F00"}
_NAME = {"server": "k3s server (control plane, etcd)", "agent": "k3s agent (worker)"}


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure that shows itself in a notebook; `alt` says what is on it."""

    figure: Any
    alt: str

    def __repr__(self) -> str:
        return self.alt

    def png(self) -> bytes:
        """Return the picture as PNG, white behind it, so that it reads on dark pages too."""
        data = BytesIO()
        self.figure.savefig(data, format="png", dpi=110, facecolor="white", metadata={"Software": None})
        return data.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()


def draw_lab(lab: Lab) -> Picture:
    """Draw hosts, VMs, roles, addresses and sizes."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # slow to import, and only pictures need it
    from matplotlib.patches import Patch  # noqa: PLC0415

    columns = {host: sorted(_on(lab, host), key=lambda m: (m.role != "server", m.name)) for host in lab.hosts}
    tallest = max((len(machines) for machines in columns.values()), default=1) or 1
    figure = Figure(figsize=(max(5.0, 3.1 * len(columns)), 1.3 + 0.78 * tallest), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-0.52, len(columns) - 0.48)
    axes.set_ylim(-tallest - 0.15, 0.75)
    for x, (host, machines) in enumerate(columns.items()):
        _draw_host(axes, x, host, machines, tallest)
    handles = [Patch(facecolor=_FACE[role], label=_NAME[role]) for role in ("server", "agent")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(f"Lab {lab.name}: {lab.network.cidr}, load balancer {lab.ingress}", fontsize=11)
    return Picture(figure, f"{counted(len(lab.hosts), 'host')} with {counted(len(lab.vms), 'VM')} of lab {lab.name}")


def _on(lab: Lab, host: str) -> list[Machine]:
    return [machine for machine in lab.machines if machine.host == host]


def _draw_host(axes: Any, x: int, host: str, machines: list[Machine], tallest: int) -> None:
    from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415  # slow to import

    frame = FancyBboxPatch(
        (x - 0.44, -tallest + 0.02), 0.88, tallest + 0.55, boxstyle="round,pad=0.02", fill=False, edgecolor="#888"
    )
    axes.add_patch(frame)
    memory = sum(machine.memory for machine in machines) / 1024
    axes.text(x, 0.42, host, ha="center", va="center", weight="bold", fontsize=11)
    size = f"{counted(len(machines), 'VM')}, {memory:g} GiB memory"
    axes.text(x, 0.17, size, ha="center", va="center", fontsize=8, color="#555")
    for row, machine in enumerate(machines):
        top = -row
        colour = _FACE[machine.role]
        box = FancyBboxPatch(
            (x - 0.40, top - 0.86), 0.80, 0.76, boxstyle="round,pad=0.01", facecolor=colour, edgecolor="none"
        )
        axes.add_patch(box)
        ink = "white" if machine.role == "server" else "black"
        size = f"{machine.cores} cores, {machine.memory} MiB, {machine.disk / 1024:g} GiB"
        axes.text(x, top - 0.28, machine.name, ha="center", va="center", color=ink, weight="bold", fontsize=9)
        axes.text(x, top - 0.50, str(machine.address), ha="center", va="center", color=ink, fontsize=8.5)
        axes.text(x, top - 0.72, size, ha="center", va="center", color=ink, fontsize=7.5)
