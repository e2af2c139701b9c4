"""The report in a real browser: on wide and narrow screens, in light and dark mode."""

import html
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from finished import write_finished

from finetune.stages import report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    # No host is found, so a file from elsewhere would be missing.
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
DARK = "--blink-settings=preferredColorScheme=0"
HEIGHT = 1600

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome is installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("finished"))
        write_finished(Path.cwd())
        report.run()
        return report.PAGE.read_text(encoding="utf-8")


def look(page: str, folder: Path, width: int, *flags: str) -> tuple[int, int, Path]:
    """Return the page's width and height in a window of `width` pixels, and its screenshot.

    The page is shown in a frame, because a browser window is never narrower than 500 pixels.
    """
    assert CHROMIUM
    frame = f"border: 0; display: block; width: {width}px; height: {HEIGHT}px"
    size = "[frames[0].document.documentElement.scrollWidth, frames[0].document.documentElement.scrollHeight]"
    (folder / "frame.html").write_text(
        f"<!doctype html><style>:root {{ color-scheme: light dark }} body {{ margin: 0 }}</style>"
        f'<iframe style="{frame}" srcdoc="{html.escape(page)}"></iframe>'
        f"<script>onload = () => document.title = {size}</script>",
        encoding="utf-8",
    )
    image = folder / "image.png"
    where = [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{HEIGHT}", f"--screenshot={image}"]
    command = [CHROMIUM, *FLAGS, *flags, *where, "--dump-dom", (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, timeout=120)
    found = re.search(r"<title>(\d+),(\d+)</title>", done.stdout)
    assert found, done.stderr
    return int(found[1]), int(found[2]), image


def corner_and_variety(image: Path) -> tuple[tuple[int, ...], int]:
    """Return the colour of the first pixel of a PNG, and the number of different lines. Blank lines are alike."""
    content = image.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, _, depth, kind = struct.unpack(">IIBB", content[16:26])
    size = {2: 3, 6: 4}[kind] * depth // 8
    place, packed = 8, b""
    while place < len(content):
        length, name = struct.unpack(">I4s", content[place : place + 8])
        if name == b"IDAT":
            packed += content[place + 8 : place + 8 + length]
        place += 12 + length
    raw = zlib.decompress(packed)
    # The first pixel has no neighbours, so that every filter of PNG leaves it unchanged.
    lines = {raw[start : start + width * size + 1] for start in range(0, len(raw), width * size + 1)}
    return tuple(raw[1:4]), len(lines)


@pytest.mark.parametrize("width", [400, pytest.param(1400, marks=pytest.mark.slow)])
def test_the_page_fits_its_window_and_is_drawn_in_light_and_dark_mode(page: str, tmp_path: Path, width: int) -> None:
    corners = []
    for flags in ((), (DARK,)):
        wide, high, image = look(page, tmp_path, width, *flags)
        assert wide == width, "the page scrolls sideways"
        assert high > 2 * HEIGHT
        corner, variety = corner_and_variety(image)
        assert variety > 200, "the page is nearly blank"
        corners.append(corner)
    light, dark = corners
    assert min(light) > 240
    assert max(dark) < 40


def test_a_page_that_is_too_wide_is_detected(page: str, tmp_path: Path) -> None:
    wide, _, _ = look(page.replace("<main>", '<main><div style="width: 450px">x</div>'), tmp_path, 400)
    assert wide > 400
