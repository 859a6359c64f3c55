"""Plots as SVG that follows light and dark by itself, and as small PNG for mail programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from io import BytesIO, StringIO
from typing import Any

import numpy as np

from labkit.report.health.palette import DARK, LIGHT, Palette, css_variables

Draw = Callable[[Palette], Any]
_DPI = 120


@dataclass(frozen=True)
class Plot:
    """A plot that can be drawn in any palette; `alt` says in words what is on it, `name` is unique in a report."""

    name: str
    alt: str
    draw: Draw

    def __repr__(self) -> str:
        return self.alt

    def svg(self) -> str:
        """Return it as SVG whose colours are CSS variables: dark where the reader's screen is dark, light in print."""
        text = _savefig(self.draw(LIGHT), self.name)
        for field in fields(Palette):
            text = text.replace(getattr(LIGHT, field.name), f"var(--lk-{field.name})")
        style = (
            f"<style>.lk{{{css_variables(LIGHT)}}}@media screen and (prefers-color-scheme:dark)"
            f"{{.lk{{{css_variables(DARK)}}}}}</style>"
        )
        head = f'<svg class="lk" role="img" aria-label="{_attribute(self.alt)}"'
        text = text[text.index("<svg") :].replace("<svg", head, 1)
        return re.sub(r"(<svg[^>]*>)", rf"\1{style}", text, count=1)

    def pngs(self) -> tuple[bytes, bytes]:
        """Return it as PNG with few colours, light and dark; it is drawn once, and the dark one gets other colours."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # slow to import
        from PIL import Image  # noqa: PLC0415  # slow to import, and only mail needs it

        figure = self.draw(LIGHT)
        figure.set_dpi(_DPI)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        few = Image.fromarray(_nearest(np.asarray(canvas.buffer_rgba())[..., :3]))
        pages = []
        for palette in (_LIGHT_COLOURS, _DARK_COLOURS):
            few.putpalette(palette)
            data = BytesIO()
            few.save(data, "PNG", compress_level=6)
            pages.append(data.getvalue())
        return pages[0], pages[1]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": self.alt, "image/svg+xml": self.svg()}


def _blends() -> list[tuple[str, str, float]]:
    """Every colour that a plot may hold: those of a palette, and what smoothing makes at the edge of two of them."""
    names = [one.name for one in fields(Palette)]
    found = [(name, name, 0.0) for name in names]
    for back, steps, others in (("paper", 16, ("ink", "muted")), ("paper", 8, names), ("ink", 8, names)):
        found += [(back, name, n / steps) for name in others if name not in ("paper", "ink") or steps == 16
                  for n in range(1, steps)]  # fmt: skip
    return found


def _colours(palette: Palette) -> list[int]:
    """Return all blends of a palette, as a picture's table of colours has them; the same places in every palette."""
    table = []
    for one, two, share in _blends():
        pair = zip(_rgb(getattr(palette, one)), _rgb(getattr(palette, two)), strict=True)
        table += [round(a + share * (b - a)) for a, b in pair]
    return table


def _nearest(pixels: Any) -> Any:
    """Return for each pixel the place of the nearest colour in the table of the light palette."""
    packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    known, places = np.unique(packed, return_inverse=True)
    seen = np.stack([known >> 16, known >> 8 & 255, known & 255], axis=-1).astype(np.int32)
    table = np.array(_LIGHT_COLOURS, dtype=np.int32).reshape(-1, 3)
    nearest = ((seen[:, None, :] - table[None, :, :]) ** 2).sum(axis=-1).argmin(axis=-1)
    return nearest.astype(np.uint8)[places].reshape(packed.shape)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


_LIGHT_COLOURS, _DARK_COLOURS = _colours(LIGHT), _colours(DARK)


def _savefig(figure: Any, name: str) -> str:
    import matplotlib as mpl  # noqa: PLC0415  # slow to import

    text = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", facecolor=LIGHT.paper, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
