"""baseline: what the base model answers to the test split, with the prompt that the tuned model gets."""

from pathlib import Path
from typing import Any

from finetune.data.examples import text_of
from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.paths import PREPARED
from finetune.provider.completions import answer_all
from finetune.provider.connect import Connection, connect
from finetune.record import read_jsonl, write_jsonl
from finetune.report.progress import progress_bar

PREDICTIONS = Path("predictions/base.jsonl")


def run(params: Params) -> int:
    """Write the base model's predictions; the number of rows comes back."""
    with connect(params.provider) as connection:
        rows = predict(connection, params, params.train.base)
    write_jsonl(PREDICTIONS, rows)
    return len(rows)


def predict(connection: Connection, params: Params, model: str) -> list[dict[str, Any]]:
    """For each test row what was asked, what was expected and what the model answered, in their order."""
    examples = read_jsonl(PREPARED / "test.jsonl", "prepare")
    if not examples:
        raise FinetuneError("data/prepared/test.jsonl is empty.", "Give test a larger share in data.split.")
    prompts = [example["messages"][:-1] for example in examples]
    with progress_bar(f"ask {model}") as progress:
        answers = answer_all(connection, model, prompts, params.evaluate, params.train.seed, progress)
    return [
        {
            "asked": text_of(example["messages"][-2].get("content")),
            "expected": text_of(example["messages"][-1].get("content")),
            "answer": answer.strip(),
        }
        for example, answer in zip(examples, answers, strict=True)
    ]
