"""Secrets and personal data in a text, by offline rules: what they are called, never what they say."""

import re
from collections.abc import Callable, Iterator
from functools import cache

# Patterns of detect-secrets that are not of secrets: public addresses, and prefixes that words share.
NO_SECRETS = {"Public IP (ipv4)", "Artifactory Credentials"}
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
# Data of people that are not theirs alone: addresses of no one.
NOBODY = re.compile(r"@(?:[\w-]+\.)*example\.(?:com|org|net)$|\.(?:example|invalid|test)$", re.IGNORECASE)
WIDE_DIGITS = str.maketrans("０１２３４５６７８９", "0123456789")
DIGITS = re.compile(r"[0-9](?:[ \-.()/]{0,2}[0-9]){6,}")  # whatever may be a number of a phone, a card, a person
CARD = re.compile(r"(?<![\d.-])[3-6]\d{3}(?:[ -]?\d{2,6}){2,4}(?![\d.-])")
CARD_DIGITS = 13  # at least
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
US_NUMBER = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
KOREAN_NUMBER = re.compile(r"(?<![\d-])\d{6}-\d{7}(?![\d-])")
KANA, HANGUL = re.compile(r"[\u3040-\u30ff]"), re.compile(r"[\uac00-\ud7a3]")

# Nearly all texts hold neither secret nor number, which is told by looking at bytes: what looks like a secret counts
# only with one of these words, or with so many letters of keys in a row, which all but short stand-ins have; every
# number has seven digits with nothing but separators between them.
SECRET_WORDS = ("://", "PRIVATE KEY")
KEY_LETTERS = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz/+=_-\\", b"k" * 68)
LONG_KEY = b"k" * 20
AS_DIGIT = bytes.maketrans(b"123456789", b"0" * 9)
AS_MASK = bytes.maketrans(b"123456789BCDEFGHIJKLMNOPQRSTUVWXYZ", b"0" * 9 + b"A" * 25)
SEPARATORS, SEVEN_DIGITS = b" -.()/", b"0" * 7


@cache
def secret_patterns() -> list[tuple[str, re.Pattern[str]]]:
    """The name and pattern of every kind of secret that detect-secrets knows by its form."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds: list[tuple[str, type]] = sorted(get_mapping_from_secret_type_to_class().items())
    return [
        # Keys are ASCII, and so are the letters and digits of these patterns.
        (name, re.compile(pattern.pattern, pattern.flags & ~re.UNICODE | re.ASCII))
        for name, detector in kinds
        if name not in NO_SECRETS
        for pattern in getattr(detector, "denylist", ())
    ]


def may_hold_secret(text: str) -> bool:
    """Whether it is worth trying the patterns on a text: they are many, and slow."""
    return any(word in text for word in SECRET_WORDS) or LONG_KEY in text.encode("utf-8", "replace").translate(
        KEY_LETTERS
    )


def secrets_in(text: str) -> Iterator[str]:
    """The kinds of secrets in a text, each once."""
    if may_hold_secret(text):
        yield from dict.fromkeys(name for name, pattern in secret_patterns() if pattern.search(text))


def personal_data_in(text: str) -> Iterator[str]:
    """The kinds of personal data in a text, each once. Numbers must pass their own check digits."""
    if "@" in text and any(not NOBODY.search(address) for address in EMAIL.findall(text)):
        yield "an e-mail address"
    if not text.isascii():
        text = text.translate(WIDE_DIGITS)
    masked = text.encode("utf-8", "replace").translate(AS_MASK)
    if SEVEN_DIGITS in masked.translate(None, SEPARATORS) and DIGITS.search(text):
        for kind, mask, pattern, check in NUMBERS:
            if mask in masked and any(map(check, pattern.findall(text))):
                yield kind
        if masked.count(b"0") >= CARD_DIGITS and any(map(is_card, CARD.findall(text))):
            yield "a payment card's number"
        if has_phone(text):
            yield "a phone number"


def is_card(digits: str) -> bool:
    from stdnum import luhn

    bare = re.sub(r"[ -]", "", digits)
    return CARD_DIGITS <= len(bare) <= 19 and bool(luhn.is_valid(bare))


def is_iban(text: str) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(text))


def is_us_number(text: str) -> bool:
    from stdnum.us import ssn

    return bool(ssn.is_valid(text))


def is_korean_number(text: str) -> bool:
    from stdnum.kr import rrn

    return bool(rrn.is_valid(text))


# The kind, what must stand in a text whose capitals are all A and whose digits all 0 (it is quickly looked for), the
# pattern, the check digits.
NUMBERS: list[tuple[str, bytes, re.Pattern[str], Callable[[str], bool]]] = [
    ("a bank account (IBAN)", b"AA00", IBAN, is_iban),
    ("a US social security number", b"000-00-0000", US_NUMBER, is_us_number),
    ("a Korean resident number", b"000000-0000000", KOREAN_NUMBER, is_korean_number),
]


def has_phone(text: str) -> bool:
    """Whether a text holds a phone number: with its country, or as Japan or Korea write it where the text is theirs."""
    region = "JP" if KANA.search(text) else "KR" if HANGUL.search(text) else None
    if region is None and "+" not in text:
        return False
    from phonenumbers import Leniency, PhoneNumberMatcher

    return PhoneNumberMatcher(text, region, leniency=Leniency.VALID).has_next()
