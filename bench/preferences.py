"""Measure orders of training on the starter `prefer`: held-out pairs before and after, as a Markdown table.

An order is a supervised training on the preferred answers or none, and then one by dpo. The judge is the base: how
far it can be relied on is a figure of the table too. What was measured is kept in `bench/preferences.jsonl`, and is
not measured again. It is no part of `make bench`: `demo/my-fine-tune/.venv/bin/python bench/preferences.py`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from common import BASE, ROOT, environment, use_demo
from recipes import Recipe, make_project, measure, run_stages, set_recipe

RESULTS = ROOT / "bench" / "preferences.jsonl"
SPLITS = ("train", "valid", "test")


class Order(NamedTuple):
    """The recipe of the supervised training, if there is one, and that of dpo with `beta` 0.1."""

    first: Recipe | None
    then: Recipe


SUPERVISED = Recipe("half", 1, 3)
NEARLY_NO_RATE = 1e-6  # what dpo then measures is the supervised model
SUPERVISED_ALONE = Order(SUPERVISED, Recipe("half", NEARLY_NO_RATE, 1))
ORDERS = (  # the others are compared with the first
    SUPERVISED_ALONE,
    Order(None, Recipe("eighth", 10, 1)),
    *(Order(SUPERVISED, Recipe("half", rate, 1)) for rate in (1, 5)),
)
COLUMNS = (
    "supervised first",
    "layers",
    "multiplier",
    "epochs",
    "pairs ahead",
    "more than supervised alone",
    "margin",
    "chrF",
    "general",
    "judge: wins, losses, flipped, unreadable",
)


def run(project: Path, home: Path, *command: str) -> None:
    """Run a command in a project."""
    author = {f"GIT_{who}_{what}": "bench@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    variables = {**environment(project, home), **author}
    subprocess.run(command, cwd=project, env=variables, check=True, stdout=subprocess.DEVNULL)


def learn_preferred(project: Path, home: Path, recipe: Recipe) -> None:
    """Train on the preferred answers of the same split, commit that, and continue from it with the pairs."""
    from ruamel.yaml import YAML

    yaml = YAML()
    params = project / "params.yaml"
    pairs = yaml.load(params.read_text(encoding="utf-8"))
    run_stages(project, home, ("prepare",))
    answers = yaml.load(params.read_text(encoding="utf-8"))
    answers["data"] = {"files": {split: f"data/raw/{split}.jsonl" for split in SPLITS}, "labels": []}
    answers["train"] |= {"method": "supervised", "beta": "auto"}
    for split in SPLITS:
        lines = (project / "data" / "prepared" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        chats = ([*row["input"]["messages"], *row["preferred_output"]] for row in map(json.loads, lines))
        rows = (json.dumps({"messages": chat}, ensure_ascii=False) for chat in chats)
        (project / "data" / "raw" / f"{split}.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    yaml.dump(answers, params)
    set_recipe(project, recipe)
    run_stages(project, home, ("prepare", "validate", "upload", "train"))
    run(project, home, "git", "add", "--all")
    run(project, home, "git", "commit", "-qm", "Preferred answers")
    run(project, home, "git", "tag", "answers")
    pairs["train"]["from"] = "answers"
    yaml.dump(pairs, params)


def ask_base_to_judge(project: Path) -> None:
    """Name the base as the judge of the answers of both models."""
    from ruamel.yaml import YAML

    yaml = YAML()
    params = yaml.load((project / "params.yaml").read_text(encoding="utf-8"))
    params["evaluate"]["judge"] = {"model": BASE}
    yaml.dump(params, project / "params.yaml")


def measure_pairs(order: Order, folder: Path, home: Path) -> dict[str, Any]:
    """Train the starter in an order, and return the figures of recipes.py with those of the held-out pairs.

    With one `home` for all orders, they share the supervised training and the base's answers.
    """
    project = make_project("prefer", folder)
    ask_base_to_judge(project)
    if order.first:
        learn_preferred(project, home, order.first)
    found = measure(project, home, order.then)
    evaluation = json.loads((project / "reports" / "evaluation.json").read_text(encoding="utf-8"))
    lines = (project / "predictions" / "tuned.jsonl").read_text(encoding="utf-8").splitlines()
    margins = [json.loads(line)["margin"] for line in lines]
    return {**found, "preferences": evaluation["preferences"], "judge": evaluation["judge"], "margins": margins}


def difference_in_words(alone: list[float], margins: list[float]) -> str:
    """Return by how much the share of pairs ahead grew after the supervised training, with its interval."""
    from finetune.scoring.paired_comparison import paired_difference

    ahead = [[float(margin > 0) for margin in one] for one in (alone, margins)]
    found = paired_difference(*ahead)
    return f"{found['lift']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f}, p = {found['p_value']:.1g})"


def row_of(order: Order, found: dict[str, Any]) -> str:
    """Return the figures of one order as a row of the table."""
    pairs, general, recipe, judge = found["preferences"], found["general"], order.then, found["judge"]
    is_trained = recipe.multiplier > NEARLY_NO_RATE
    cells = [
        f"{order.first.n_epochs} epochs" if order.first else "no",
        recipe.layers,
        f"{recipe.multiplier:g}" if is_trained else "no dpo",
        recipe.n_epochs if is_trained else "-",
        f"{pairs['base']:.3f} → {pairs['tuned']:.3f} (p = {pairs['p_value']:.1g})",
        found["more_than_supervised"],
        f"{pairs['base_margin']:+.1f} → {pairs['tuned_margin']:+.1f} (p = {pairs['margin_p_value']:.1g})",
        f"{found['base']:.3f} → {found['tuned']['chrf']:.3f}",
        f"{general['base']:.3f} → {general['tuned']:.3f}",
        ", ".join(str(judge[name]) for name in ("wins", "losses", "flipped", "unreadable")),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def read_results() -> list[tuple[Order, dict[str, Any]]]:
    """Return what was measured."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return [
        (Order(one["first"] and Recipe(**one["first"]), Recipe(**one["recipe"])), one["found"])
        for one in map(json.loads, lines)
    ]


def print_table() -> None:
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'---|' * len(COLUMNS)}")
    for order, found in read_results():
        print(row_of(order, found))


def main() -> None:
    use_demo()
    results = dict(read_results())
    with tempfile.TemporaryDirectory() as work:
        for number, order in enumerate(one for one in ORDERS if one not in results):
            found = results[order] = measure_pairs(order, Path(work) / str(number), Path(work) / "home")
            alone = results[SUPERVISED_ALONE]["margins"]
            found["more_than_supervised"] = (
                "-" if order == SUPERVISED_ALONE else difference_in_words(alone, found["margins"])
            )
            first = order.first and order.first._asdict()
            with open(RESULTS, "a", encoding="utf-8") as file:
                file.write(json.dumps({"first": first, "recipe": order.then._asdict(), "found": found}) + "\n")
            print(row_of(order, found), file=sys.stderr, flush=True)
    print_table()


if __name__ == "__main__":
    main()
