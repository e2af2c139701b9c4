"""Read the class that an answer names. All models are read by these rules, wherever a class is read from an answer.

An answer that is nothing but a class names it: with other case, width or white space, in quotes, Markdown, a code block
or JSON, or after what the model thinks. In a sentence, the longest classes count, as words of their own. An answer that
names several classes, or denies one, names none: what cannot be read is never guessed.
"""

import unicodedata
from collections.abc import Iterator, Sequence, Set
from functools import lru_cache
from typing import Any, NamedTuple

import regex

from finetune.scoring.answer_json import found_json, scalars_in
from finetune.scoring.negation import is_denied, is_determiner
from finetune.scoring.thoughts import without_thoughts
from finetune.scoring.word_borders import is_whole_word

INVISIBLE = regex.compile(r"[\p{Cf}\uFE0E\uFE0F]")
HYPHENS = regex.compile("[\u2010\u2011\u2212]|(?<=\\w)\u2013(?=\\w)")
AROUND_SIGN = regex.compile(r"[^\S\n]{0,3}([/&])[^\S\n]{0,3}")
DIGIT = regex.compile(r"\p{Nd}")
SEPARATORS = regex.compile(r"(?<=[\p{L}\p{M}\p{N}])[-_\s]+(?=[\p{L}\p{M}\p{N}])")
NUMBER = regex.compile(r"\d+(?:[.,:/]\d+)*")
FENCE = regex.compile(r"\s*```[\w+-]*\s*\n(.*?)\n?\s*```\s*", regex.S)
# Ignored around an answer. A sign or a point before a digit is part of a number, and + and # of names such as C++.
# "!spam" and "~~spam~~" are not spam.
MARK = r"(?:[[\s\p{P}`~|>]--[-%#&@/]])"
BEFORE = regex.compile(rf"^(?:(?![.,]\d|!|~~){MARK})*", regex.V1)
AFTER = regex.compile(rf"{MARK}*$", regex.V1)
ARTICLE = regex.compile(r"(?<=^|[.!?\n]\s*)\p{L}\s+\p{L}")  # "A parcel is late" may not mean the class A
# The forms of `forms_of` in which an answer and the classes are compared: the strictest first.
ORDER = [(0, 0), (1, 0), (1, 1), (2, 2), (3, 2), (3, 3), (4, 4), (5, 4), (5, 5), (6, 6)]
Found = tuple[int, int, set[str]]  # where classes begin and end in a text


class Reading(NamedTuple):
    """A class read from an answer; None if the answer names no class, or several."""

    label: str | None
    is_exact: bool  # the answer is the class as it is written; only white space around it is ignored


class SentenceForm(NamedTuple):
    """A form in which classes are looked for in sentences."""

    words: list[str]
    pattern: Any
    same: set[str]  # the classes that have this form
    is_short: bool  # in capitals, such as A or IT: only read as written, because "a" and "it" are words too


def label_of(answer: str, labels: Sequence[str], codes: bool = False) -> str | None:
    """Return the class that an answer names, or None."""
    return read_class(answer, labels, codes).label


def read_class(answer: str, labels: Sequence[str], codes: bool = False) -> Reading:
    """Read the class that an answer names.

    Case and marks decide only between classes that differ in nothing else. `codes` says that `labels` are codes: in a
    sentence they count only as they are written, because "a" and "I" are words too.
    """
    known = tuple(labels)
    if exact := whole_forms(known)[0].get(answer.strip()):
        return Reading(only(exact), True)
    text = without_thoughts(answer)
    if block := FENCE.fullmatch(text):
        text = block[1]
    whole = named_by_whole(text, known)
    if not whole and (found := found_json(text)) and (isinstance(found.value, dict) or found.is_whole):
        rest = [text[: found.start], text[found.end :]]
        whole = {label for scalar in scalars_in(found.value) for label in named_by_whole(scalar, known)}
        rest += [] if whole else scalars_in(found.value)
        return Reading(only(whole.union(*(named_in_sentence(one, known, codes) for one in rest))), False)
    return Reading(only(whole or named_in_sentence(text, known, codes)), False)


def only(labels: Set[str | None]) -> str | None:
    return next(iter(labels)) if len(labels) == 1 else None


