"""`finetune show`, `compare` and `promote`: the fine-tune that lies here, against others, and in use."""

from typing import Annotated, Any

import typer

from finetune.commands.jobs import AsJson
from finetune.report.tables import print_json, print_table


def show(as_json: AsJson = False) -> None:
    """Show the fine-tune that lies here: its model, what it cost, and base against tuned."""
    from finetune.paths import EVALUATION, MODEL
    from finetune.record import read_json

    record, report = read_json(MODEL, "train"), read_json(EVALUATION, "evaluate")
    if as_json:
        print_json({"model": record, "evaluation": report})
        return
    keys = ("model", "base", "job", "provider", "trained_tokens", "usd")
    print_table(["", ""], [[key.replace("_", " "), record[key]] for key in keys])
    print(f"\ntraining: {record['verdict']}. {record['verdict_words']}\n")
    print_scores(report)


def print_scores(report: dict[str, Any]) -> None:
    """Each model's metrics, what tuning was worth, and what is not good enough."""
    metric = report["metric"]
    models = sorted((name for name in report if f"{metric}_low" in told(report, name)), key=place)
    print_figures({name: report[name] for name in models if not name.startswith("lift")}, metric)
    print(f"tuned against base: {report['lift']['verdict']}")
    for name, found in report["also"].items():
        print(f"{name}: tuned against base: {found['verdict']}")
    if "judge" in report:
        print(f"tuned: {report['judge']['verdict']}")
    for failed in report["gates_failed"]:
        print(f"not good enough: {failed}")


def told(report: dict[str, Any], name: str) -> dict[str, Any]:
    return report[name] if isinstance(report[name], dict) else {}


def place(name: str) -> int:
    """Base models first, the tuned one last."""
    return {"base": 0, "few_shot": 1, "tuned": 3}.get(name, 2)


def print_figures(columns: dict[str, dict[str, Any]], metric: str) -> None:
    """A column for each model, a row for each of the last one's figures, `metric` first."""
    hidden = ("_low", "_high", "signature", "revision")
    keys = [key for key in list(columns.values())[-1] if not key.endswith(hidden)]
    rows = [
        [key.replace("_", " "), *(shown(one, key) for one in columns.values())]
        for key in sorted(keys, key=lambda key: key != metric)
    ]
    print_table(["", *columns], rows)


def shown(metrics: dict[str, Any], key: str) -> str | None:
    """A figure, with its interval where it has one."""
    value = metrics.get(key)
    if f"{key}_low" in metrics:
        return f"{value:.3f} ({metrics[f'{key}_low']:.3f} to {metrics[f'{key}_high']:.3f})"
    return f"{value:.3f}" if isinstance(value, float) else str(value) if value is not None else None


def compare(
    before: Annotated[str, typer.Argument(help="A commit, branch or tag with a fine-tune.")],
    after: Annotated[str | None, typer.Argument(help="Another; left out, what lies here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two fine-tunes by the predictions that they left, row by row; nothing is asked anew.

    Examples: finetune compare HEAD~1 · finetune compare v1 v2 --json
    """
    from finetune.params import load_params
    from finetune.stages import compare as stage

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
    from finetune.params import load_params
    from finetune.stages import promote as promotion

    done = promotion.run(load_params(), stage)
    if as_json:
        print_json(done)
    else:
        print(f"{done['model']} is version {done['version']}, in {stage}. Share it with: git push --tags")
