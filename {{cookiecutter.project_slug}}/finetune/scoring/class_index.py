"""Find the classes that a text begins or equals, in the form in which classes are compared."""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import regex

from finetune.scoring.class_reading import fold, without_marks_before
from finetune.scoring.word_borders import is_whole_word

SEPARATORS = regex.compile(r"(?<=[\p{L}\p{M}\p{N}])(?:[-_\s]+(?=[\p{L}\p{M}\p{N}])|[-_ ]$)")
NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
ClassesByText = dict[bytes, tuple[int, ...]]  # a text → the places of its classes


@dataclass(frozen=True)
class ClassIndex:
    """The classes by each text that begins them, and by their whole text."""

    begins: ClassesByText
    wholes: ClassesByText
    exact: dict[int, str]  # the text of each class that differs from another one only in case

    def begun_by(self, text: str) -> tuple[int, ...]:
        """Return the classes that a text begins; else the longest class that begins the text, at the end of a word."""
        folded = normalized(text)
        if (begun := key(folded)) in self.begins:
            return self.of_this_case(self.begins[begun], text)
        for end in range(len(folded) - 1, 0, -1):
            if (whole := key(folded[:end])) in self.wholes and is_whole_word(folded, 0, end):
                return self.of_this_case(self.wholes[whole], text)
        return ()

    def equal_to(self, text: str) -> tuple[int, ...]:
        """Return the classes that equal a text."""
        return self.of_this_case(self.wholes.get(key(normalized(text)), ()), text)

    def of_this_case(self, classes: tuple[int, ...], text: str) -> tuple[int, ...]:
        """Return the classes without those that another one of them is nearer to, because it has the text's case."""
        if not self.exact or len(classes) < 2:
            return classes
        written = as_written(text)
        names = {index: self.exact.get(index) for index in classes}
        fitting = (i for i, name in names.items() if not name or name.startswith(written) or written.startswith(name))
        return tuple(fitting) or classes


@lru_cache(maxsize=8)
def index_of(labels: tuple[str, ...]) -> ClassIndex:
    """Return the index of the classes; computed once for all answers."""
    begins, wholes = defaultdict(list), defaultdict(list)
    for index, label in enumerate(labels):
        if whole := key(normalized(label)):
            wholes[whole].append(index)
            for end in range(len(whole) + 1):
                begins[whole[:end]].append(index)
    return ClassIndex(
        {text: tuple(found) for text, found in begins.items()},
        {text: tuple(found) for text, found in wholes.items()},
        {index: as_written(labels[index]) for found in wholes.values() if len(found) > 1 for index in found},
    )


def normalized(text: str) -> str:
    """Return an answer's text in the form in which classes are compared."""
    return fold(as_written(text)).lstrip()


def key(text: str) -> bytes:
    """Return a normalized text without regard to separators: UTF-8, in which the parts of a letter join."""
    return str(SEPARATORS.sub(" ", text)).encode("utf-8", "surrogateescape")


def as_written(text: str) -> str:
    """Return an answer's text without marks before it, and with its parts of letters joined."""
    if not text.isascii():
        text = NO_BYTES.sub("\ufffd", text).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return without_marks_before(text)
