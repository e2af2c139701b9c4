"""Measure a fine-tune on calls of tools: how many held-out calls are exactly right, before and after.

The set is `bench/sets/tools.csv`: questions to a shop, each with the call that answers it. Base and tuned model get the
same tools, and are free to answer in words. It is no part of `make bench`:
`demo/my-fine-tune/.venv/bin/python bench/tools.py`.
"""

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

from common import use_demo
from pipeline import generate_project
from recipes import LAYERS, SETS, STAGES, Recipe, run_stages, set_recipe

RECIPE = Recipe("half", 1, 6)
ORDER = {"type": "string", "description": "The number of the order, such as B-12345"}
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "order_status": ("Where an order is now", {"order": ORDER}),
    "return_item": (
        "Begin the return of an item",
        {"order": ORDER, "reason": {"enum": ["size", "damaged", "wrong_item", "not_wanted"]}},
    ),
    "opening_hours": ("When a shop is open", {"city": {"type": "string"}, "day": {"enum": DAYS}}),
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
        },
    }
    for name, (description, properties) in FUNCTIONS.items()
]


def examples() -> list[dict[str, Any]]:
    """Return the rows of the set as chat examples."""
    with open(SETS / "tools.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {
            "messages": [
                {"role": "user", "content": row["question"]},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": row["function"], "arguments": row["arguments"]},
                        }
                    ],
                },
            ],
            "tools": TOOLS,
        }
        for row in rows
    ]


def make_project(folder: Path) -> Path:
    """Generate a project with the rows, a third of which are the test."""
    from ruamel.yaml import YAML

    project = generate_project("extract", folder)
    lines = (json.dumps(example, ensure_ascii=False) for example in examples())
    (project / "data" / "raw" / "tools.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    yaml = YAML()
    params = yaml.load((project / "params.yaml").read_text(encoding="utf-8"))
    params["data"] = {
        "file": "data/raw/tools.jsonl",
        "labels": [],
        "split": {"train": 0.6, "valid": 0.05, "test": 0.35},
    }
    params["evaluate"] |= {"few_shot": 0, "require": {}, "max_tokens": 64, "schema": None}
    yaml.dump(params, project / "params.yaml")
    return project


def main() -> None:
    use_demo()
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        set_recipe(project, RECIPE)
        run_stages(project, Path(folder) / "home", STAGES)
        found = json.loads((project / "reports" / "evaluation.json").read_text(encoding="utf-8"))
    base, tuned, lift = found["base"], found["tuned"], found["lift"]
    print(
        f"- Calls of {len(TOOLS)} tools, {found['n']} held-out questions, top {LAYERS[RECIPE.layers]} layers,"
        f" {RECIPE.n_epochs} epochs: exactly right {base['exact_match']:.3f} → {tuned['exact_match']:.3f}; F1"
        f" {base['f1']:.3f} → {tuned['f1']:.3f} (p = {lift['p_value']:.1g})"
    )


if __name__ == "__main__":
    main()
