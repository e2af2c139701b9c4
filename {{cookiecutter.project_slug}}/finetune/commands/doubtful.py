"""`finetune doubtful`: rows whose answer is probably wrong."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from finetune.commands.options import AsJson
from finetune.core.records.checks import DoubtfulRow

OUTPUT = Path("reports/doubtful.csv")
SHOWN, LONGEST = 50, 60  # rows, and characters of a text in a row, on the screen


def doubtful(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Training files in JSON Lines. Default: the project's three splits.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="tuned, base, or a model's ID: judge by this model. Default: ask none.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A CSV file for the list with whole texts. A text that begins a formula has a ' before it.",
        ),
    ] = OUTPUT,
    as_json: AsJson = False,
) -> None:
    """List the rows whose answer is probably wrong, the most doubtful first.

    Classes: those that the other rows contradict; `score` is the probability of the answer by the other rows. Other
    answers: the tenth that fits its question least; `score` is how many standard deviations it fits the question
    better than the other answers do. No model is asked. Correct the raw data, then run: dvc repro

    With --model, for chat examples: the tenth whose question explains its answer least, by this model; `score` is the
    share of the answer's loss that the question takes away. The server is asked twice for each row, and must give
    log-probabilities of given answers, as the engine and vLLM do.

    Examples: finetune doubtful · finetune doubtful data/prepared/train.jsonl --json · finetune doubtful --model base
    """
    from collections import Counter

    from finetune.core.disk import write_csv
    from finetune.core.paths import PREPARED
    from finetune.core.read_records import read_prepare_report
    from finetune.data.checks.project_files import refuse_table
    from finetune.data.doubtful import COLUMNS, find_doubtful, read_answered, skipped_text
    from finetune.data.split import SPLITS
    from finetune.terminal.progress import progress_bar
    from finetune.terminal.tables import print_json, print_table

    splits = [PREPARED / f"{split}.jsonl" for split in SPLITS]
    chosen = files or splits
    for file in chosen:
        refuse_table(file)
    prepared = {path.resolve() for path in splits} >= {path.resolve() for path in chosen}
    skipped = Counter[str]()
    rows = read_answered(chosen, read_prepare_report() if prepared else None, skipped=skipped)
    judge = ""
    if model:
        from finetune.asking.improbable_answers import improbable_rows
        from finetune.core.params import load_params

        found, judge = improbable_rows(load_params(), model, rows, skipped)
    else:
        with progress_bar("doubtful") if sys.stderr.isatty() else nullcontext() as progress:
            found = find_doubtful(rows, progress, skipped)
    write_csv(output, COLUMNS, found)
    if as_json:
        print_json(found)
        return
    suggests = any(row["suggested"] for row in found)
    if found:
        print_table(
            ["row", "answer", *(["the other rows say"] if suggests else []), "score", "question"],
            [
                [
                    place_of(row),
                    cut(row["answer"]),
                    *([cut(row["suggested"])] if suggests else []),
                    row["score"],
                    cut(row["question"]),
                ]
                for row in found[:SHOWN]
            ],
        )
    if judge:
        print(
            f"doubtful: listed is the tenth whose questions explain their answers least, by {judge}, also where all"
            " answers are right."
        )
    elif found and not suggests:
        print(
            "doubtful: the answers are no classes, and no model judged them. Listed is the tenth whose wording is the"
            " least like that of the question, also where all answers are right."
        )
    print(f"doubtful: {len(found)} of {len(rows):,} rows to review; all of them in {output}")
    if skipped:
        print(f"doubtful: {skipped_text(skipped)}")


def place_of(row: DoubtfulRow) -> str:
    return f"{row['file']}:{row['line']}"


def cut(text: str) -> str:
    """Return a text on one line, cut."""
    line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())  # no control of the terminal
    return line if len(line) <= LONGEST else line[:LONGEST] + "…"
