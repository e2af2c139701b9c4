"""Codes for classes: short stand-ins of one token each, so that a class is answered by one choice among as many tokens.

Whole names of classes are seldom one token, and share their first ones; then a probability of a class, or an answer cut
after one token, means nothing. Which texts are one token, only the base's own tokenizer tells.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from string import ascii_lowercase, ascii_uppercase

from finetune.core.errors import FinetuneError

MOST = 500  # classes; source: OpenAI's guide to classifiers


def codes_for(labels: Sequence[str], encode: Callable[[str], list[int]]) -> dict[str, str]:
    """A code for each class: numbers from 0 where they are one token, then letters; proved with the tokenizer.

    The same classes in the same order have the same codes, and one that is added at the end changes no other.
    Raises FinetuneError where there are no classes, too many, the same one twice, or too few such codes.
    """
    if not labels or len(set(labels)) != len(labels) or len(labels) > MOST:
        raise FinetuneError(
            f"data.codes needs the classes in data.labels, each once and {MOST} at most; it has {len(labels)}.",
            "List them there, in an order that stays: new ones at the end.",
        )
    codes = dict(zip(labels, of_one_token(encode), strict=False))
    if len(codes) < len(labels):
        raise FinetuneError(
            f"The tokenizer has {len(codes)} codes of one token, too few for {len(labels)} classes.",
            "Set data.codes to false.",
        )
    return codes


def of_one_token(encode: Callable[[str], list[int]]) -> Iterator[str]:
    """The candidates that are one token, each another."""
    taken: set[int] = set()
    for candidate in candidates():
        tokens = encode(candidate)
        if len(tokens) == 1 and tokens[0] not in taken:
            taken.add(tokens[0])
            yield candidate


def candidates() -> Iterator[str]:
    yield from map(str, range(MOST))
    yield from ascii_uppercase + ascii_lowercase
    for letters in (ascii_uppercase, ascii_lowercase):
        yield from map("".join, product(letters, repeat=2))


def table_of(codes: dict[str, str]) -> str:
    """The codes as a prompt may spell them out."""
    return ", ".join(f"{code} = {label}" for label, code in codes.items())
