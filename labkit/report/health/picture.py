"""Plots as SVG that follows light and dark by itself, and as small PNG for mail programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from io import BytesIO, StringIO
from typing import Any

from labkit.report.health.palette import DARK, LIGHT, Palette, css_variables

Draw = Callable[[Palette], Any]
_DPI = 120
_COLOURS = 48


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

    def png(self, palette: Palette = LIGHT) -> bytes:
        """Return it as PNG with few colours."""
        from PIL import Image  # noqa: PLC0415  # slow to import, and only mail needs it

        data = BytesIO()
        self.draw(palette).savefig(data, format="png", dpi=_DPI, facecolor=palette.paper, metadata={"Software": None})
        small = BytesIO()
        with Image.open(data) as image:
            image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        return small.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": self.alt, "image/svg+xml": self.svg()}


def _savefig(figure: Any, name: str) -> str:
    import matplotlib as mpl  # noqa: PLC0415  # slow to import

    text = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", facecolor=LIGHT.paper, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
