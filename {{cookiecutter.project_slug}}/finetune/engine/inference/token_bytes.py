"""The bytes of tokens, of which some are only a part of a character."""

import re
from typing import Any


def token_bytes(tokenizer: Any, token: int, text: str) -> bytes:
    """Return a token's bytes; its text does not show them where the token is a part of a character."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    piece = tokenizer.convert_ids_to_tokens(token)
    if "\ufffd" not in text or piece is None:
        return text.encode()
    if match := re.fullmatch("<0x([0-9A-F]{2})>", piece):  # SentencePiece's form
        return bytes([int(match[1], 16)])
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}  # type: ignore[no-untyped-call]
    return bytes(letters[letter] for letter in piece) if all(letter in letters for letter in piece) else text.encode()
