"""`finetune show`, `compare` and `promote`: the fine-tune that lies here, against others, and in use."""

from typing import Annotated, Any

import typer

from finetune.commands.options import AsJson
from finetune.terminal.scores import print_figures, print_scores
from finetune.terminal.tables import print_json, print_table


def show(as_json: AsJson = False) -> None:
    """Show the fine-tune that lies here: its model, what it cost, and base against tuned."""
    from finetune.core.disk import read_json
    from finetune.core.paths import EVALUATION, MODEL

    record, report = read_json(MODEL, "train"), read_json(EVALUATION, "evaluate")
    if as_json:
        print_json({"model": record, "evaluation": report})
        return
    keys = ("model", "base", "job", "provider", "trained_tokens", "usd")
    print_table(["", ""], [[key.replace("_", " "), record[key]] for key in keys])
    print(f"\ntraining: {record['verdict']}. {record['verdict_words']}\n")
    print_scores(report)


def compare(
    before: Annotated[str, typer.Argument(help="A commit, branch or tag with a fine-tune.")],
    after: Annotated[str | None, typer.Argument(help="Another; left out, what lies here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two fine-tunes by the predictions that they left, row by row; nothing is asked anew.

    Examples: finetune compare HEAD~1 · finetune compare v1 v2 --json
    """
    from finetune.core.params import load_params
    from finetune.project import commit_comparison as stage

    found = stage.run(load_params(), before, after)
    if as_json:
        print_json(found)
        return
    print_figures({found[side]["revision"]: found[side] for side in ("before", "after")}, found["metric"])
    print(f"\n{found['after']['revision']} against {found['before']['revision']}: {found['verdict']}")
    if found["left_out"]:
        print(f"{found['left_out']} rows that only one of them answered are left out.")
    rows: list[list[Any]] = [[key, *map(str, pair)] for key, pair in found["differences"].items()]
    if rows:
        print()
        print_table(["", "before", "after"], rows)


def promote(
    stage: Annotated[str, typer.Option(help="The stage that the model comes to.")] = "production",
    as_json: AsJson = False,
) -> None:
    """Tag the committed model as a version, and as the one of a stage, if it meets `evaluate.require`.

    Which model is in production is then a question to Git: gto show. Example: finetune promote --stage staging
    """
    from finetune.core.params import load_params
    from finetune.project import promotion

    done = promotion.run(load_params(), stage)
    if as_json:
        print_json(done)
    else:
        print(f"{done['model']} is version {done['version']}, in {stage}. Share it with: git push --tags")
