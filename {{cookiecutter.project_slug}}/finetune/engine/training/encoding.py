"""Encode examples as token IDs and labels: the loss counts the assistant's tokens and no others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.engine.chat_template import Message, render
from finetune.engine.training.training_file import InvalidExample, at_example, is_trained, read_examples

IGNORE_INDEX = -100  # the label that PyTorch's cross-entropy leaves out


@dataclass(frozen=True)
class EncodedExample:
    """`input_ids` and `labels` of one example, of the same length; labels are IGNORE_INDEX outside trained turns."""

    input_ids: list[int]
    labels: list[int]


def encode_file(tokenizer: Any, path: Path, max_length: int, param: str) -> list[EncodedExample]:
    """Encode the examples of a file in chat format; `param` is the job's parameter that names the file.

    Raises JobError for what `read_examples` and `encode` refuse.
    """
    encoded = []
    for number, example in enumerate(read_examples(path, param), 1):
        with at_example(number, example["line"], param):
            encoded.append(encode(tokenizer, example["messages"], max_length))
    return encoded


def encode(tokenizer: Any, messages: Sequence[Message], max_length: int) -> EncodedExample:
    """Encode an example, with labels on its trained turns and on the token that ends each of them.

    A turn's span is found by rendering the conversation up to the turn and through it. This is right only if each
    rendering is a prefix of the next; templates that rewrite earlier turns break this, so it is checked.
    Raises InvalidExample if the check fails, and if the example is longer than `max_length`: cutting it would remove
    its answer.
    """
    full = render(tokenizer, messages, add_generation_prompt=False)
    labels = [IGNORE_INDEX] * len(full)
    for index, message in enumerate(messages):
        if not is_trained(message):
            continue
        before = render(tokenizer, messages[:index], add_generation_prompt=True)
        through = render(tokenizer, messages[: index + 1], add_generation_prompt=False)
        if full[: len(before)] != before or full[: len(through)] != through:
            raise InvalidExample(
                "cannot be split into prompts and answers: the base's chat template rewrites earlier turns."
                " Use another base, or conversations with one answer each."
            )
        end = len(through)
        if tokenizer.eos_token_id in through[len(before) :]:
            # The model never generates what follows the end of the turn (a line break, in ChatML): no loss there.
            end = len(through) - through[::-1].index(tokenizer.eos_token_id)
        labels[len(before) : end] = full[len(before) : end]
    if len(full) > max_length:
        raise InvalidExample(f"has {len(full)} tokens; this base takes at most {max_length}.")
    return EncodedExample(full, labels)
