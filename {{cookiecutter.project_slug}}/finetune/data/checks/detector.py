"""Detectors of sensitive data in texts. Only kinds and places are reported, never the text.

Most texts contain no sensitive data, and a cheap test shows it: see Clue. Without a clue, every text is searched.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from finetune.data.checks.line_block import LineBlock

PLACEHOLDER = re.compile(r"<[A-Z_]+_[0-9]+>")  # what redaction.py writes in place of sensitive data


@dataclass(frozen=True)
class Clue:
    """What a text must contain for a detector to find anything in it, as a test of many lines and of one text."""

    lines: Callable[[LineBlock], Iterable[int]]
    is_in: Callable[[str], bool]


class Found(NamedTuple):
    """Sensitive data in a text: from the letter `start` to the letter before `end`."""

    kind: str  # a kind of data.redact
    name: str  # the kind in a message, more exact for secrets
    start: int
    end: int


@dataclass(frozen=True)
class Detector:
    """A search for some kinds of sensitive data."""

    find: Callable[[str], Iterator[Found]]  # may yield one place several times
    clue: Clue | None = None  # None: search every text


def kinds_in(text: str, detectors: Sequence[Detector]) -> Iterator[str]:
    """Yield the names of the kinds that the detectors find in a text, each once."""
    yield from dict.fromkeys(found.name for found in find_all(text, detectors))


def find_all(text: str, detectors: Sequence[Detector]) -> Iterator[Found]:
    """Yield all that the detectors find in a text."""
    has: dict[Clue, bool] = {}
    for detector in detectors:
        clue = detector.clue
        if clue is not None and clue not in has:
            has[clue] = clue.is_in(text)
        if clue is None or has[clue]:
            yield from detector.find(text)


def lines_to_search(block: LineBlock, detectors: Sequence[Detector]) -> Iterable[int]:
    """Return the numbers of the lines in which the detectors may find something."""
    clues = dict.fromkeys(detector.clue for detector in detectors)
    if None in clues:
        return range(len(block.lines))
    return chain.from_iterable(clue.lines(block) for clue in clues if clue is not None)
