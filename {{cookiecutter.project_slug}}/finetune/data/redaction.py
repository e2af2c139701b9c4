"""Replace personal data and secrets by placeholders such as `<EMAIL_1>`: see `data.redact`.

Within one example, a value has the same placeholder everywhere. Numbers begin at 1 in each example and follow the order
of the texts, so a question has the same placeholders with its answer and without, in training and when it is asked.
Numbers for a whole file would depend on its other rows, and a model that answers new rows would not know them.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar, cast, get_args

import orjson

from finetune.core.errors import FinetuneError
from finetune.core.sections.data import Data, SensitiveKind
from finetune.data.checks.detector import PLACEHOLDER, Found, find_all
from finetune.data.checks.sensitive_data import PERSONAL_DATA, SECRETS

# Texts under these keys are chosen from a list, name something, or are no language: a server refuses them if changed.
# Arguments of a tool call have keys of their own.
KEPT = frozenset({"role", "type", "id", "tool_call_id", "name", "url", "image_url", "detail", "file_id", "file_data"})
KEPT |= {"data", "format"}
ARGUMENTS = "arguments"
SHORTEST_NUMBER = 7  # digits
JSON_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.+-])\d{7,}(?![\w.])', re.DOTALL)  # a text, or a whole number
DECODER = json.JSONDecoder(strict=False)
JSON_BEGIN = re.compile(r"[\[{]")
MOST_JSON = 50  # beginnings that are tried in a text
NUMBERS = ("phone", "card", "us_ssn", "kr_rrn")
NUMBER = re.compile(r"(?<![\w.+-])[+(]{0,2}\d(?:[ \-.()/]{0,2}\d){6,}(?![\w-]|\.\d)")
LONGEST_SHOWN = 40  # letters of a cell in a message
PHONE_DIGITS = 9  # at the end of a phone number: the same with the country's code and without
Value = TypeVar("Value")


@dataclass
class Placeholders:
    """The placeholders of one example, and how many values were replaced, by kind."""

    kinds: Sequence[str]
    given: dict[tuple[str, str], str] = field(default_factory=dict)  # by kind and value
    taken: set[str] = field(default_factory=set)  # those that are in the texts already, too
    last: Counter[str] = field(default_factory=Counter)  # the last number, by kind
    counts: Counter[str] = field(default_factory=Counter)

    def of(self, kind: str, value: str) -> str:
        """Return the placeholder of a value."""
        self.counts[kind] += 1
        same = identity_of(kind, value)
        if (kind, same) not in self.given:
            while (name := f"<{kind.upper()}_{self.last[kind] + 1}>") in self.taken:
                self.last[kind] += 1
            self.last[kind] += 1
            self.taken.add(name)
            self.given[kind, same] = name
        return self.given[kind, same]

    def known(self, written: str) -> str:
        """Return the placeholder of a number that has one already in another form; the number itself if it has none."""
        for kind in NUMBERS:
            if (kind, identity_of(kind, written)) in self.given:
                return self.of(kind, written)
        return written


def identity_of(kind: str, value: str) -> str:
    """Return what is the same for all ways to write a value."""
    if kind == "secret":
        return value
    value = unicodedata.normalize("NFKC", value)
    if kind == "email":
        return value.casefold()
    if kind == "iban":
        return re.sub(r"\W", "", value)
    digits = re.sub(r"\D", "", value)
    return digits[-PHONE_DIGITS:] if kind == "phone" else digits


def redact(value: Value, kinds: Sequence[str], counts: Counter[str] | None = None) -> Value:
    """Return an example, its messages or one text without sensitive data of these kinds.

    `counts` gets the number of values that were replaced, by kind.
    """
    if not kinds:
        return value
    placeholders = Placeholders(kinds)
    redacted = redact_value(value, placeholders)
    if counts is not None:
        counts.update(placeholders.counts)
    return cast("Value", redacted)


def shown(cell: str) -> str:
    """Return the beginning of a cell for a message, without sensitive data."""
    text = redact(cell, get_args(SensitiveKind))
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")


def redact_value(value: Any, placeholders: Placeholders, kept: frozenset[str] = KEPT) -> Any:
    """Return a JSON value with its texts redacted, except those under the keys of `kept`."""
    if isinstance(value, str):
        return redact_text(value, placeholders)
    if isinstance(value, list | tuple):
        return type(value)(redact_value(item, placeholders, kept) for item in value)
    if isinstance(value, dict):
        return {
            key: item
            if key in kept and isinstance(item, str)
            else redact_value(item, placeholders, frozenset() if key == ARGUMENTS else kept)
            for key, item in value.items()
        }
    if isinstance(value, int) and abs(value) >= 10 ** (SHORTEST_NUMBER - 1):
        text = redact_text(str(value), placeholders)
        return value if text == str(value) else text
    return value


def redact_text(text: str, placeholders: Placeholders) -> str:
    """Return a text with placeholders. In JSON, also inside a text, texts are redacted as they are without escapes."""
    placeholders.taken.update(PLACEHOLDER.findall(text))
    if "{" in text or "[" in text:
        text = "".join(
            JSON_VALUE.sub(lambda match: redact_json_value(match[0], placeholders), piece) if is_json else piece
            for is_json, piece in json_pieces(text)
        )
    # A number is sometimes found only when the one beside it is gone.
    while found := list(places(text, placeholders.kinds)):
        parts, end = [], 0
        for one in found:
            parts += [text[end : one.start], placeholders.of(one.kind, text[one.start : one.end])]
            end = one.end
        text = "".join([*parts, text[end:]])
    # An answer may repeat a number of its question in a form that is not found alone, such as only its digits.
    if not placeholders.counts.keys().isdisjoint(NUMBERS):
        text = NUMBER.sub(lambda match: placeholders.known(match[0]), text)
    return text


def json_pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the pieces of a text, each with whether it is a JSON object or list, as in a block of code."""
    if is_json(text):
        yield True, text
        return
    end = 0
    for begin in islice(JSON_BEGIN.finditer(text), MOST_JSON):
        if begin.start() < end:
            continue
        try:
            stop = DECODER.raw_decode(text, begin.start())[1]
        except (ValueError, RecursionError):
            continue
        yield False, text[end : begin.start()]
        yield True, text[begin.start() : stop]
        end = stop
    yield False, text[end:]


