"""The chat template of a base: conversations become token IDs, the same way for training and for inference."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import NotRequired, TypedDict


class Message(TypedDict):
    """One turn of a conversation; an assistant's turn of `weight` 0 is not trained on."""

    role: str
    content: str
    weight: NotRequired[int]


def render(tokenizer: Any, messages: Sequence[Message], add_generation_prompt: bool) -> list[int]:
    """Return the token IDs of a conversation; with `add_generation_prompt`, up to where the next answer begins."""
    turns = [{"role": message["role"], "content": message["content"]} for message in messages]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
