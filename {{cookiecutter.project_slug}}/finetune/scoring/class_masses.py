"""Compute the probability of each class from the log-probabilities of an answer's tokens."""

import math
from collections.abc import Sequence
from itertools import accumulate

from finetune.scoring.class_index import index_of, normalized
from finetune.scoring.thoughts import without_thoughts

TokenLogprobs = Sequence[tuple[str, float | None]]  # of one token: the chosen one, then likely ones
Unseen = list[tuple[Sequence[int], float]]  # mass of tokens that are not among the alternatives, and whose it can be


def class_probabilities(tops: Sequence[TokenLogprobs], labels: Sequence[str], codes: bool = False) -> list[float]:
    """Return the probability of each class from the log-probabilities of one answer, in the order of `labels`.

    `tops` has a list for each token of the answer: first the chosen token, then the likeliest ones, which may include
    the chosen one again. A token is its text (see `token_text`) and its log-probability; one that is not finite is
    ignored. Thinking and marks before the answer, case, width and the ends of words are read as in class_reading.py.

    The chosen tokens are followed one by one. At each token, the text so far is continued with every alternative. An
    alternative whose text begins exactly one class adds its mass to that class. So does the chosen token, and then
    reading stops; if its text begins several classes, the next token decides, or at the end of the answer the class
    that equals the whole text. A mass that nothing decides, such as that of an alternative that begins several classes,
    is divided equally among them. A text that begins no class is outside all classes, so the sum is at most 1. All
    are NaN if there is no log-probability.

    `codes` says that `labels` are codes of one token each. Then an alternative that is a whole code counts for that
    code alone, although it begins others: a model that is about to answer 17 does not begin with the token 1.
    """
    return class_masses(tops, labels, codes)[0]


def class_masses(
    tops: Sequence[TokenLogprobs], labels: Sequence[str], codes: bool = False
) -> tuple[list[float], Unseen]:
    """Return the `class_probabilities`, and the mass of the tokens that no alternative shows.

    APIs give at most 20 alternatives: with more classes, the right one is often not among them.
    """
    masses, unseen = [0.0] * len(labels), Unseen()
    if not any(is_finite(logprob) for top in tops for _, logprob in top):
        return [math.nan] * len(labels), unseen
    known = index_of(tuple(labels))

    def give(classes: Sequence[int], mass: float) -> None:
        for index in classes:
            masses[index] += mass / len(classes)

    text, mass = "", 1.0
    for top in after_thoughts(tops):
        shares: dict[str, float] = {}
        for token, logprob in top:
            if is_finite(logprob):
                shares.setdefault(token, math.exp(min(logprob or 0.0, 0.0)))
        unseen.append((known.begun_by(text), mass * max(0.0, 1 - sum(shares.values()))))
        chosen = top[0][0] if top else ""
        for token, share in shares.items():
            if token != chosen:
                give((known.equal_to(text + token) if codes else ()) or known.begun_by(text + token), mass * share)
        text, mass = text + chosen, mass * shares.get(chosen, 0.0)
        classes = known.begun_by(text)
        if len(classes) < 2:
            give(classes, mass)
            break
    else:
        if normalized(text):
            give(known.equal_to(text) or known.begun_by(text), mass)
    # Rounded log-probabilities may sum to slightly more than 1.
    total = max(1.0, sum(masses))
    return [mass / total for mass in masses], unseen


def unseen_share(place: int | None, masses: Sequence[float], unseen: Unseen) -> tuple[float, float]:
    """Return the mass that a class can have without being seen, and that of all classes.

    The mass of unseen tokens is divided equally among the classes that they can begin and that have no mass. What no
    class can have is outside. `place` is that of the class in `masses`; None is a class that is not among them.
    """
    own = total = 0.0
    for classes, mass in unseen:
        without = [one for one in classes if masses[one] == 0]
        if without and mass > 0:
            total += mass
            own += mass / len(without) if place in without else 0.0
    return own, total


def after_thoughts(tops: Sequence[TokenLogprobs]) -> Sequence[TokenLogprobs]:
    """Return the tokens after what the model thinks before its answer; [] if the thinking has no end."""
    tokens = [top[0][0] if top else "" for top in tops]
    text = "".join(tokens)
    answer = without_thoughts(text)
    if len(answer) == len(text):
        return tops
    begins = accumulate(map(len, tokens), initial=0)
    return [top for top, begin in zip(tops, begins, strict=False) if begin >= len(text) - len(answer)]


def is_finite(logprob: float | None) -> bool:
    return logprob is not None and math.isfinite(logprob)


def as_text(tops: Sequence[TokenLogprobs]) -> list[TokenLogprobs]:
    """Return the log-probabilities with each token as text."""
    return [[(token_text(token), logprob) for token, logprob in top] for top in tops]


def token_text(token: str) -> str:
    """Return a token as text. `token` has one Latin-1 letter per byte: only bytes distinguish parts of a letter."""
    return token.encode("latin-1").decode("utf-8", "surrogateescape")
