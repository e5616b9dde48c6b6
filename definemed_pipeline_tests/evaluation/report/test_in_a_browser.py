"""The page in a real browser: on a phone, at a desk in the dark, on paper."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from definemed_pipeline.evaluation.report.page import PAGE
from definemed_pipeline_tests.evaluation.report.conftest import World

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.xdist_group("browser"),
]
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
DARK = "--blink-settings=preferredColorScheme=0"
# A window is never narrower than 500 px, a frame may be. The page itself allows no script: the one of the page around it measures.
FRAME = """<!doctype html><body style="margin:0"><iframe id="frame" style="border:0;width:{width}px;height:800px" srcdoc="{page}"></iframe><script>
frame.onload = () => {{
  const inside = frame.contentDocument, width = frame.contentWindow.innerWidth;
  const wide = [...inside.querySelectorAll("body *")].filter(e => !e.closest(".wide, .hidden") && e.getBoundingClientRect().right > width + 1);
  const found = [width, inside.documentElement.scrollWidth, ...wide.slice(0, 5).map(e => e.outerHTML.slice(0, 80))];
  document.body.replaceChildren(); document.body.dataset.measured = found.join("|");
}};
</script>"""


def browse(page: Path, folder: Path, *options: str) -> str:
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={folder / 'profile'}", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def screenshot(world: World, folder: Path, size: str, *options: str) -> NDArray[np.float64]:
    """Return the picture as shape (height, width, 3), values from 0 to 255."""
    picture = folder / "picture.png"
    browse(world.store.folder(world.report) / PAGE, folder, f"--window-size={size}", f"--screenshot={picture}", *options)
    return np.asarray(Image.open(picture).convert("RGB"), dtype=np.float64)


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(world: World, tmp_path: Path, width: int) -> None:
    around = tmp_path / "around.html"
    around.write_text(FRAME.format(width=width, page=html.escape(world.page)), "utf-8")
    (measured,) = re.findall(r'data-measured="([^"]*)"', browse(around, tmp_path, "--window-size=1400,900", "--dump-dom"))
    inner, scrolled, *wide = measured.split("|")
    assert (inner, scrolled, wide) == (str(width), str(width), [])


def test_a_phone_shows_dark_ink_on_light_paper_and_colours(world: World, tmp_path: Path) -> None:
    picture = screenshot(world, tmp_path, "360,1600")
    assert picture.shape == (1600, 360, 3)
    assert picture.mean() > 200
    dark = (picture.max(axis=2) < 90).mean()
    assert 0.01 < dark < 0.3
    assert (np.ptp(picture, axis=2) > 80).sum() > 300  # the colours of the stages


def test_the_dark_theme_shows_light_ink_on_dark_paper(world: World, tmp_path: Path) -> None:
    picture = screenshot(world, tmp_path, "1280,1600", DARK)
    assert picture.mean() < 60
    assert 0.01 < (picture.min(axis=2) > 150).mean() < 0.3
    assert (np.ptp(picture, axis=2) > 80).sum() > 300


def test_on_paper_it_takes_a_few_pages(world: World, tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    browse(world.store.folder(world.report) / PAGE, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    pages = len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes()))
    assert 3 <= pages <= 12