def fold(text: str, ignores_case: bool = True) -> str:
    """Return a text in which case, width, digits, hyphens and invisible signs make no difference.

    All four i of Turkish are the same letter, and "billing / payment" is "billing/payment".
    """
    text = AROUND_SIGN.sub(r"\1", text)
    if text.isascii():
        return text.casefold() if ignores_case else text
    text = unicodedata.normalize("NFKC", HYPHENS.sub("-", INVISIBLE.sub("", text)).replace("’", "'"))
    text = DIGIT.sub(lambda match: str(unicodedata.decimal(match[0], match[0])), text)
    if not ignores_case:
        return text
    return unicodedata.normalize("NFKC", text.casefold().replace("i\u0307", "i").replace("ı", "i"))


def without_marks(text: str) -> str:
    """Return a text without marks around it; the text itself if it has nothing else."""
    return AFTER.sub("", without_marks_before(text)) or text.strip()


def without_marks_before(text: str) -> str:
    return str(BEFORE.sub("", text, count=1))


def forms_of(text: str) -> Iterator[str]:
    """Yield a text in the forms in which a whole answer is compared, the strictest first."""
    for form in (text.strip(), fold(text, ignores_case=False).strip(), fold(text).strip()):
        yield form
        yield without_marks(form)
    yield SEPARATORS.sub(" ", without_marks(fold(text)))


@lru_cache(maxsize=8)
def whole_forms(labels: tuple[str, ...]) -> list[dict[str, set[str]]]:
    """Return for each form of `forms_of` the classes by their text; computed once for all answers."""
    forms: list[dict[str, set[str]]] = [{} for _ in forms_of("")]
    for label in labels:
        for known, text in zip(forms, forms_of(label), strict=True):
            known.setdefault(text, set()).add(label)
    return forms


def named_by_whole(text: str, labels: tuple[str, ...]) -> set[str | None]:
    """Return the class that a text is, in the strictest form in which it is any; {None} if these are several."""
    forms, known = [*forms_of(text)], whole_forms(labels)
    for answer, label in ORDER:
        if chosen := known[label].get(forms[answer]):
            return {only(chosen)}
    return set()


def named_in_sentence(text: str, labels: tuple[str, ...], codes: bool) -> set[str | None]:
    """Return the classes that a text names in a sentence; {None} if it denies one, or asks about one."""
    folded = fold(text, ignores_case=not codes)
    found = [
        (*match.span(), form.same)
        for form in sentence_forms(labels, codes)
        if all(word in folded for word in form.words) and (not form.is_short or is_written(form.same, text))
        for match in form.pattern.finditer(folded)
        if is_whole_word(folded, *match.span()) and not is_determiner(folded, *match.span())
    ]
    longest = without_parts(found)
    if any(is_denied(folded, start, end) or ARTICLE.match(folded, start) for start, end, _ in longest):
        return {None}
    is_number = any(folded[start:end].isdigit() for start, end, _ in longest)
    if is_number and len(set(NUMBER.findall(folded))) > 1:  # "1 in 10" is neither 1 nor 10
        return {None}
    return {label for _, _, same in longest for label in those_written(same, text)}


def without_parts(found: list[Found]) -> list[Found]:
    """Return what is found in no longer one."""
    longest: list[Found] = []
    for one in sorted(found, key=lambda one: (one[0], -one[1])):
        if not longest or one[1] > longest[-1][1] or one[:2] == longest[-1][:2]:
            longest.append(one)
    return longest


def those_written(same: set[str], text: str) -> set[str | None]:
    """Return those of some classes, which differ in case or separators only, that a text has as they are written."""
    if len(same) == 1:
        return {*same}
    return {label for label in same if is_written({label}, text)} or {None}


def is_short(label: str) -> bool:
    return label.isupper() and len(label) <= 3


def is_written(same: set[str], text: str) -> bool:
    """Return whether a text has one of some classes as a word, in its case."""
    written = fold(text, ignores_case=False)
    forms = (regex.escape(fold(label, ignores_case=False)) for label in same)
    return any(is_whole_word(written, *match.span()) for form in forms for match in regex.finditer(form, written))


@lru_cache(maxsize=8)
def sentence_forms(labels: tuple[str, ...], codes: bool) -> list[SentenceForm]:
    """Return the forms in which classes are looked for in sentences; computed once for all answers."""
    forms: dict[tuple[str, ...], set[str]] = {}
    for label in labels:
        words = tuple(SEPARATORS.split(fold(label, ignores_case=not codes).strip()))
        if any(words):
            forms.setdefault(words, set()).add(label)
    return [
        SentenceForm([*words], regex.compile(r"[-_\s]+".join(map(regex.escape, words))), same, all(map(is_short, same)))
        for words, same in forms.items()
    ]
