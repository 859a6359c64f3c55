"""The plots: every row is named in words, shapes say what colours say, and colours hold for everyone."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree as ET

import pytest

from labkit.facts.overview import FluxRow, Overview
from labkit.health import Light
from labkit.report.health.palette import DARK, LIGHT, Palette
from labkit.report.health.panels import MOST, find_panel, lines, make_panels
from labkit.report.health.plots.flux import order_tree
from labkit.report.health.plots.sheet import HATCH, MARKER
from labkit.report.health.views import PanelView
from labkit.report.health.words import days, shorten, size
from tests.report.health.rows import NOW, OVERVIEW, ROOT

PANELS = {panel.name: panel for panel in make_panels(OVERVIEW, NOW)}
SVG = {name: panel.plot.svg() for name, panel in PANELS.items() if panel.plot}


def texts(svg: str) -> str:
    return " ".join("".join(node.itertext()) for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "capacity",
            ["venus/local-lvm", "291 GiB of 300 GiB, full in 4 days", "510 GiB of 572 GiB", "7 TiB of 14 TiB"],
        ),
        ("backups", ["default/memos-data", "2 days old, every 24 hours", "never backed up, no schedule", "1 missed"]),
        ("certificates", ["auth.efym.net and 12 more", "61 days, until 2027-01-23", "ended 2 days ago"]),
        ("restarts", ["media/karakeep-0", "17, 6 since yesterday, last just now"]),
        ("flux", ["Kustomization apps", "HelmRelease traefik/traefik", "suspended", "kustomize build failed"]),
        ("replicas", ["hades", "atlas", "venus", "2 of 2, all on atlas", "0 of 2, faulted"]),
        ("responses", ["memos.efym.net", "1.8 s, usually 80 ms", "no valid answer"]),
        ("scores", ["2026-10-14", "2026-11-23", "100"]),
    ],
)
def test_every_row_is_told_in_words(name: str, words: list[str]) -> None:
    shown = texts(SVG[name])
    assert [word for word in words if word not in shown] == []


@pytest.mark.parametrize("name", sorted(SVG))
def test_svg_takes_its_colours_from_variables_that_follow_the_screen(name: str) -> None:
    svg = SVG[name]
    style, _, drawn = svg.partition("</style>")
    assert "prefers-color-scheme:dark" in style
    assert f"--lk-paper:{DARK.paper}" in style
    assert not set(re.findall(r"#[0-9a-f]{6}", drawn.lower())) - {"#000000"}
    assert "var(--lk-paper)" in drawn
    assert "var(--lk-ink)" in drawn
    assert 'role="img" aria-label="' in style
    assert "<image" not in svg
    assert 'href="http' not in svg
    assert svg == PANELS[name].plot.svg()  # type: ignore[union-attr]  # the same rows, the same bytes


def test_shapes_say_what_colours_say() -> None:
    assert len(set(HATCH.values())) == len(set(MARKER.values())) == len(Light)
    assert SVG["capacity"].count("<pattern") == 2  # one hatch for a warning, another for an error


def linear(colour: str) -> list[float]:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def luminance(colour: str) -> float:
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear(colour), strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# Machado, Oliveira and Fernandes (2009), severity 1.
SIGHT = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def lab_of(colour: str, sight: str) -> tuple[float, float, float]:
    """CIE L*a*b* (D65) of a colour as somebody sees it."""
    rgb = [max(0.0, sum(k * c for k, c in zip(row, linear(colour), strict=True))) for row in SIGHT[sight]]
    to_xyz = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    white = (0.9505, 1.0, 1.089)
    x, y, z = (
        (v / w) ** (1 / 3) if v / w > 0.008856 else 7.787 * v / w + 16 / 116
        for v, w in zip((sum(k * c for k, c in zip(row, rgb, strict=True)) for row in to_xyz), white, strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_lights_differ_for_everyone(palette: Palette, sight: str) -> None:
    colours = {light: lab_of(palette.of(light), sight) for light in (Light.GOOD, Light.LOOK, Light.ACT)}
    for one, other in combinations(colours.values(), 2):
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 15


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_words_are_read_easily_and_marks_have_an_edge(palette: Palette) -> None:
    assert contrast(palette.ink, palette.paper) >= 7
    assert contrast(palette.muted, palette.paper) >= 4.5
    for light in Light:
        assert contrast(palette.ink, palette.of(light)) >= 1.5 or contrast(palette.paper, palette.of(light)) >= 3


def test_panels_say_what_matters_first() -> None:
    assert PANELS["capacity"].says == "Short of room: venus/local-lvm, atlas/local-lvm."
    assert PANELS["capacity"].rows[0].cells[0] == "venus/local-lvm"
    assert PANELS["backups"].says.startswith("Without a timely backup: ")
    assert PANELS["flux"].says == "Not ready: HelmRelease traefik/traefik, Kustomization apps."
    assert PANELS["replicas"].says == "Short or on one host: default/dead, auth/authelia, default/memos-data."
    assert PANELS["scores"].says == "80 today; the lowest of 41 reports since 2026-10-14 was 80, 20 days ago."


def test_a_calm_lab_is_told_calmly() -> None:
    calm = Overview(capacity=OVERVIEW.capacity[:1], flux=OVERVIEW.flux[:3], pods=9)
    made = {panel.name: panel for panel in make_panels(calm, NOW)}
    assert made["capacity"].says == "All 1 have room. The first to be full is hades/local-lvm, in 4 months."
    assert made["flux"].says == "All 3 objects are ready."
    assert made["restarts"].says == "No container of 9 pods was ever restarted."
    assert made["restarts"].plot is None
    assert set(made) == {"capacity", "flux", "restarts"}
    assert find_panel(tuple(made.values()), "backups").says == "No volume with a backup schedule was read."


def test_many_rows_are_cut_at_the_calm_end() -> None:
    many = Overview(capacity=OVERVIEW.capacity[:1] * 60 + OVERVIEW.capacity[1:2])
    panel = make_panels(many, NOW)[0]
    assert len(panel.rows) == MOST
    assert panel.left_out == 61 - MOST
    assert panel.rows[0].light is Light.ACT
    assert next(reversed(list(lines(panel)))) == f"  and {61 - MOST} more"


def test_the_tree_stands_below_its_roots_and_survives_circles() -> None:
    assert [(depth, row.label) for depth, row in order_tree(OVERVIEW.flux)] == [
        (0, "GitRepository flux-system"), (1, "Kustomization flux-system"), (2, "Kustomization infrastructure"),
        (3, "HelmRelease traefik/traefik"), (3, "Kustomization apps"),
    ]  # fmt: skip
    circle = (FluxRow(id="K/a/one", parent="K/a/two"), FluxRow(id="K/a/two", parent="K/a/one"),
              FluxRow(id="K/a/three", parent="K/a/gone"), FluxRow(id=ROOT, parent=ROOT))  # fmt: skip
    assert [(depth, row.id) for depth, row in order_tree(circle)] == [
        (0, "K/a/three"), (0, "K/a/one"), (1, "K/a/two"), (0, ROOT)
    ]  # fmt: skip


def test_a_panel_is_a_table_in_a_notebook_and_lines_in_a_terminal() -> None:
    view = PanelView(PANELS["flux"])
    assert "Not ready: HelmRelease traefik/traefik" in repr(view)
    assert "no such file &lt;here&gt;" in view._repr_html_()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 hours"), (1 / 24, "1 hour"), (1.9, "46 hours"), (2, "2 days"), (89, "89 days"), (90, "3 months"),
     (729, "24 months"), (730, "2 years"), (3650, "10 years")],
)  # fmt: skip
def test_days_in_words(value: float, text: str) -> None:
    assert days(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (312 * 1024**3, "312 GiB"),
                        (1000 * 1024**3, "1 TiB"), (15 * 1024**4, "15 TiB")],
)  # fmt: skip
def test_sizes_in_words(value: int, text: str) -> None:
    assert size(value) == text


def test_long_names_lose_their_middle() -> None:
    assert shorten("default/vaultwarden-data", 30) == "default/vaultwarden-data"
    assert shorten("default/vaultwarden-data-and-more", 20) == "default/vaul…nd-more"
    assert len(shorten("x" * 100, 20)) == 20
