"""Find secrets and personal data in texts, by offline rules. Only the name of a kind is reported, never the text.

Most texts contain neither, and a cheap test shows it: see Clue. A detector without a clue searches every text.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np

from finetune.data.checks.line_block import LineBlock, lines_with

# Patterns of detect-secrets that do not match secrets: public addresses, and prefixes that words share.
NO_SECRETS = {"Public IP (ipv4)", "Artifactory Credentials"}
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
# Addresses that belong to nobody.
RESERVED_DOMAIN = re.compile(r"@(?:[\w-]+\.)*example\.(?:com|org|net)$|\.(?:example|invalid|test)$", re.IGNORECASE)
WIDE = "０１２３４５６７８９"
WIDE_DIGITS = str.maketrans(WIDE, "0123456789")
DIGITS = re.compile(r"[0-9](?:[ \-.()/]{0,2}[0-9]){6,}")  # as in the number of a phone, a card or a person
CARD = re.compile(r"(?<![\d.-])[3-6]\d{3}(?:[ -]?\d{2,6}){2,4}(?![\d.-])")
CARD_DIGITS = 13  # at least
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
US_NUMBER = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
KOREAN_NUMBER = re.compile(r"(?<![\d-])\d{6}-\d{7}(?![\d-])")
KANA, HANGUL = re.compile(r"[\u3040-\u30ff]"), re.compile(r"[\uac00-\ud7a3]")

SECRET_WORDS = ("://", "PRIVATE KEY")
KEY_LETTERS = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz/+=_-\\", b"k" * 68)
LONG_KEY = b"k" * 20
AS_DIGIT = bytes.maketrans(b"123456789", b"0" * 9)
AS_MASK = bytes.maketrans(b"123456789BCDEFGHIJKLMNOPQRSTUVWXYZ", b"0" * 9 + b"A" * 25)
SEPARATORS, SEVEN_DIGITS = b" -.()/", b"0" * 7
SEVEN_DIGITS_BYTES = 6 * 3  # most bytes from the first to the last of seven digits, each with two separators after it


@dataclass(frozen=True)
class Clue:
    """What a text must contain for a detector to find anything in it, as a test of many lines and of one text."""

    lines: Callable[[LineBlock], Iterable[int]]
    is_in: Callable[[str], bool]


@dataclass(frozen=True)
class Detector:
    """A search for some kinds of sensitive data."""

    find: Callable[[str], Iterator[str]]  # yields the names of the kinds that a text contains, each once
    clue: Clue | None = None  # None: search every text


def kinds_in(text: str, detectors: Sequence[Detector]) -> Iterator[str]:
    """Yield the kinds of data that the detectors find in a text."""
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


def lines_with_key(block: LineBlock) -> Iterator[int]:
    """Yield the numbers of the lines that `has_key` holds for."""
    yield from lines_with(block.content.translate(KEY_LETTERS), LONG_KEY)
    yield from (n for n in block.lines_with(b"/") if b"://" in block.lines[n])
    many = np.flatnonzero(block.capitals >= len("PRIVATEKEY"))
    yield from (n for n in many.tolist() if b"PRIVATE KEY" in block.lines[n])


def has_key(text: str) -> bool:
    """Return whether a text has one of the words of secrets, or as many letters of keys in a row as real keys have."""
    return any(word in text for word in SECRET_WORDS) or LONG_KEY in text.encode("utf-8", "replace").translate(
        KEY_LETTERS
    )


def lines_with_seven_digits(block: LineBlock) -> Iterator[int]:
    """Yield the numbers of the lines with seven digits that have only separators between them, or with wide digits."""
    digits = np.flatnonzero(block.letters - ord("0") < 10)
    first, last = digits[:-6], digits[6:]
    for number in block.lines_at(first[last - first <= SEVEN_DIGITS_BYTES]).tolist():
        if SEVEN_DIGITS in block.lines[number].translate(AS_DIGIT, SEPARATORS):
            yield number
    if block.beyond_ascii:
        for digit in WIDE:
            yield from block.lines_with(digit.encode())


def has_seven_digits(text: str) -> bool:
    text = with_ascii_digits(text)
    digits = text.encode("utf-8", "replace").translate(AS_DIGIT, SEPARATORS)
    return SEVEN_DIGITS in digits and DIGITS.search(text) is not None


def with_ascii_digits(text: str) -> str:
    # Looking for the ten digits takes a fiftieth of the time of a translation.
    return text.translate(WIDE_DIGITS) if not text.isascii() and any(digit in text for digit in WIDE) else text


AT_SIGN = Clue(lambda block: block.lines_with(b"@"), lambda text: "@" in text)
NUMBER = Clue(lines_with_seven_digits, has_seven_digits)
KEY = Clue(lines_with_key, has_key)


@cache
def secret_patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Return the name and pattern of every kind of secret that detect-secrets knows by its form."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds: list[tuple[str, type]] = sorted(get_mapping_from_secret_type_to_class().items())
    return [
        # Keys are ASCII, and so are the letters and digits of these patterns.
        (name, re.compile(pattern.pattern, pattern.flags & ~re.UNICODE | re.ASCII))
        for name, detector in kinds
        if name not in NO_SECRETS
        for pattern in getattr(detector, "denylist", ())
    ]


def find_secrets(text: str) -> Iterator[str]:
    yield from dict.fromkeys(name for name, pattern in secret_patterns() if pattern.search(text))


def find_email(text: str) -> Iterator[str]:
    if any(not RESERVED_DOMAIN.search(address) for address in EMAIL.findall(text)):
        yield "an e-mail address"


def find_numbers(text: str) -> Iterator[str]:
    """Yield the kinds of the numbers in a text: those with valid check digits, and phone numbers."""
    text = with_ascii_digits(text)
    masked = text.encode("utf-8", "replace").translate(AS_MASK)
    for kind, mask, pattern, is_valid in NUMBERS:
        if mask in masked and any(map(is_valid, pattern.findall(text))):
            yield kind
    if masked.count(b"0") >= CARD_DIGITS and any(map(is_card, CARD.findall(text))):
        yield "a payment card's number"
    if has_phone(text):
        yield "a phone number"


def is_card(number: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"[ -]", "", number)
    return CARD_DIGITS <= len(digits) <= 19 and bool(luhn.is_valid(digits))


def is_iban(text: str) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(text))


def is_us_number(text: str) -> bool:
    from stdnum.us import ssn

    return bool(ssn.is_valid(text))


def is_korean_number(text: str) -> bool:
    from stdnum.kr import rrn

    return bool(rrn.is_valid(text))


# The kind; what a text must contain once its capitals are A and its digits 0 (b"": nothing), which is faster to look
# for than the pattern; the pattern; the check of its digits.
NUMBERS: list[tuple[str, bytes, re.Pattern[str], Callable[[str], bool]]] = [
    ("a bank account (IBAN)", b"AA00", IBAN, is_iban),
    ("a US social security number", b"000-00-0000", US_NUMBER, is_us_number),
    ("a Korean resident number", b"000000-0000000", KOREAN_NUMBER, is_korean_number),
]


def has_phone(text: str) -> bool:
    """Return whether a text has a phone number: with its country code, or in the national form of Japan or Korea where
    the text is in kana or Hangul."""
    region = "JP" if KANA.search(text) else "KR" if HANGUL.search(text) else None
    if region is None and "+" not in text:
        return False
    from phonenumbers import Leniency, PhoneNumberMatcher

    return PhoneNumberMatcher(text, region, leniency=Leniency.VALID).has_next()


# tests/test_prefilter.py proves the clue KEY for every pattern of the detect-secrets that constraints.txt pins.
SECRETS = [Detector(find_secrets, KEY)]
PERSONAL_DATA = [Detector(find_email, AT_SIGN), Detector(find_numbers, NUMBER)]