def is_json(text: str) -> bool:
    """Return whether a text is a JSON object or list."""
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def redact_json_value(written: str, placeholders: Placeholders) -> str:
    """Return a text or number of a JSON document, as it is written there."""
    if not written.startswith('"'):
        redacted = redact_text(written, placeholders)
        return written if redacted == written else f'"{redacted}"'
    value = json.loads(written, strict=False)
    redacted = redact_text(value, placeholders)
    return written if redacted == value else json.dumps(redacted, ensure_ascii=written.isascii())


def places(text: str, kinds: Sequence[str]) -> Iterator[Found]:
    """Yield the places of sensitive data of these kinds in their order; of those that overlap, one that covers all."""
    found = [one for one in find_all(text, [*SECRETS, *PERSONAL_DATA]) if one.kind in kinds]
    whole: Found | None = None
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if whole and one.start < whole.end:
            whole = whole._replace(end=max(whole.end, one.end))
            continue
        if whole:
            yield whole
        whole = one
    if whole:
        yield whole


def refuse_redacted_answers(data: Data) -> None:
    """Raise FinetuneError for an answer in params.yaml that would be replaced, so that no row had it."""
    answers = {f"data.labels, entry {number}": label for number, label in enumerate(data.labels, 1)}
    if data.abstain:
        answers["data.abstain.answer"] = data.abstain.answer
    for place, answer in answers.items():
        if redact(answer, data.redact) != answer:
            raise FinetuneError(
                f"{place} in params.yaml is personal data or a secret, which data.redact would replace in all rows.",
                "List the kinds to replace in data.redact without that one, or rename this answer.",
            )
