"""The page: one small file that needs nothing, escapes everything, and is dark where the screen is."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from datetime import timedelta
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from labkit.facts.overview import CapacityRow, FluxRow, Overview, ReplicaRow, ResponseRow
from labkit.report.health.grouping import group
from labkit.report.health.page import health_page
from labkit.report.health.palette import DARK
from labkit.report.health.panels import Panel, make_panels
from tests.report.health.rows import GIB, NOW, OVERVIEW, REPORT, WELL

VOID = {"meta", "img", "br", "source"}
PANELS = make_panels(OVERVIEW, NOW)


class Reader(HTMLParser):
    """Collects tags, texts and addresses, and insists that every tag is closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " " if tag == "br" else ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def page() -> str:
    return health_page(REPORT, PANELS)


def test_it_opens_with_the_sentence_then_lights_news_findings_and_panels(page: str) -> None:
    text = " ".join(read(page).text.split())
    order = ["needs you: 1 error & more", "Proxmox ■ 1 error", "NAS ○", "What is new since 2026-11-22 06:30 UTC",
             "Findings", "■ 2 errors", "▲ 1 warning", "○ good to know", "Accepted for a time", "Capacity", "Backups",
             "Certificates", "Restarts", "Flux", "Replicas by host", "Response times", "Score",
             "What was checked"]  # fmt: skip
    place = 0
    for words in order:
        place = text.index(words, place)  # each after the one before
    assert 'run labkit run maintain-host -p host="venus"' in text
    assert re.search(r"<code[^>]*>labkit run maintain-host -p host=&quot;venus&quot;</code>", page)
    assert "what is <wrong> & odd" in text
    assert "since 3 days" in text
    assert "a sample, no secret" in text
    assert "not asked: nas could not be read" in text
    assert "71 of 100 points, ▼ 26 since" in text


def test_it_is_one_file_that_fetches_nothing_and_runs_nothing(page: str) -> None:
    reader = read(page)
    assert not {"script", "link", "iframe", "object", "form", "base", "svg"} & {tag for tag, _ in reader.tags}
    for tag, attributes in reader.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            if name in ("src", "srcset", "href", "background"):
                assert str(value).startswith("data:image/png;base64,"), (tag, name)
            assert not (name == "style" and "url(" in str(value))
    assert "@import" not in page
    assert len(page.encode()) < 1024 * 1024


def test_what_a_mail_program_strips_is_not_needed(page: str) -> None:
    """Without the style sheet every text still has its own colours: they are inline."""
    for tag, attributes in read(page).tags:
        if tag in ("h1", "h2", "body"):
            assert "color:" in str(attributes.get("style")), tag
        if tag == "img":
            assert attributes.get("alt")
            assert "max-width" in str(attributes.get("style"))


def test_pictures_can_travel_beside_a_mail() -> None:
    parts: dict[str, bytes] = {}

    def attach(name: str, png: bytes) -> str:
        parts[name] = png
        return f"cid:{name}"

    text = health_page(REPORT, PANELS[-2:], embed=attach)
    assert set(re.findall(r'(?:src|srcset)="cid:([\w-]+)"', text)) == set(parts)
    assert len(parts) == 2 * sum(panel.plot is not None for panel in PANELS[-2:]) == 4
    for png in parts.values():
        Image.open(BytesIO(png)).verify()


def test_a_large_lab_stays_below_a_mebibyte() -> None:
    many = range(300)
    large = Overview(
        hosts=tuple(f"host-{n}" for n in range(12)),
        capacity=tuple(CapacityRow(name=f"host-{n}/store", kind="x", used=n * GIB, total=300 * GIB) for n in many),
        flux=tuple(FluxRow(id=f"Kustomization/flux-system/app-{n}", state="failed", problem="x" * 500) for n in many),
        replicas=tuple(ReplicaRow(volume=f"default/volume-{n}", wanted=3, hosts={"host-1": 2}) for n in many),
        responses=tuple(ResponseRow(host=f"app-{n}.efym.net", now=n + 1, status=200) for n in many),
        backups=OVERVIEW.backups * 60, certificates=OVERVIEW.certificates * 60, restarts=OVERVIEW.restarts * 60,
        scores=OVERVIEW.scores * 10,
    )  # fmt: skip
    findings = REPORT.findings * 25
    page = health_page(REPORT.model_copy(update={"findings": findings}), make_panels(large, NOW))
    assert len(page.encode()) < 1024 * 1024
    assert "and 276 more, none of them worse" in read(page).text


def test_a_lab_in_which_all_is_well_has_a_short_page() -> None:
    text = " ".join(read(health_page(WELL, ())).text.split())
    assert "This is the first report" in text
    assert "● None: all 1 check passed." in text
    assert "Accepted" not in text


def test_pictures_differ_by_light_and_dark(page: str) -> None:
    data = re.findall(r'(?:srcset|src)="data:image/png;base64,([^"]+)"', page)
    corners = [Image.open(BytesIO(base64.b64decode(text))).convert("L").getpixel((2, 2)) for text in data]
    assert all(dark < 40 for dark in corners[::2])  # type: ignore[operator]
    assert all(light == 255 for light in corners[1::2])


@pytest.mark.parametrize("panel", [panel for panel in PANELS if panel.plot], ids=lambda panel: panel.name)
def test_the_dark_picture_is_what_drawing_it_dark_would_give(panel: Panel) -> None:
    assert panel.plot is not None
    data = BytesIO()
    panel.plot.draw(DARK).savefig(data, format="png", dpi=120, facecolor=DARK.paper)
    wanted = Image.open(data).convert("RGB")
    dark = Image.open(BytesIO(panel.plot.pngs()[1])).convert("RGB")
    assert dark.size == wanted.size
    off = sorted(max(pixel) for pixel in zip(*[iter(ImageChops.difference(dark, wanted).tobytes())] * 3, strict=True))
    assert sum(off) / len(off) < 2.5
    assert off[int(0.97 * len(off))] < 40


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize(("scheme", "back"), [(1, (243, 245, 247)), (0, (13, 16, 20))], ids=["light", "dark"])
def test_a_browser_shows_it_light_and_dark(page: str, tmp_path: Path, scheme: int, back: tuple[int, ...]) -> None:
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    shot = tmp_path / "shot.png"
    subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-background-networking", "--disable-gpu",
         f"--blink-settings=preferredColorScheme={scheme}", "--window-size=900,3000",
         f"--user-data-dir={tmp_path}/home", f"--screenshot={shot}", f"file://{tmp_path}/page.html"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    image = Image.open(shot).convert("RGB")
    assert image.getpixel((3, 3)) == back
    lightness = sum(image.convert("L").resize((1, 1)).tobytes())
    assert lightness > 200 if scheme else lightness < 80


def test_what_says_the_same_of_many_is_told_once() -> None:
    many = [REPORT.findings[2].model_copy(update={"subject": f"VM {n}"}) for n in range(15)]
    groups = group([*many, REPORT.findings[0]])
    assert [len(one.subjects) for one in groups] == [15, 1]
    text = read(health_page(REPORT.model_copy(update={"findings": tuple(many)}), ())).text
    assert "▲ 15 warnings" in text
    assert text.count("what is <wrong> & odd") == 2 + 2  # here and under what was accepted; new and gone
    assert "VM 0, VM 1, " in text
    assert "VM 11 and 3 more: what" in text


def test_the_age_of_findings_is_told() -> None:
    old = REPORT.findings[2].model_copy(update={"since": NOW - timedelta(days=100)})
    text = read(health_page(REPORT.model_copy(update={"findings": (old,)}), ())).text
    assert "since 3 months" in text
