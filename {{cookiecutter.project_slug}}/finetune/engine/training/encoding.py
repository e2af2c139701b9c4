"""From a training file to token IDs and labels: the loss is on what the assistant says, and on nothing else."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.engine.api_errors import JobError

IGNORED = -100  # the label that PyTorch's cross-entropy leaves out
ROLES = ("system", "user", "assistant", "developer")
MIN_EXAMPLES = 10

Message = dict[str, Any]


@dataclass(frozen=True)
class Encoded:
    """One example: `input_ids` and `labels` of the same length, labels being IGNORED outside the trained turns."""

    input_ids: list[int]
    labels: list[int]


def read_examples(path: Path, param: str) -> list[list[Message]]:
    """The conversations of a chat-format JSONL file.

    Raises JobError with OpenAI's code and its count of examples from 1; `param` names the file in the job.
    """
    examples = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            examples.append(checked_messages(line, number, param))
    if param == "training_file" and len(examples) < MIN_EXAMPLES:
        raise JobError(
            "invalid_n_examples",
            f"Training file has {len(examples)} example(s), but must have at least {MIN_EXAMPLES} examples.",
            param,
        )
    if not examples:
        raise JobError("invalid_n_examples", "Validation file has no examples.", param)
    return examples


def checked_messages(line: str, number: int, param: str) -> list[Message]:
    """The messages of one line; raises JobError when it is not a chat example with something to learn."""

    def refuse(why: str) -> JobError:
        return JobError("invalid_training_file", f"Example {number} {why} (line {number})", param)

    try:
        example = json.loads(line)
    except ValueError as error:
        raise refuse(f"cannot be parsed. Error: line contains invalid json: {error}") from error
    if not isinstance(example, dict) or not isinstance(example.get("messages"), list):
        raise refuse("is missing key 'messages'.")
    for key in sorted(set(example) - {"messages"}):
        raise refuse(f'contains an extra "{key}", which this server does not train on.')
    for index, message in enumerate(example["messages"]):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise refuse(f"message {index} has no role of {', '.join(ROLES)}.")
        if not isinstance(message.get("content"), str):
            raise refuse(f"message {index} has no text as its content.")
        if message.get("weight", 1) not in (0, 1):
            raise refuse(f"message {index} has a weight other than 0 or 1.")
    if not any(is_trained(message) for message in example["messages"]):
        raise refuse("has no assistant message to learn from.")
    return list(example["messages"])


def is_trained(message: Message) -> bool:
    return bool(message["role"] == "assistant" and message.get("weight", 1) == 1)


def render(tokenizer: Any, messages: Sequence[Message], prompt: bool) -> list[int]:
    """Token IDs of a conversation in the base's own chat template; with `prompt`, up to where an answer begins."""
    turns = [{"role": m["role"], "content": m["content"]} for m in messages]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode(tokenizer: Any, messages: Sequence[Message], max_length: int) -> Encoded:
    """An example with labels on its trained turns, the token that ends the turn included.

    The span of a turn is found by rendering the conversation up to it and through it. That is right only where each
    rendering begins the next; templates that rewrite earlier turns break this, so it is checked.
    Raises JobError where the check fails, or where the example is longer than `max_length`, which a silent cut would
    rob of its answer.
    """
    full = render(tokenizer, messages, prompt=False)
    labels = [IGNORED] * len(full)
    for index, message in enumerate(messages):
        if not is_trained(message):
            continue
        before = render(tokenizer, messages[:index], prompt=True)
        through = render(tokenizer, messages[: index + 1], prompt=False)
        if full[: len(before)] != before or full[: len(through)] != through:
            raise JobError(
                "invalid_training_file",
                "The base's chat template rewrites earlier turns, so the answers cannot be told from the prompts.",
                "training_file",
            )
        end = len(through)
        if tokenizer.eos_token_id in through[len(before) :]:
            # What follows the end of the turn (a line break, in ChatML) is never generated: nothing to learn there.
            end = len(through) - through[::-1].index(tokenizer.eos_token_id)
        labels[len(before) : end] = full[len(before) : end]
    if len(full) > max_length:
        raise JobError(
            "invalid_training_file",
            f"An example has {len(full)} tokens, over the base's {max_length}.",
            "training_file",
        )
    return Encoded(full, labels)
