"""Prompts and completions without a chat template become token IDs, the same way for training and for inference."""

from typing import Any

from finetune.engine.control_tokens import text_ids


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token IDs of a prompt. Nothing in the text is a control token; IDs can be sent as IDs.

    It begins with the token for the beginning of a text if the tokenizer puts that before each text. An empty prompt
    begins with it too, or with the token for the end of a text, so that the first token of its completion has a
    context.
    """
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    has_begin = begin is not None and list(tokenizer("a")["input_ids"])[:1] == [begin]
    found = [*([begin] if has_begin else []), *text_ids(tokenizer, text)]
    return found or [end if begin is None else begin]


def completion_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token IDs of a completion: apart from its prompt, so that a class of one token stays one token."""
    return text_ids(tokenizer, text, continued=True)
