"""`finetune replay`: the base model's own answers to general questions, for train.replay."""

from pathlib import Path
from typing import Annotated

import typer


def replay(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Chat examples, or a table with train.replay.prompt."),
    ] = Path("data/replay/general.jsonl"),
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A .jsonl file; by default data/replay, with the base's name."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The maximum length of an answer.")] = 40,
) -> None:
    """Write the base model's own answers to the questions of a file.

    Trained on with train.replay, they keep more of what the base could do than answers by others. A hosted provider
    bills the answers as inference; those that are there already are not requested again.

    Examples: finetune replay · finetune replay data/replay/questions.csv -o data/replay/own.jsonl
    """
    from finetune.asking.base_answers import write_base_answers
    from finetune.core.params import load_params
    from finetune.core.paths import REPLAY_FOLDER

    params = load_params()
    target = output or REPLAY_FOLDER / f"{Path(params.train.base).name}.jsonl"
    if target.suffix.lower() != ".jsonl" or target.resolve() == file.resolve():
        raise typer.BadParameter("another file than FILE, with a name that ends with .jsonl", param_hint="--output")
    done = write_base_answers(params, file, target, max_tokens)
    print(f"replay: {done.written} answers of {done.model} to {done.asked} questions in {target}")
    print(f"replay: to train on them, set in params.yaml: train.replay: {{file: {target}, share: 0.2}}")
