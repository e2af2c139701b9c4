"""The table of docs/recipes.md is that of bench/recipes.py, and the starters use the recipes that it supports."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = next(ROOT.glob("*cookiecutter.project_slug*"))
PAGE = PROJECT / "docs" / "recipes.md"
TABLE = "import recipes; recipes.print_table(recipes.read_results(recipes.RESULTS))"
PREFERENCES = "import preferences; preferences.print_table()"


def table(code: str = TABLE) -> list[str]:
    """Return the lines that bench/recipes.py or bench/preferences.py prints, without training."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT / "bench", check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_page_has_the_table_of_the_measurements() -> None:
    for code in (TABLE, PREFERENCES):
        lines = table(code)
        assert len(lines) > 2
        assert "\n".join(lines) in PAGE.read_text(encoding="utf-8")


def test_each_measured_recipe_is_in_the_table() -> None:
    """A recipe that is no longer in RECIPES would be in the file and in no table."""
    measured = (ROOT / "bench" / "recipes.jsonl").read_text(encoding="utf-8").splitlines()
    assert len({json.dumps([line["set"], line["recipe"]]) for line in map(json.loads, measured)}) == len(table()) - 2


def test_the_starters_leave_layers_and_rate_to_auto() -> None:
    for name in ("classify", "extract", "generate"):
        own = (PROJECT / "starters" / name / "params.yaml").read_text(encoding="utf-8")
        assert "multiplier" not in own
        assert "lora_layers" not in own
