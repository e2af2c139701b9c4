"""`finetune repeat` and `finetune learning-curve`: trainings with other seeds, and with fewer rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.commands.options import AsJson, Yes

if TYPE_CHECKING:
    from finetune.asking.variant_costs import Bill, Confirm
    from finetune.core.params import Params
    from finetune.core.records.variants import VariantRecord

SHARES = (0.125, 0.25, 0.5, 1.0)
REPEATS = 3  # trainings, with that of the pipeline
LARGEST_SEED = 2**31 - 1

Again = Annotated[bool, typer.Option("--again", help="Create a new job where one failed.")]
Forget = Annotated[
    bool, typer.Option("--forget", help="You know that earlier requests without a clear answer have made no job.")
]


def repeat(
    seeds: Annotated[
        str | None, typer.Option(help="Seeds to train with, such as 42,43,44. Default: train.seed and the next two.")
    ] = None,
    again: Again = False,
    forget: Forget = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate with other seeds: how much does the score depend on luck?

    The data and all other settings stay. The training of dvc repro is one of them, and is not trained again; a training
    that exists is used. At a provider, the price is printed first. Records are kept in models/variants: commit them,
    and run dvc repro, which puts the spread into the evaluation and the report.

    Examples: finetune repeat · finetune repeat --seeds 42,43,44,45,46 --yes
    """
    from finetune.asking.seeds_and_shares import train_with_seeds
    from finetune.asking.variant_trainings import HowToTrain
    from finetune.core.params import load_params
    from finetune.terminal.tables import print_json

    params = load_params()
    own = params.train.seed
    chosen = seeds_of(seeds, [own + number for number in range(REPEATS)])
    how = HowToTrain("finetune repeat", again, forget)
    records, found = train_with_seeds(params, sorted({own, *chosen}), how, confirmation(params, yes, "repeat"))
    if as_json:
        print_json({"points": records, "trainings": found})
        return
    print_records(records)
    if found:
        print(f"\nrepeat: {found['verdict']}")
    print("repeat: put this into the evaluation and the report with: dvc repro")


def learning_curve(
    seeds: Annotated[
        str | None,
        typer.Option(help="Each seed draws its own rows, and trains with it. Default: train.seed. Such as 42,43,44."),
    ] = None,
    again: Again = False,
    forget: Forget = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Train with 1/8, 1/4 and 1/2 of the rows: what would twice the rows bring?

    Larger shares contain the smaller ones, and rows of one group stay together. The training of dvc repro is the whole,
    and is not trained again; a training that exists is used. At a provider, the price is printed first. A power law is
    fitted to the scores of all trainings in models/variants that have the same settings; it is written to
    reports/learning_curve.html and reports/learning_curve.csv.

    Examples: finetune learning-curve · finetune learning-curve --seeds 42,43,44 --yes
    """
    from finetune.asking.seeds_and_shares import train_with_shares
    from finetune.asking.variant_trainings import HowToTrain
    from finetune.core.disk import write_text
    from finetune.core.params import load_params
    from finetune.core.paths import LEARNING_CURVE, LEARNING_CURVE_PAGE
    from finetune.report.learning_curve_page import make_learning_curve_page
    from finetune.terminal.tables import print_json

    params = load_params()
    chosen = seeds_of(seeds, [params.train.seed])
    confirm = confirmation(params, yes, "learning-curve")
    how = HowToTrain("finetune learning-curve", again, forget)
    records, found = train_with_shares(params, SHARES, chosen, how, confirm)
    write_text(LEARNING_CURVE_PAGE, make_learning_curve_page(found))
    if as_json:
        print_json(found)
        return
    print_records(records)
    print(f"\nlearning-curve: {found['verdict']}")
    for note in found["notes"]:
        print(f"learning-curve: {note}")
    print(f"learning-curve: see {LEARNING_CURVE_PAGE} and {LEARNING_CURVE}. Commit models/variants.")


def seeds_of(text: str | None, default: Sequence[int]) -> list[int]:
    """Return the seeds that a list names, each once."""
    if text is None:
        return [seed for seed in default if seed <= LARGEST_SEED]
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) <= LARGEST_SEED for part in parts):
        raise typer.BadParameter("whole numbers from 0 to 2147483647, separated by commas", param_hint="--seeds")
    return list(dict.fromkeys(map(int, parts)))


def confirmation(params: "Params", yes: bool, command: str) -> "Confirm":
    """Return a function that prints a bill and, at a provider, asks whether to go on."""
    from finetune.terminal.progress import say

    def confirm(bill: "Bill") -> None:
        for line in lines_of(bill, params, command):
            say(line)
        if params.provider.name != "local" and not yes:
            typer.confirm("Train and ask?" if bill.trainings else "Ask?", abort=True, err=True)

    return confirm


def lines_of(bill: "Bill", params: "Params", command: str) -> list[str]:
    """Return lines that say what is still to be done, and what it costs."""
    place = f"{params.train.base} at {params.provider.name}"
    lines = []
    if bill.trainings:
        minutes = "" if isinstance(bill.seconds, str) else f", about {max(1, round(bill.seconds / 60))} min"
        count = f"{bill.trainings} training{'s' * (bill.trainings > 1)}"
        price = dollars(bill.train_usd)
        lines.append(f"{command}: {count} on {place}: {bill.tokens:,} tokens, {price}{minutes}.")
    if bill.found:
        which = (
            "1 training exists already and is" if bill.found == 1 else f"{bill.found} trainings exist already and are"
        )
        lines.append(f"{command}: {which} not paid again.")
    models = "1 model answers" if bill.asked == 1 else f"{bill.asked} models answer"
    price = f"at most {dollars(bill.ask_usd)}" if not isinstance(bill.ask_usd, str) else dollars(bill.ask_usd)
    lines.append(f"{command}: {models} the test rows: {price}.")
    return lines


def dollars(usd: float | str) -> str:
    return "price unknown" if isinstance(usd, str) else f"${usd:.2f}"


def print_records(records: "Sequence[VariantRecord]") -> None:
    """Print the trainings with their scores."""
    from finetune.terminal.tables import print_table

    metric = records[0]["scores"]["metric"]
    rows = [
        [
            f"{one['rows']:,}",
            one["seed"],
            f"{one['scores']['score']:.3f} ({one['scores']['low']:.3f} to {one['scores']['high']:.3f})",
            one["scores"]["failed"] or None,
            one.get("trained_tokens"),
            one.get("usd"),
            one["model"],
        ]
        for one in records
    ]
    print_table(["rows", "seed", metric, "refused", "trained tokens", "usd", "model"], rows)
