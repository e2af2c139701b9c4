"""Compare recipes on several sets: held-out score, validation loss, general questions and seconds, as a Markdown table.

A recipe is how many layers are adapted, the rank, the rate and the epochs. The sets are the starters' and those in
`bench/sets`. Each training takes minutes: what was measured is kept in a file, by default `bench/recipes.jsonl`, and
is not measured again. To measure everything again, name a new file. It is no part of `make bench`:
`demo/my-fine-tune/.venv/bin/python bench/recipes.py [RESULTS]`.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from common import ROOT, environment, use_demo
from pipeline import generate_project

RESULTS = ROOT / "bench" / "recipes.jsonl"
SETS = ROOT / "bench" / "sets"
LAYERS = {"eighth": 4, "half": 15, "all": 30}  # of the base's 30, from the top
STAGES = ("prepare", "validate", "upload", "train", "baseline", "tuned", "evaluate")
# The launcher of the trainings: it notes the trainer's seconds, and those of the processor in all its threads, every
# second, because the engine ends a launcher that does not leave soon after its job.
TIMER = """
import json, os, psutil, subprocess, sys, time
start = time.monotonic()
trainer = psutil.Popen(sys.argv[2:])
while trainer.poll() is None:
    used = trainer.cpu_times()
    found = {"seconds": time.monotonic() - start, "cpu_seconds": used.user + used.system}
    open(sys.argv[1] + ".new", "w").write(json.dumps(found))
    os.replace(sys.argv[1] + ".new", sys.argv[1])
    time.sleep(1)
sys.exit(trainer.returncode)
"""


class Recipe(NamedTuple):
    """What a training is asked for."""

    layers: str
    multiplier: float
    n_epochs: int
    rank: int = 16


def grid(n_epochs: int, longer: int, *others: Recipe) -> tuple[Recipe, ...]:
    """Return the recipes of a set: with its usual number of epochs, and with a longer one."""
    own = (Recipe("eighth", 2, n_epochs), Recipe("half", 1, n_epochs))
    return (*own, Recipe("half", 1, longer), Recipe("all", 0.5, n_epochs), *others)


# The recipes of each set. Rates are lower where more layers change.
RECIPES = {
    "extract": grid(6, 9, Recipe("half", 2, 6), Recipe("half", 1, 6, rank=64)),
    "generate": grid(3, 5, Recipe("half", 2, 3)),
    "classify": grid(2, 3, Recipe("eighth", 2, 3)),
    "tone": grid(3, 6, Recipe("half", 2, 3)),
    "town": grid(3, 6, Recipe("eighth", 2, 6)),
}


def make_project(name: str, folder: Path) -> Path:
    """Generate a project with a set's rows and parameters, which asks only what the table shows."""
    from ruamel.yaml import YAML

    own = SETS / f"{name}.yaml"
    yaml = YAML()
    values = yaml.load(own.read_text(encoding="utf-8")) if own.exists() else {}
    project = generate_project(values.pop("starter", name), folder)
    if own.exists():
        shutil.copy(SETS / f"{name}.csv", project / "data" / "raw")
    params = yaml.load((project / "params.yaml").read_text(encoding="utf-8"))
    params["data"] = values.get("data", params["data"])
    params["evaluate"] |= {"few_shot": 0, "require": {}, **values.get("evaluate", {})}
    yaml.dump(params, project / "params.yaml")
    return project


def set_recipe(project: Path, recipe: Recipe) -> None:
    """Write a recipe into a project's params.yaml."""
    from ruamel.yaml import YAML

    yaml = YAML()
    params = yaml.load((project / "params.yaml").read_text(encoding="utf-8"))
    params["train"] |= {
        "n_epochs": recipe.n_epochs,
        "learning_rate_multiplier": recipe.multiplier,
        "hyperparameters": {"lora_layers": LAYERS[recipe.layers], "lora_r": recipe.rank},
    }
    yaml.dump(params, project / "params.yaml")


