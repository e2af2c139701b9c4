"""Codes of one token each for classes, so that a model answers with one choice among as many tokens.

Names of classes are seldom one token, and several may begin with the same token. Then the probability of a class, or an
answer cut after one token, means nothing. Only the base's own tokenizer knows which texts are one token.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from string import ascii_lowercase, ascii_uppercase

from finetune.core.errors import FinetuneError

MOST_CLASSES = 500  # source: OpenAI's guide to classifiers


def codes_for(labels: Sequence[str], encode: Callable[[str], list[int]]) -> dict[str, str]:
    """Return a code for each class: numbers from 0 where they are one token by `encode`, then letters.

    The same classes in the same order get the same codes, and a class added at the end changes no other code.
    Raises FinetuneError for no classes, too many classes, a class that is listed twice, or too few codes.
    """
    if not labels or len(set(labels)) != len(labels) or len(labels) > MOST_CLASSES:
        raise FinetuneError(
            f"data.codes needs 1 to {MOST_CLASSES} classes in data.labels, each once; it has {len(labels)}.",
            "List the classes in data.labels; add new classes at the end, so that codes stay the same.",
        )
    codes = dict(zip(labels, one_token_codes(encode), strict=False))
    if len(codes) < len(labels):
        raise FinetuneError(
            f"The tokenizer has {len(codes)} codes of one token, too few for {len(labels)} classes.",
            "Set data.codes to false.",
        )
    return codes


def one_token_codes(encode: Callable[[str], list[int]]) -> Iterator[str]:
    """Yield the candidates that are one token, no two the same token, and no two that differ only in case.

    Answers are compared without regard to case, so `A` and `a` would be the same answer.
    """
    tokens_taken: set[int] = set()
    texts_taken: set[str] = set()
    for candidate in candidates():
        if candidate.casefold() in texts_taken:
            continue
        tokens = encode(candidate)
        if len(tokens) == 1 and tokens[0] not in tokens_taken:
            tokens_taken.add(tokens[0])
            texts_taken.add(candidate.casefold())
            yield candidate


def candidates() -> Iterator[str]:
    """Yield numbers, letters, and pairs of letters, each first in capitals."""
    yield from map(str, range(MOST_CLASSES))
    for length in (1, 2):
        for letters in (ascii_uppercase, ascii_lowercase):
            yield from map("".join, product(letters, repeat=length))


def codes_text(codes: dict[str, str]) -> str:
    """Return the codes as text for a prompt, such as `0 = billing, 1 = delivery`."""
    return ", ".join(f"{code} = {label}" for label, code in codes.items())
