"""A split's questions to a model: the same prompt for every model, and a row for each answer."""

from collections.abc import Sequence
from typing import Any

from finetune.core.disk import read_json, read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED, PREPARED_REPORT
from finetune.core.records import Example
from finetune.data.completion_format import CompletionFormat, from_completion
from finetune.data.examples import text_of
from finetune.provider.completions import answer_all
from finetune.provider.connect import Connection
from finetune.terminal.progress import progress_bar, say

Rows = list[dict[str, Any]]


def predict(
    connection: Connection, params: Params, model: str, split: str = "test", shots: Sequence[Example] = ()
) -> Rows:
    """For each row of a split what was asked, what was expected and what the model answered, in their order.

    The turns of `shots` stand before each question, after the system message. Beside that a row has what the answer
    took (`prompt_tokens`, `completion_tokens`, `seconds`), its `logprobs` where the task asks for them, and
    an `error` in place of an answer that the provider refused.
    """
    examples = read_jsonl(PREPARED / f"{split}.jsonl", "prepare")
    if not examples:
        raise FinetuneError(f"data/prepared/{split}.jsonl is empty.", f"Give {split} a larger share in data.split.")
    marks = read_json(PREPARED_REPORT, "prepare").get("completion")
    return predict_all(connection, params, model, examples, CompletionFormat(**marks) if marks else None, shots)


def predict_all(
    connection: Connection,
    params: Params,
    model: str,
    examples: Sequence[Example],
    frame: CompletionFormat | None = None,
    shots: Sequence[Example] = (),
) -> Rows:
    """The same for given examples; `frame` has the marks of those that are prompts and completions."""
    before = [turn for shot in shots for turn in shot["messages"] if turn["role"] != "system"]
    prompts = [example["prompt"] if frame else opened(example["messages"][:-1], before) for example in examples]
    settings, stop = params.evaluate, frame.stop if frame else None
    top_logprobs = settings.top_logprobs if settings.task == "classify" else 0
    with progress_bar(f"ask {model}") as progress:
        seed = params.train.seed
        answers = answer_all(connection, model, prompts, settings, seed, progress, say, stop, top_logprobs)
    pairs = [from_completion(example, frame) if frame else last_turn(example) for example in examples]
    rows = []
    for (asked, expected), answer in zip(pairs, answers, strict=True):
        row: dict[str, Any] = {"asked": asked, "expected": expected, "answer": answer.text.strip()}
        row |= {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens}
        row |= {key: value for key in ("seconds", "logprobs", "error") if (value := getattr(answer, key))}
        rows.append(row)
    return rows


def kept_part(rows: Rows) -> Rows:
    """The rows as they are written: without how long each took, which is another figure each time."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def latency(rows: Rows) -> dict[str, float]:
    """Median and 95th percentile of the milliseconds that an answer took; nothing where that is not known."""
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    if not seconds:
        return {}
    import numpy as np

    median, late = np.percentile(seconds, [50, 95]) * 1000
    return {"median_ms": round(float(median), 1), "p95_ms": round(float(late), 1)}


def opened(messages: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A conversation with other turns before it, after its system message; weights are for training alone."""
    system = [turn for turn in messages[:1] if turn["role"] in ("system", "developer")]
    turns = [*system, *before, *messages[len(system) :]]
    return [{key: value for key, value in turn.items() if key != "weight"} for turn in turns]


def last_turn(example: Example) -> tuple[str, str]:
    """The last question of a conversation and its answer."""
    asked, answer = (text_of(message.get("content")) for message in example["messages"][-2:])
    return asked, answer
