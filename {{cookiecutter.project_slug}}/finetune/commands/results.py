"""`finetune show`, `compare` and `promote`: the current fine-tune, against others, and in production."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from finetune.commands.options import AsJson
from finetune.terminal.scores import figures_of, print_columns, print_scores
from finetune.terminal.tables import print_json, print_table


def show(as_json: AsJson = False) -> None:
    """Show the current fine-tune: model, cost, and base against tuned.

    Examples: finetune show · finetune show --json
    """
    from finetune.core.read_records import read_evaluated_model, refuse_other_test_rows

    record, report = read_evaluated_model()
    refuse_other_test_rows(report)
    if as_json:
        print_json({"model": record, "evaluation": report})
        return
    values: dict[str, Any] = {**record}
    keys = ("model", "base", "job", "provider", "trained_tokens", "usd")
    print_table(["", ""], [[key.replace("_", " "), values[key]] for key in keys])
    print(f"\ntraining: {record['verdict']}. {record['verdict_words']}\n")
    print_scores(report)


def compare(
    before: Annotated[str, typer.Argument(help="A commit, branch or tag with a fine-tune.")],
    after: Annotated[str | None, typer.Argument(help="Another one; by default, the current folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two fine-tunes by their predictions. No model is asked.

    Examples: finetune compare HEAD~1 · finetune compare v1 v2 --json
    """
    from finetune.core.params import load_params
    from finetune.project.commit_comparison import compare_commits

    found = compare_commits(load_params(), before, after)
    if as_json:
        print_json(found)
        return
    sides = (found["before"], found["after"])
    print_columns([(side["revision"], figures_of(side)) for side in sides], found["metric"])
    print(f"\n{found['after']['revision']} against {found['before']['revision']}: {found['verdict']}")
    if found["left_out"]:
        print(f"{found['left_out']} rows that only one of the two answered are not counted.")
    if rows := changed_rows(found["differences"]):
        print()
        print_table(["", "before", "after"], rows)


def changed_rows(differences: Mapping[str, Sequence[Any]]) -> list[list[Any]]:
    """Return a row for each value of two records that differs: its name, before and after."""
    from finetune.core.flatten import flatten

    rows = []
    for key, pair in differences.items():
        before, after = (flatten({key: value}) for value in pair)
        names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
        rows += [[name, before.get(name), after.get(name)] for name in names]
    return rows


def promote(
    stage: Annotated[str, typer.Option(help="The stage to assign the model to.")] = "production",
    export: Annotated[str | None, typer.Option(help="An exported format to tag, in place of the model's ID.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tag the committed model for a stage, if it meets evaluate.require.

    With --export, tag an exported format of it, if that meets export.require too.

    List versions and stages with: gto show

    Examples: finetune promote --stage staging · finetune promote --export gguf-q8_0
    """
    from finetune.core.params import load_params
    from finetune.project.promotion import promote as promote_model

    done = promote_model(load_params(), stage, export)
    if as_json:
        print_json(done)
    else:
        what = f"The export {export} of {done['model']}" if export else done["model"]
        print(f"{what} is now {done['artifact']}@{done['version']} in {stage}. Share the tags with: git push --tags")
        for condition in done["met"]:
            print(f"  met: {condition}")
        if not done["met"]:
            print("  evaluate.require has no condition, so none was checked.")
        print(f"  tuned against base: {done['verdict']}")
        if done["rival"] and not done["rival"].startswith("base:"):
            print(f"  tuned against {done['rival']}")
