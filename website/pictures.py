"""Make the README's pictures from the demo: the report by headless Chromium, and `finetune show` as SVG by rich."""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "demo" / "my-fine-tune"
FOLDER = ROOT / "website" / "pictures"
COLUMNS = 172
LEFT_OUT = re.compile(r"^(?!accuracy|macro f1|log loss)[a-z0-9 ]+  +[0-9-]")  # rows of the table
LARGEST = 150_000  # bytes of a picture
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--window-size=1100,860")


def show_as_svg(target: Path) -> None:
    """Run `finetune show` in the demo, and write what it prints as SVG."""
    more = {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "PATH": f"{DEMO}/.venv/bin{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["finetune", "show"], cwd=DEMO, env={**os.environ, **more}, check=True, capture_output=True, encoding="utf-8"
    )
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print("[bold]$ finetune show[/bold]")
    lines = done.stdout.splitlines()
    table = next(number for number, line in enumerate(lines) if "base" in line and "tuned" in line)
    kept = [line for number, line in enumerate(lines) if number <= table or not LEFT_OUT.match(line)]
    last = max(number for number, line in enumerate(kept) if re.match("accuracy|macro f1|log loss", line))
    console.print(Text.from_ansi("\n".join([*kept[: last + 1], "…", *kept[last + 1 :]])))
    # Without the fonts that rich's SVG loads from the network.
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.S)
    svg = console.export_svg(title="", theme=SVG_EXPORT_THEME, code_format=form, unique_id="show")
    target.write_text(svg, encoding="utf-8")


def report_as_png(target: Path) -> None:
    """Write the top of the demo's report as PNG, or leave the picture as it is where no browser is installed."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("No chromium or google-chrome is installed: the picture of the report stays as it is.", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as profile:
        where = [f"--user-data-dir={profile}", f"--screenshot={target}", (DEMO / "reports" / "report.html").as_uri()]
        subprocess.run([browser, *FLAGS, *where], check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    show_as_svg(FOLDER / "show.svg")
    report_as_png(FOLDER / "report.png")
    for picture in FOLDER.iterdir():
        size = picture.stat().st_size
        print(f"{picture.relative_to(ROOT)}: {size / 1000:.0f} kB")
        if size > LARGEST:
            sys.exit(f"error: {picture.name} is too large for a README.")
