"""baseline: what the base model answers to the test split, with the prompt that the tuned model gets."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.data.examples import Example, text_of
from finetune.data.frames import Frame, unframed
from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.paths import PREPARED, PREPARED_REPORT
from finetune.provider.completions import answer_all
from finetune.provider.connect import Connection, connect
from finetune.record import read_json, read_jsonl, write_jsonl
from finetune.report.progress import progress_bar

PREDICTIONS = Path("predictions/base.jsonl")
FEW_SHOT = Path("predictions/few_shot.jsonl")


def run(params: Params) -> int:
    """Write the base model's predictions, and those with examples in its prompt; the number of rows comes back.

    The latter file is empty unless `evaluate.few_shot` asks for some.
    """
    model = params.provider.base_deployment or params.train.base
    shots = few(params.evaluate.few_shot)
    with connect(params.provider) as connection:
        rows = predict(connection, params, model)
        with_shots = predict(connection, params, model, shots=shots) if shots else []
    write_jsonl(PREDICTIONS, rows)
    write_jsonl(FEW_SHOT, with_shots)
    return len(rows)


def few(count: int) -> list[Example]:
    """Training examples for a prompt: always the same, and one of each answer before a second of any."""
    examples = read_jsonl(PREPARED / "train.jsonl", "prepare") if count else []
    if examples and "messages" not in examples[0]:
        raise FinetuneError("evaluate.few_shot is for chat examples.", "Set it to 0.")
    rounds: Counter[str] = Counter()
    turns = []
    for example in examples:
        answer = text_of(example["messages"][-1].get("content"))
        turns.append(rounds[answer])
        rounds[answer] += 1
    order = sorted(range(len(examples)), key=lambda index: (turns[index], index))
    return [examples[index] for index in order[:count]]


def predict(
    connection: Connection, params: Params, model: str, split: str = "test", shots: Sequence[Example] = ()
) -> list[dict[str, Any]]:
    """For each row of a split what was asked, what was expected and what the model answered, in their order.

    The turns of `shots` stand before each question, after the system message.
    """
    examples = read_jsonl(PREPARED / f"{split}.jsonl", "prepare")
    if not examples:
        raise FinetuneError(f"data/prepared/{split}.jsonl is empty.", f"Give {split} a larger share in data.split.")
    before = [turn for shot in shots for turn in shot["messages"] if turn["role"] != "system"]
    marks = read_json(PREPARED_REPORT, "prepare").get("completion")
    frame = Frame(**marks) if marks else None
    prompts = [example["prompt"] if frame else opened(example["messages"][:-1], before) for example in examples]
    stop = frame.stop if frame else None
    with progress_bar(f"ask {model}") as progress:
        answers = answer_all(connection, model, prompts, params.evaluate, params.train.seed, progress, stop)
    pairs = [unframed(example, frame) if frame else last_turn(example) for example in examples]
    return [
        {"asked": asked, "expected": expected, "answer": answer.strip()}
        for (asked, expected), answer in zip(pairs, answers, strict=True)
    ]


def opened(messages: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A conversation with other turns before it, after its system message."""
    system = [turn for turn in messages[:1] if turn["role"] in ("system", "developer")]
    return [*system, *before, *messages[len(system) :]]


def last_turn(example: Example) -> tuple[str, str]:
    """The last question of a conversation and its answer."""
    asked, answer = (text_of(message.get("content")) for message in example["messages"][-2:])
    return asked, answer
