"""`finetune predict`: a model's answer to each row of a file."""

from pathlib import Path
from typing import Annotated

import typer


def predict(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Rows in CSV, TSV, XLSX, JSON, JSON Lines, Parquet or .gz."),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A .csv or .jsonl file, or - for JSON Lines on standard output. By default, FILE's name with"
            " .predicted.csv (for tables) or .predicted.jsonl, in this folder.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="tuned, base, or a model's ID.")] = "tuned",
    spreadsheet: Annotated[
        bool,
        typer.Option("--spreadsheet", help="Write ' before cells of CSV that a spreadsheet would run as a formula."),
    ] = False,
) -> None:
    """Answer each row of a file with a model.

    A row needs the columns of the question in data.prompt, or `messages`; it needs no expected answer. Each row is
    written with the model's answer, or with the reason why there is none. For classes with log-probabilities, there are
    columns with the probability of each class, such as P(billing), and `outside`: the probability of other answers, and
    of classes that the provider did not list.

    After an interruption, the same command continues where it stopped. The exit status is 1 if no row was answered.

    Examples: finetune predict new.csv · finetune predict new.jsonl -o answers.csv --model base
    """
    from finetune.asking import file_rows
    from finetune.core.params import load_params
    from finetune.data.written_numbers import json_text
    from finetune.terminal.progress import say

    target = Path(output) if output else file_rows.output_for(file)
    if output != "-" and target.suffix.lower() not in (".csv", ".jsonl"):
        raise typer.BadParameter("a name that ends with .csv or .jsonl, or -", param_hint="--output")
    if target.resolve() == file.resolve():
        raise typer.BadParameter("another file than FILE", param_hint="--output")
    try:
        done = file_rows.predict(load_params(), file, model)
    except KeyboardInterrupt:
        say("predict: stopped. The answers so far are kept; run the same command again to continue.")
        raise
    if output == "-":
        for row in done.rows:
            typer.echo(json_text(row).encode())
    else:
        formulas = file_rows.write(target, done.rows, spreadsheet)
        print(f"predict: {len(done.rows) - len(done.failed)} answers of {done.model} in {target}")
        if formulas and not spreadsheet:
            say(
                f"predict: warning: {formulas} cells would run as a formula in a spreadsheet. Before you open {target}"
                " in one, run the same command with --spreadsheet; no row is asked again."
            )
    if done.cut:
        say(f"predict: warning: {done.cut} answers were cut at evaluate.max_tokens in params.yaml. Set it higher.")
    if done.outside is not None:
        say(f"predict: P(…) has the probability of each class; on average, {done.outside:.1%} is outside them.")
    for place, why in list(done.failed.items())[:1]:
        say(f"predict: {len(done.failed)} of {len(done.rows)} rows have no answer. The first, {place}: {why}")
