"""Texts without the differences that do not change their meaning: case, character width and spacing."""

import unicodedata

SPACES = b" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"


def normalize(text: str) -> str:
    """Return a text in NFKC, case-folded, with single spaces between words."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def comparison_key(text: str) -> bytes:
    """Return a text in NFKC, case-folded, without spaces, in UTF-8. Texts with the same key ask the same question."""
    if not text.isascii():
        text = "".join(unicodedata.normalize("NFKC", text).split())
    return text.casefold().encode().translate(None, SPACES)
