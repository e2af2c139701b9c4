"""Measure recipes of the method dpo on the starter `prefer`: held-out pairs before and after, as a Markdown table.

What was measured is kept in `bench/preferences.jsonl`, and is not measured again. It is no part of
`make bench`: `demo/my-fine-tune/.venv/bin/python bench/preferences.py`.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import ROOT, use_demo
from recipes import Recipe, make_project, measure

RESULTS = ROOT / "bench" / "preferences.jsonl"
BETA = 0.1
RECIPES = (Recipe("eighth", 10, 1),)
HEAD = """| layers | multiplier | epochs | pairs ahead, base → tuned | margin, base → tuned | chrF | general | CPU s |
|---|---|---|---|---|---|---|---|"""


def measure_pairs(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train the starter by a recipe, and return the figures of recipes.py with those of the held-out pairs."""
    project = make_project("prefer", folder)
    found = measure(project, folder / "home", recipe)
    evaluation = json.loads((project / "reports" / "evaluation.json").read_text(encoding="utf-8"))
    return {**found, "preferences": evaluation["preferences"]}


def row_of(recipe: Recipe, found: dict[str, Any]) -> str:
    """Return the figures of one training as a row of the table."""
    pairs, general = found["preferences"], found["general"]
    cells = [
        recipe.layers,
        f"{recipe.multiplier:g}",
        recipe.n_epochs,
        f"{pairs['base']:.3f} → {pairs['tuned']:.3f} (p = {pairs['p_value']:.1g})",
        f"{pairs['base_margin']:+.1f} → {pairs['tuned_margin']:+.1f} (p = {pairs['margin_p_value']:.1g})",
        f"{found['base']:.3f} → {found['tuned']['chrf']:.3f}",
        f"{general['base']:.3f} → {general['tuned']:.3f}",
        f"{found['cpu_seconds']:.0f}" if found["cpu_seconds"] else "not measured",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def read_results() -> list[tuple[Recipe, dict[str, Any]]]:
    """Return what was measured."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return [(Recipe(**one["recipe"]), one["found"]) for one in map(json.loads, lines)]


def print_table() -> None:
    print(HEAD)
    for recipe, found in read_results():
        print(row_of(recipe, found))


def main() -> None:
    use_demo()
    measured = [recipe for recipe, _ in read_results()]
    for recipe in RECIPES:
        if recipe in measured:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measure_pairs(recipe, Path(folder))
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write(json.dumps({"recipe": recipe._asdict(), "found": found}) + "\n")
        print(row_of(recipe, found), file=sys.stderr, flush=True)
    print_table()


if __name__ == "__main__":
    main()
