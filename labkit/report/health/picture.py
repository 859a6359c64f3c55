"""Plots as SVG that follows light and dark by itself, and as small PNG for mail programs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from io import BytesIO, StringIO
from itertools import combinations
from typing import Any

import numpy as np

from labkit.report.health.palette import DARK, LIGHT, Palette, css_variables

Draw = Callable[[Palette], Any]
_DPI = 120
_COLOURS = 64
Rgb = tuple[int, int, int]


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
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        few = image.quantize(_COLOURS, dither=Image.Dither.NONE)
        used = few.getpalette() or []
        light = [(used[n], used[n + 1], used[n + 2]) for n in range(0, len(used), 3)]
        pages = []
        for colours in (light, [to_dark(colour) for colour in light]):
            few.putpalette([part for colour in colours for part in colour])
            data = BytesIO()
            few.save(data, "PNG", compress_level=6)
            pages.append(data.getvalue())
        return pages[0], pages[1]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": self.alt, "image/svg+xml": self.svg()}


def to_dark(colour: Rgb) -> Rgb:
    """Return what takes a colour's place in the dark variant.

    A colour of the light palette becomes that of the dark one. Any other is what smoothing left at the edge between
    two of them, and becomes the same blend of their dark ones.
    """
    best, found = math.inf, (0.0, 0.0, 0.0)
    for (one, dark_one), (two, dark_two) in combinations(_PAIRS, 2):
        step = [b - a for a, b in zip(one, two, strict=True)]
        along = sum((c - a) * s for c, a, s in zip(colour, one, step, strict=True)) / sum(s * s for s in step)
        share = min(1.0, max(0.0, along))
        share = round(share) if min(share, 1 - share) < _EXACT else share
        off = sum((c - a - share * s) ** 2 for c, a, s in zip(colour, one, step, strict=True))
        if off < best:
            best = off
            found = tuple(a + share * (b - a) for a, b in zip(dark_one, dark_two, strict=True))  # type: ignore[assignment]
    return round(found[0]), round(found[1]), round(found[2])


def _rgb(colour: str) -> Rgb:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


_PAIRS = [(_rgb(getattr(LIGHT, one.name)), _rgb(getattr(DARK, one.name))) for one in fields(Palette)]
_EXACT = 0.03


def _savefig(figure: Any, name: str) -> str:
    import matplotlib as mpl  # noqa: PLC0415  # slow to import

    text = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", facecolor=LIGHT.paper, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
