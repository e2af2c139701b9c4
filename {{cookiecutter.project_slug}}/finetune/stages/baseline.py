"""baseline: what the base model answers to the test split, with the prompt that the tuned model gets."""

from collections import Counter
from pathlib import Path

from finetune.asking.test_rows import kept_part, latency, predict
from finetune.core.disk import read_jsonl, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.records import Example
from finetune.data.examples import text_of
from finetune.provider.connect import connect

PREDICTIONS = Path("predictions/base.jsonl")
FEW_SHOT = Path("predictions/few_shot.jsonl")
LATENCY = Path("predictions/latency.json")


def run(params: Params) -> int:
    """Write the base model's predictions, and those with examples in its prompt; the number of rows comes back.

    The latter file is empty unless `evaluate.few_shot` asks for some.
    """
    model = base_of(params)
    shots = few(params.evaluate.few_shot)
    with connect(params.provider) as connection:
        rows = predict(connection, params, model)
        with_shots = predict(connection, params, model, shots=shots) if shots else []
    write_jsonl(PREDICTIONS, kept_part(rows))
    write_jsonl(FEW_SHOT, kept_part(with_shots))
    write_json(LATENCY, {"base": latency(rows), "few_shot": latency(with_shots)})
    return len(rows)


def base_of(params: Params) -> str:
    """What to ask the base model by."""
    return params.provider.base_deployment or params.train.base


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
