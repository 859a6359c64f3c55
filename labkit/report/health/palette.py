"""The colours of the report, light and dark: Okabe and Ito's, which colour-blind people can tell apart. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields

from labkit.health import Light


@dataclass(frozen=True)
class Palette:
    """The colours of one variant; `paper` is behind everything, `ink` is text, `line` the grid."""

    paper: str
    ink: str
    muted: str
    line: str
    good: str
    look: str
    act: str
    unknown: str
    other: str

    def of(self, light: Light) -> str:
        """Return the colour of a light."""
        colour: str = getattr(self, light.value)
        return colour


LIGHT = Palette(
    paper="#ffffff", ink="#1f2328", muted="#59636e", line="#d1d9e0",
    good="#0072b2", look="#e69f00", act="#d55e00", unknown="#8c959f", other="#56b4e9",
)  # fmt: skip
DARK = Palette(
    paper="#15191e", ink="#e8edf2", muted="#a3adb8", line="#3d444d",
    good="#56b4e9", look="#f0b83c", act="#ff8a5c", unknown="#848d97", other="#2f7fb8",
)  # fmt: skip


def css_variables(palette: Palette) -> str:
    """Return the colours as CSS variables: `--lk-paper:#ffffff;...`."""
    return "".join(f"--lk-{one.name}:{getattr(palette, one.name)};" for one in fields(palette))
