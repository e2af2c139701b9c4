"""Tokens as text and as bytes. Some tokens are only a part of a character."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

# By tokenizer, the texts of its tokens so far: an answer with log-probabilities needs up to 21 for each of its tokens.
TEXTS: WeakKeyDictionary[Any, dict[tuple[int, bool], str]] = WeakKeyDictionary()


def text_after(tokenizer: Any, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
    """Return the text of tokens that follow other text.

    `decode` takes them for the beginning of a text, and there the tokenizers of Llama 2, Mistral and others leave out
    the first space.
    """
    before, text = letter(tokenizer)
    return str(tokenizer.decode([before, *token_ids], skip_special_tokens=skip_special_tokens))[len(text) :]


@lru_cache(maxsize=8)
def letter(tokenizer: Any) -> tuple[int, str]:
    """Return a token that is a letter, and its text."""
    token: int = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
    return token, tokenizer.decode([token])


def token_text(tokenizer: Any, token: int, is_first: bool) -> str:
    """Return the text of a token; `is_first` says whether it is the first one of a text."""
    known = TEXTS.setdefault(tokenizer, {})
    if (text := known.get((token, is_first))) is None:
        text = str(tokenizer.decode([token])) if is_first else text_after(tokenizer, [token])
        known[token, is_first] = text
    return text


def token_bytes(tokenizer: Any, token: int, text: str) -> bytes:
    """Return a token's bytes; its text does not show them where the token is a part of a character."""
    if "\ufffd" not in text or (piece := tokenizer.convert_ids_to_tokens(token)) is None:
        return text.encode()
    if match := re.fullmatch("<0x([0-9A-F]{2})>", piece):  # SentencePiece's form
        return bytes([int(match[1], 16)])
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = {one: byte for byte, one in bytes_to_unicode().items()}  # type: ignore[no-untyped-call]
    return bytes(letters[one] for one in piece) if all(one in letters for one in piece) else text.encode()
