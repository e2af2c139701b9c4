"""Secrets and personal data in a text, by offline rules: what they are called, never what they say."""

import re
from collections.abc import Callable, Iterator
from functools import cache

# Patterns of detect-secrets that are not of secrets: public addresses, and prefixes that words share.
NO_SECRETS = {"Public IP (ipv4)", "Artifactory Credentials"}
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
# Data of people that are not theirs alone: addresses of no one.
NOBODY = re.compile(r"@(?:[\w-]+\.)*example\.(?:com|org|net)$|\.(?:example|invalid|test)$", re.IGNORECASE)
DIGITS = re.compile(r"\d(?:[ \-.()/]{0,2}\d){6,}")  # whatever may be a number of a phone, a card, a person
CARD = re.compile(r"(?<![\d.-])[3-6]\d{3}(?:[ -]?\d{2,6}){2,4}(?![\d.-])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
US_NUMBER = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
KOREAN_NUMBER = re.compile(r"(?<![\d-])\d{6}-\d{7}(?![\d-])")
KANA, HANGUL = re.compile(r"[\u3040-\u30ff]"), re.compile(r"[\uac00-\ud7a3]")


@cache
def secret_patterns() -> list[tuple[str, re.Pattern[str]]]:
    """The name and pattern of every kind of secret that detect-secrets knows by its form."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds: list[tuple[str, type]] = sorted(get_mapping_from_secret_type_to_class().items())
    return [
        (name, pattern)
        for name, detector in kinds
        if name not in NO_SECRETS
        for pattern in getattr(detector, "denylist", ())
    ]


def secrets_in(text: str) -> Iterator[str]:
    """The kinds of secrets in a text, each once."""
    yield from dict.fromkeys(name for name, pattern in secret_patterns() if pattern.search(text))


def personal_data_in(text: str) -> Iterator[str]:
    """The kinds of personal data in a text, each once. Numbers must pass their own check digits."""
    if any(not NOBODY.search(address) for address in EMAIL.findall(text)):
        yield "an e-mail address"
    if DIGITS.search(text):
        yield from (kind for kind, pattern, check in NUMBERS if any(map(check, pattern.findall(text))))
        if has_phone(text):
            yield "a phone number"


def is_card(digits: str) -> bool:
    from stdnum import luhn

    bare = re.sub(r"[ -]", "", digits)
    return 13 <= len(bare) <= 19 and bool(luhn.is_valid(bare))


def is_iban(text: str) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(text))


def is_us_number(text: str) -> bool:
    from stdnum.us import ssn

    return bool(ssn.is_valid(text))


def is_korean_number(text: str) -> bool:
    from stdnum.kr import rrn

    return bool(rrn.is_valid(text))


NUMBERS: list[tuple[str, re.Pattern[str], Callable[[str], bool]]] = [
    ("a payment card's number", CARD, is_card),
    ("a bank account (IBAN)", IBAN, is_iban),
    ("a US social security number", US_NUMBER, is_us_number),
    ("a Korean resident number", KOREAN_NUMBER, is_korean_number),
]


def has_phone(text: str) -> bool:
    """Whether a text holds a phone number: with its country, or as Japan or Korea write it where the text is theirs."""
    region = "JP" if KANA.search(text) else "KR" if HANGUL.search(text) else None
    if region is None and "+" not in text:
        return False
    from phonenumbers import Leniency, PhoneNumberMatcher

    return PhoneNumberMatcher(text, region, leniency=Leniency.VALID).has_next()
