"""Count the tokens of the calls that the evaluation will make, before any is made."""

from collections.abc import Callable, Sequence
from itertools import islice

from finetune.core.break_even import CallTokens
from finetune.core.disk import each_jsonl
from finetune.core.paths import PREPARED
from finetune.core.records.prepared import Example, PreparedExample
from finetune.core.records.settings import Questions
from finetune.data.examples import as_chat
from finetune.data.questions import few_shot_examples, prompt_of, turns_of_shots
from finetune.data.token_counts import IMAGE_PRICES, ImagePrices, counter

USUAL_SHOTS = 10  # examples in a prompt where evaluate.few_shot is 0
MOST_COUNTED = 1_000  # test rows, evenly spaced; the others are like them
NO_ANSWER: Example = {"role": "assistant", "content": ""}


def call_tokens(
    questions: Questions, rows: int, encoding: str, image_prices: ImagePrices | None = None
) -> CallTokens | None:
    """Return the mean tokens of the calls for a test split of so many rows; None if it is empty.

    The few-shot prompt is the one that `baseline` asks: the turns of the examples follow one system prompt. Examples of
    prompts and completions are put before the prompt as they are.
    """
    count = counter(encoding, image_prices or IMAGE_PRICES)
    step = max(1, -(-rows // MOST_COUNTED))
    test = islice(each_jsonl(PREPARED / "test.jsonl", "prepare", PreparedExample), 0, None, step)
    counted = [tokens_of(as_chat(example), questions["max_tokens"], count) for example in test]
    if not counted:
        return None
    prompt, answer = (sum(column) / len(counted) for column in zip(*counted, strict=True))
    shots = questions["few_shot"] or usual_shots()
    return CallTokens(prompt, prompt + tokens_of_shots(shots, count), answer, len(shots))


def usual_shots() -> list[Example]:
    """Return the examples that a prompt would hold without fine-tuning."""
    first = list(islice(each_jsonl(PREPARED / "train.jsonl", "prepare", PreparedExample), USUAL_SHOTS))
    return few_shot_examples(USUAL_SHOTS) if first and "messages" in as_chat(first[0]) else first


def tokens_of(example: Example, max_tokens: int, count: Callable[[Example], int]) -> tuple[int, int]:
    """Return the tokens of an example's prompt and of its answer, which is cut at `max_tokens`."""
    if "messages" not in example:
        prompt = count({**example, "completion": ""})
        return prompt, min(max_tokens, count(example) - prompt)
    *asked, answer = example["messages"]
    said = count({"messages": [answer]}) - count({"messages": [NO_ANSWER]})
    # The role of the answer is part of the prompt.
    return count({**example, "messages": [*prompt_of(asked, []), NO_ANSWER]}), min(max_tokens, said)


def tokens_of_shots(shots: Sequence[Example], count: Callable[[Example], int]) -> int:
    """Return the tokens that examples add to a prompt."""
    if any("messages" not in shot for shot in shots):
        return sum(map(count, shots))
    return count({"messages": turns_of_shots(shots)}) - count({"messages": []})
