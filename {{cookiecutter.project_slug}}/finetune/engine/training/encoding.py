"""Encode examples as token IDs and labels: the loss counts the tokens of answers or completions, and no others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.engine.chat_template import check_used, render
from finetune.engine.completion_prompt import completion_ids, prompt_ids
from finetune.engine.conversation import InvalidChat, Message
from finetune.engine.training.training_file import (
    Example,
    InvalidExample,
    at_example,
    is_trained,
    nothing,
    read_examples,
)

IGNORE_INDEX = -100  # the label that PyTorch's cross-entropy leaves out


@dataclass(frozen=True)
class EncodedExample:
    """`input_ids` and `labels` of one example, of the same length; labels are IGNORE_INDEX outside trained turns."""

    input_ids: list[int]
    labels: list[int]


def trained_tokens(example: EncodedExample) -> int:
    """Return how many tokens of an example are trained on."""
    return len(example.labels) - example.labels.count(IGNORE_INDEX)


def encode_file(
    tokenizer: Any,
    path: Path,
    max_length: int,
    param: str,
    method: str = "supervised",
    check: Callable[[], None] = nothing,
) -> list[EncodedExample]:
    """Encode the examples of a file; `param` is the job's parameter that names the file.

    A preference is two: the conversation with its preferred answer, then with the other one.

    `check` is called now and then, and raises to end the work.

    Raises JobError for what `read_examples`, `encode` and `encode_pair` refuse.
    """
    encoded = []
    for number, example in enumerate(read_examples(path, param, method, check), 1):
        with at_example(number, example["line"], param):
            encoded += encode_example(tokenizer, example, max_length)
    return encoded


def encode_example(tokenizer: Any, example: Example, max_length: int) -> list[EncodedExample]:
    """Encode an example. Raises InvalidExample if it is too long: cutting it would remove its answer."""
    if "preferred" in example:
        both = (example["preferred"], example["other"])
        return [encode(tokenizer, messages, max_length, example.get("tools")) for messages in both]
    if "messages" in example:
        return [encode(tokenizer, example["messages"], max_length, example.get("tools"))]
    return [encode_pair(tokenizer, example["prompt"], example["completion"], max_length)]


def encode_pair(tokenizer: Any, prompt: str, completion: str, max_length: int) -> EncodedExample:
    """Encode a prompt and its completion, with labels on the completion. No token for its end is added."""
    before, answer = prompt_ids(tokenizer, prompt), completion_ids(tokenizer, completion)
    if not answer:
        raise InvalidExample("has a completion without a token of this base: there is nothing to train on.")
    return checked_length(EncodedExample(before + answer, [IGNORE_INDEX] * len(before) + answer), max_length)


def checked_length(encoded: EncodedExample, max_length: int) -> EncodedExample:
    """Return an example that is not too long. Raises InvalidExample for another one."""
    if len(encoded.input_ids) > max_length:
        raise InvalidExample(f"has {len(encoded.input_ids)} tokens; max_length is {max_length}.")
    return encoded


def encode(
    tokenizer: Any, messages: Sequence[Message], max_length: int, tools: Sequence[Mapping[str, Any]] | None = None
) -> EncodedExample:
    """Encode a conversation, with labels on its trained turns and on the token that ends each of them.

    A turn's span is found by rendering the conversation up to the turn and through it. This is right only if each
    rendering is a prefix of the next; templates that rewrite earlier turns break this, so it is checked.
    Raises InvalidExample if the check fails, if the base's chat template leaves something out, and if the example is
    longer than `max_length`.
    """
    from jinja2 import TemplateError

    try:
        labels = labels_of(tokenizer, messages, tools)
        check_used(tokenizer, messages, tools)
    except (InvalidChat, TemplateError) as error:
        raise InvalidExample(f"cannot be trained on: {error}.") from error
    return checked_length(labels, max_length)


def labels_of(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None) -> EncodedExample:
    """Return a conversation with labels on its trained turns. Raises InvalidExample if they cannot be found."""
    full = render(tokenizer, messages, add_generation_prompt=False, tools=tools)
    labels = [IGNORE_INDEX] * len(full)
    for index, message in enumerate(messages):
        if not is_trained(message):
            continue
        if index == 0:
            raise InvalidExample("begins with an answer to train on: it needs a message before it.")
        before = render(tokenizer, messages[:index], add_generation_prompt=True, tools=tools)
        through = render(tokenizer, messages[: index + 1], add_generation_prompt=False, tools=tools)
        if index + 1 < len(messages) and through[-1:] == [tokenizer.eos_token_id] != full[len(through) - 1 :][:1]:
            through.pop()  # what ends the whole conversation, as in Phi's template
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
    return EncodedExample(full, labels)
