"""What must not suffer: further test files, which base and tuned model answer alike."""

from pathlib import Path
from typing import Any

from finetune.asking.test_rows import predict_all
from finetune.core.errors import FinetuneError
from finetune.core.params import Also, Params
from finetune.data.readers import read_rows
from finetune.provider.connect import Connection
from finetune.scoring.paired_comparison import lift, verdict
from finetune.scoring.tasks import score


def also(connection: Connection, params: Params, base: str, tuned: str) -> dict[str, Any]:
    """For each file of `evaluate.also` both models' metric, the difference, and whether it stays within its margin."""
    return {name: one(connection, params, name, asked, base, tuned) for name, asked in params.evaluate.also.items()}


def one(connection: Connection, params: Params, name: str, asked: Also, base: str, tuned: str) -> dict[str, Any]:
    examples = examples_of(name, asked)
    settings = params.evaluate.model_copy(update={"top_logprobs": 0, "max_tokens": asked.max_tokens})
    there = params.model_copy(update={"evaluate": settings})
    scored = []
    for model in (base, tuned):
        rows = predict_all(connection, there, model, examples)
        expected, answered = ([row[key] for row in rows] for key in ("expected", "answer"))
        scored.append(score(asked.task, expected, answered))
    before, after = scored
    found = lift(before.rows, after.rows)
    kept = found["low"] >= -asked.margin
    words = (
        f"within the margin of {asked.margin:g}" if kept else f"not shown to be within the margin of {asked.margin:g}"
    )
    return {
        "task": asked.task,
        "metric": after.name,
        "n": len(examples),
        "base": before.metrics[before.name],
        "tuned": after.metrics[after.name],
        "lift": found["lift"],
        "low": found["low"],
        "high": found["high"],
        "margin": asked.margin,
        "kept": int(kept),
        "verdict": f"{verdict(after.name, found, len(examples))}; {words}",
    }


def examples_of(name: str, asked: Also) -> list[dict[str, Any]]:
    """The file's chat examples. Raises FinetuneError naming the row that is none."""
    examples = list(read_rows(Path(asked.file))[0])
    for number, example in enumerate(examples, 1):
        turns = example.get("messages")
        if not isinstance(turns, list) or len(turns) < 2 or turns[-1].get("role") != "assistant":
            raise FinetuneError(
                f"evaluate.also.{name}: {asked.file}, row {number} has no messages that end with an answer.",
                "Write chat examples there, a JSON object a line.",
            )
    return examples