def run_stages(project: Path, home: Path, stages: Sequence[str], **variables: str) -> None:
    """Run stages of a project, one after another."""
    for stage in stages:
        command = [sys.executable, "-m", "finetune", stage]
        variables = {**environment(project, home), **variables}
        subprocess.run(command, cwd=project, env=variables, check=True, stdout=subprocess.DEVNULL)


def measure(project: Path, home: Path, recipe: Recipe) -> dict[str, Any]:
    """Train a project by a recipe, ask and score, and return the figures of the table."""
    set_recipe(project, recipe)
    clock = home / "seconds.json"
    clock.unlink(missing_ok=True)
    launcher = shlex.join([sys.executable, "-c", TIMER, str(clock), sys.executable])
    run_stages(project, home, STAGES, FINETUNE_ENGINE_LAUNCHER=launcher)
    evaluation, record = (
        json.loads((project / name).read_text(encoding="utf-8"))
        for name in ("reports/evaluation.json", "models/model.json")
    )
    times = json.loads(clock.read_text(encoding="utf-8"))
    metric = evaluation["metric"]
    rival, general = evaluation["rival"], evaluation["also"]["general"]
    return {
        "metric": metric,
        "n": evaluation["n"],
        "base": evaluation["base"][metric],
        "rival": rival["name"],
        "rival_lift": [rival[metric], rival[f"{metric}_low"], rival[f"{metric}_high"]],
        "tuned": evaluation["tuned"],
        "full_valid_loss": [one["full_valid_loss"] for one in record["checkpoints"]],
        "general": {key: general[key] for key in ("base", "tuned", "low", "high", "kept", "n")},
        "trained_tokens": record["trained_tokens"],
        "processors": os.cpu_count(),
        **times,
    }


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Return what was measured, by set and recipe."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {key_of(one["set"], Recipe(**one["recipe"])): one["found"] for one in map(json.loads, lines)}


def key_of(name: str, recipe: Recipe) -> str:
    return json.dumps([name, *recipe])


def row_of(name: str, recipe: Recipe, found: dict[str, Any]) -> str:
    """Return the figures of one training as a row of a Markdown table."""
    metric, tuned, general = found["metric"], found["tuned"], found["general"]
    cells = [
        f"{name}, {metric}",
        recipe.layers,
        recipe.rank,
        f"{recipe.multiplier:g}",
        recipe.n_epochs,
        f"{tuned[metric]:.3f} ({tuned[f'{metric}_low']:.3f} to {tuned[f'{metric}_high']:.3f})",
        f"{found['full_valid_loss'][-1]:.3f}",
        f"{general['tuned']:.3f}",
        f"{found['cpu_seconds']:.0f}" if found["cpu_seconds"] else "not measured",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def print_table(results: dict[str, dict[str, Any]]) -> None:
    print("| set, metric | layers | rank | multiplier | epochs | score (95 %) | validation loss | general | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, recipes in RECIPES.items():
        for recipe in recipes:
            if found := results.get(key_of(name, recipe)):
                print(row_of(name, recipe, found))


def main() -> None:
    use_demo()
    path = Path(sys.argv[1]).resolve() if sys.argv[1:] else RESULTS
    results = read_results(path)
    # The first recipe of each set, then the second of each, so that a part of the table compares all sets.
    rounds = zip_longest(*([(name, recipe) for recipe in recipes] for name, recipes in RECIPES.items()))
    with tempfile.TemporaryDirectory() as work:
        for name, recipe in filter(None, chain.from_iterable(rounds)):
            if key_of(name, recipe) in results:
                continue
            folder = Path(work) / name
            project = folder / "my-fine-tune" if folder.exists() else make_project(name, folder)
            found = results[key_of(name, recipe)] = measure(project, Path(work) / "home", recipe)
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"set": name, "recipe": recipe._asdict(), "found": found}) + "\n")
            print(row_of(name, recipe, found), file=sys.stderr, flush=True)
    print_table(results)


if __name__ == "__main__":
    main()
