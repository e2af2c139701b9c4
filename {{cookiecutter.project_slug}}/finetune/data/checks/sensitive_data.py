"""The detectors of secrets and personal data in texts, by offline rules, and their clues."""

import re
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from finetune.data.checks.detector import PLACEHOLDER, Clue, Detector, Found
from finetune.data.checks.line_block import LineBlock, lines_with

# Patterns of detect-secrets that do not match secrets: public addresses, and prefixes that words share.
NO_SECRETS = {"Public IP (ipv4)", "Artifactory Credentials"}
KEY_BLOCK = re.compile(
    r"-*BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-*"
    r"(?:.*?END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-*|(?:(?:\s|\\[nr])*[A-Za-z0-9+/=]{16,})*)"
    r"|PuTTY-User-Key-File-[0-9].*?Private-MAC: *[0-9a-f]+",
    re.DOTALL,
)
# Keys that detect-secrets does not know: those of model providers first, which are in the data of their users. Each has
# its beginning, and a pattern of the rest.
OTHER_KEYS = {
    "Anthropic Key": ("sk-ant-", r"[\w-]{20,}"),
    "Google API Key": ("AIza", r"[\w-]{35}"),
    "Hugging Face Token": ("hf_", r"[A-Za-z0-9]{30,}"),
    "Groq Key": ("gsk_", r"[A-Za-z0-9]{40,}"),
    "xAI Key": ("xai-", r"[A-Za-z0-9]{40,}"),
    "GitHub Fine-Grained Token": ("github_pat_", r"\w{40,}"),
    "NPM Access Token": ("npm_", r"[A-Za-z0-9]{36}"),
}
REST_OF_KEY = re.compile(r"[\w+/=-]*(?:\.[\w+/=-]+)*", re.ASCII)  # some patterns match only the beginning of a secret
EMAIL = re.compile(r"(?<![\w.+-])([\w.+-]+)@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
# In a text without spaces between words, other letters before an address are no part of it.
LATIN_END = re.compile(r"[A-Za-z0-9\u00c0-\u024f_.+-]+$")
# Addresses that belong to nobody.
RESERVED_DOMAIN = re.compile(r"@(?:[\w-]+\.)*example\.(?:com|org|net)$|\.(?:example|invalid|test)$", re.IGNORECASE)
WIDE = "０１２３４５６７８９"
WIDE_DIGITS = str.maketrans(WIDE, "0123456789")
DIGITS = re.compile(r"[0-9](?:[ \-.()/]{0,2}[0-9]){6,}")  # as in the number of a phone, a card or a person
CARD = re.compile(r"(?<![\d-])(?<!\d\.)[3-6]\d{3}(?:[ -]?\d{2,6}){2,4}(?![\d-]|\.\d)")
CARD_DIGITS = 13  # at least
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
US_NUMBER = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
KOREAN_NUMBER = re.compile(r"(?<![\d-])\d{6}-\d{7}(?![\d-])")
US_PHONE = re.compile(r"(?<![\w+.-])(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[-. ])[2-9]\d{2}[-.]\d{4}(?![\w-]|\.\d)")
# The country whose national phone numbers are looked for in a text with such letters: the first that fits.
COUNTRIES = [
    (country, re.compile(letters))
    for country, letters in (("JP", r"[\u3040-\u30ff]"), ("KR", r"[\uac00-\ud7a3]"), ("CN", r"[\u4e00-\u9fff]"))
]

SECRET_WORDS = ("://", "PRIVATE KEY")
KEY_LETTERS = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz/+=_-\\", b"k" * 68)
LONG_KEY = b"k" * 20
AS_DIGIT = bytes.maketrans(b"123456789", b"0" * 9)
AS_MASK = bytes.maketrans(b"123456789BCDEFGHIJKLMNOPQRSTUVWXYZ", b"0" * 9 + b"A" * 25)
SEPARATORS, SEVEN_DIGITS = b" -.()/", b"0" * 7
SEVEN_DIGITS_BYTES = 6 * 3  # most bytes from the first to the last of seven digits, each with two separators after it


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
    """Return the name and pattern of every kind of secret that is known by its form: ours, and detect-secrets'."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds: list[tuple[str, type]] = sorted(get_mapping_from_secret_type_to_class().items())
    # Keys are ASCII, and so are the letters and digits of these patterns.
    return [
        # The beginning comes first, because a search for plain letters is fast.
        *((name, re.compile(rf"{first}(?<!\w{first}){rest}", re.ASCII)) for name, (first, rest) in OTHER_KEYS.items()),
        *(
            (name, re.compile(pattern.pattern, pattern.flags & ~re.UNICODE | re.ASCII))
            for name, detector in kinds
            if name not in NO_SECRETS
            for pattern in getattr(detector, "denylist", ())
        ),
    ]


def find_secrets(text: str) -> Iterator[Found]:
    for name, pattern in secret_patterns():
        for match in pattern.finditer(text):
            start, end = secret_in(match)
            if not PLACEHOLDER.fullmatch(text, start, end):  # as the password in an address
                yield Found("secret", name, start, end)
    if "PRIVATE KEY" in text or "PuTTY-User-Key" in text:
        for match in KEY_BLOCK.finditer(text):
            yield Found("secret", "Private Key", *match.span())


def secret_in(match: re.Match[str]) -> tuple[int, int]:
    """Return the place of the secret in a match: a group at its end, without the key's name before it, else all."""
    start, end = match.span()
    for group in range(1, (match.re.groups or 0) + 1):
        if match.end(group) >= end - 1:  # before a quotation mark or @
            start, end = match.span(group)
            break
    rest = REST_OF_KEY.match(match.string, end)
    return start, rest.end() if rest else end


def find_email(text: str) -> Iterator[Found]:
    for match in EMAIL.finditer(text):
        if not RESERVED_DOMAIN.search(match[0]):
            latin = LATIN_END.search(match[1])
            yield Found("email", "an e-mail address", match.start() + (latin.start() if latin else 0), match.end())


def find_numbers(text: str) -> Iterator[Found]:
    """Yield the numbers in a text that have valid check digits, and phone numbers."""
    text = with_ascii_digits(text)
    masked = text.encode("utf-8", "replace").translate(AS_MASK)
    for kind, name, mask, pattern, is_valid in NUMBERS:
        if mask in masked:
            for match in pattern.finditer(text):
                if end := valid_end(match, is_valid):
                    yield Found(kind, name, match.start(), end)
    if masked.count(b"0") >= CARD_DIGITS:
        for match in CARD.finditer(text):
            if is_card(match[0]):
                yield Found("card", "a payment card's number", *match.span())
    yield from find_phones(text)


def valid_end(match: re.Match[str], is_valid: Callable[[str], bool]) -> int:
    """Return where the longest valid number of whole words in a match ends, which words may follow; 0 for none."""
    words = match[0].split(" ")
    texts = (" ".join(words[:count]) for count in range(len(words), 0, -1))
    return next((match.start() + len(text) for text in texts if is_valid(text)), 0)


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


# The kind and its name; what a text must contain once its capitals are A and its digits 0, which is faster to look for
# than the pattern; the pattern; the check of its digits.
NUMBERS: list[tuple[str, str, bytes, re.Pattern[str], Callable[[str], bool]]] = [
    ("iban", "a bank account (IBAN)", b"AA00", IBAN, is_iban),
    ("us_ssn", "a US social security number", b"000-00-0000", US_NUMBER, is_us_number),
    ("kr_rrn", "a Korean resident number", b"000000-0000000", KOREAN_NUMBER, is_korean_number),
]


def find_phones(text: str) -> Iterator[Found]:
    """Yield phone numbers: with their country code, in the usual form of the US and Canada, or in the national form of
    the country that the text's letters point to."""
    region = next((country for country, letters in COUNTRIES if letters.search(text)), None)
    if region is not None or "+" in text or "＋" in text:
        from phonenumbers import Leniency, PhoneNumberMatcher

        for match in PhoneNumberMatcher(text, region, leniency=Leniency.VALID):
            yield Found("phone", "a phone number", match.start, match.end)
    for found in US_PHONE.finditer(text):
        if is_us_phone(found[0]):
            yield Found("phone", "a phone number", *found.span())


def is_us_phone(text: str) -> bool:
    from phonenumbers import is_valid_number, parse

    return bool(is_valid_number(parse(text, "US")))


# tests/test_prefilter.py proves the clue KEY for every pattern of the detect-secrets that constraints.txt pins.
SECRETS = [Detector(find_secrets, KEY)]
PERSONAL_DATA = [Detector(find_email, AT_SIGN), Detector(find_numbers, NUMBER)]
