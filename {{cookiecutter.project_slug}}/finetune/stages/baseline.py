"""baseline: what the base model answers to the test split, with the prompt that the tuned model gets."""

from pathlib import Path
from typing import Any

from finetune.data.completions import Frame, unframed
from finetune.data.examples import Example, text_of
from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.paths import PREPARED, PREPARED_REPORT
from finetune.provider.completions import answer_all
from finetune.provider.connect import Connection, connect
from finetune.record import read_json, read_jsonl, write_jsonl
from finetune.report.progress import progress_bar

PREDICTIONS = Path("predictions/base.jsonl")


def run(params: Params) -> int:
    """Write the base model's predictions; the number of rows comes back."""
    with connect(params.provider) as connection:
        rows = predict(connection, params, params.provider.base_deployment or params.train.base)
    write_jsonl(PREDICTIONS, rows)
    return len(rows)


def predict(connection: Connection, params: Params, model: str, split: str = "test") -> list[dict[str, Any]]:
    """For each row of a split what was asked, what was expected and what the model answered, in their order."""
    examples = read_jsonl(PREPARED / f"{split}.jsonl", "prepare")
    if not examples:
        raise FinetuneError(f"data/prepared/{split}.jsonl is empty.", f"Give {split} a larger share in data.split.")
    marks = read_json(PREPARED_REPORT, "prepare").get("completion")
    frame = Frame(**marks) if marks else None
    prompts = [example["prompt"] if frame else example["messages"][:-1] for example in examples]
    stop = frame.stop if frame else None
    with progress_bar(f"ask {model}") as progress:
        answers = answer_all(connection, model, prompts, params.evaluate, params.train.seed, progress, stop)
    pairs = [unframed(example, frame) if frame else last_turn(example) for example in examples]
    return [
        {"asked": asked, "expected": expected, "answer": answer.strip()}
        for (asked, expected), answer in zip(pairs, answers, strict=True)
    ]


def last_turn(example: Example) -> tuple[str, str]:
    """The last question of a conversation and its answer."""
    asked, answer = (text_of(message.get("content")) for message in example["messages"][-2:])
    return asked, answer
