"""doubtful --model: the rows whose answer a model finds improbable after its question."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from finetune.asking.model_names import name_of
from finetune.core.disk import read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.records.checks import DoubtfulRow
from finetune.core.records.prepared import Example
from finetune.data.doubtful import LISTED_OF_TEXTS, Answered, by_doubt, doubtful_row, up_to_answer
from finetune.project.kept_models import connect_with
from finetune.provider.given_answers import GivenAnswer, score_answers
from finetune.terminal.progress import progress_bar


def improbable_rows(
    params: Params, choice: str, rows: Sequence[Answered], skipped: Counter[str]
) -> tuple[list[DoubtfulRow], str]:
    """Return the tenth of the rows whose answer a model finds most improbable, and the name of the model.

    `choice` is `tuned`, `base` or a model's ID. `skipped` gets the number of rows that it cannot judge, by the reason.
    Raises FinetuneError for prompts and completions, and where the server gives no log-probabilities of given answers.
    """
    examples = examples_of(rows)
    model = name_of(params, choice)
    with connect_with(params, model) as connection, progress_bar(f"ask {model}") as progress:
        found = score_answers(connection, model, examples, params.evaluate.concurrency, progress)
    refused = [answer for answer in found if isinstance(answer, str)]
    if len(refused) == len(found):
        raise FinetuneError(
            f"{model} can judge none of {len(found)} rows: {refused[0]}.", "Correct what the message names."
        )
    if refused:
        skipped[f"that {model} cannot judge (the first: {refused[0]})"] += len(refused)
    judged = [
        doubtful_row(row, "", score_of(answer))
        for row, answer in zip(rows, found, strict=True)
        if not isinstance(answer, str)
    ]
    return by_doubt(judged)[: round(LISTED_OF_TEXTS * len(judged))], model


def examples_of(rows: Sequence[Answered]) -> list[Example]:
    """Return the conversation of each row up to its answer. Raises FinetuneError if one is no chat example."""
    files = {row.file: read_jsonl(Path(row.file), "prepare") for row in rows}
    examples = [up_to_answer(files[row.file][row.line - 1]) or {} for row in rows]
    if any("messages" not in example for example in examples):
        raise FinetuneError("--model judges chat examples only.", "Run it without --model for prompts and completions.")
    return examples


def score_of(answer: GivenAnswer) -> float:
    """Return which share of an answer's loss its question takes away: 1 is all of it, 0 or less is none.

    The loss alone is high for long and for unusual answers too. Its difference with and without the question is the
    pointwise V-information, which is low for wrong answers (Ethayarajh, Choi and Swayamdipta 2022, "Understanding
    Dataset Difficulty with V-Usable Information"); divided by the loss without the question, it does not depend on
    the answer's length. Recall at 50 with wrong answers in 8 % of the rows, by the base SmolLM2-135M-Instruct (the
    template's bench/doubtful.py): extract, 210 rows, another row's answer 1.00, another item 0.53, an item left out
    0.47; generate, 305 rows, another row's answer 0.92, another sentence 0.67. By the mean loss: 1.00, 0.71, 0.41,
    0.50, 0.46; by the wording, without a model: 1.00, 0.29, 0.35, 1.00, 0.71.
    """
    alone = sum(answer.alone)
    return 1 - sum(answer.asked) / alone if alone else 0.0
