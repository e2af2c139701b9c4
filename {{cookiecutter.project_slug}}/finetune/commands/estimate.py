"""`finetune estimate`: the cost of a training file before it is sent."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from finetune.commands.options import AsJson
from finetune.terminal.tables import print_json, print_table

TOTALS = ("tokens", "billed_tokens", "train_usd", "seconds")  # the figures that grow with the tokens


def estimate(
    file: Annotated[Path, typer.Argument(help="A training file in JSON Lines.")],
    base: Annotated[str, typer.Option(help="The base model, or a model fine-tuned from it.")],
    n_epochs: Annotated[str, typer.Option(help="The number of epochs, 1 to 50, or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Estimate the cost of a training file at OpenAI.

    A figure that is not known is printed as "unknown". In a project, the bills of earlier jobs on this base
    (reports/ledger.csv) correct the estimate.

    Example: finetune estimate train.jsonl --base gpt-4.1-mini-2025-04-14 --n-epochs 2
    """
    import datetime

    from finetune.data.checks.check_file import check_file
    from finetune.data.checks.findings import counted
    from finetune.pricing.catalogue import look_up
    from finetune.pricing.cost import UNKNOWN, auto_epochs
    from finetune.pricing.cost import estimate as cost_of
    from finetune.project.ledger import learned

    if n_epochs != "auto" and not (n_epochs.isdecimal() and 1 <= int(n_epochs) <= 50):
        raise typer.BadParameter("a number from 1 to 50, or auto", param_hint="--n-epochs")
    known = look_up(base, "openai")
    checked = check_file(file, encoding=known.encoding, image_prices=known.image_tokens)
    epochs = int(n_epochs) if n_epochs != "auto" else auto_epochs(len(checked.tokens))
    ratio, seconds = learned("openai", base)
    cost = cost_of(checked.tokens.tolist(), epochs, known.context, known.training, seconds or known.seconds, ratio)
    retired = known.retired(datetime.date.today())
    report = {
        **cost,
        "retired": retired,
        "tokens_exact": known.tokens_exact and len(checked.tokens) > 0 and not checked.tokens_at_least,
        "tokens_at_least": checked.tokens_at_least,
    }
    if not len(checked.tokens):
        report |= dict.fromkeys(("tokens", "billed_tokens"), UNKNOWN)
    if as_json:
        print_json(report)
    else:
        totals = TOTALS if checked.tokens_at_least else ()
        print_table(["", known.name], [[key.replace("_", " "), shown(key, report[key], totals)] for key in report])
    if retired:
        print(f"{known.name} was shut down on {known.shutdown}: this is its last price.", file=sys.stderr)
    if checked.refused_lines or not len(checked.tokens):
        lines = counted(checked.refused_lines, "line") if checked.refused_lines else "All lines"
        print(f"Not counted, because of mistakes: {lines}. See: finetune check {file}", file=sys.stderr)
    if checked.unknown_images:
        what = counted(checked.unknown_images, "example")
        print(f"{what} with images whose tokens are not known: they count as low detail.", file=sys.stderr)


def shown(key: str, value: Any, totals: Collection[str]) -> Any:
    """Return a figure for people: "at least" before those of `totals` that are known."""
    return value if key not in totals or isinstance(value, str) else f"at least {value:,}"
