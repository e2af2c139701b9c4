"""Replace personal data and secrets by placeholders such as `<EMAIL_1>`: see `data.redact`.

Within one example, a value has the same placeholder everywhere. Numbers begin at 1 in each example and follow the order
of the texts, so a question has the same placeholders with its answer and without, in training and when it is asked.
Numbers for a whole file would depend on its other rows, and a model that answers new rows would not know them.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import orjson

from finetune.core.errors import FinetuneError
from finetune.core.params import Data
from finetune.data.checks.detector import PLACEHOLDER, Found, find_all
from finetune.data.checks.sensitive_data import PERSONAL_DATA, SECRETS

# Texts under these keys are chosen from a list, name something, or are no language: a server refuses them if changed.
# Arguments of a tool call have keys of their own.
KEPT = frozenset({"role", "type", "id", "tool_call_id", "name", "url", "image_url", "detail", "file_id", "file_data"})
KEPT |= {"data", "format"}
ARGUMENTS = "arguments"
SHORTEST_NUMBER = 7  # digits
JSON_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.+-])\d{7,}(?![\w.])', re.DOTALL)  # a text, or a whole number
Value = TypeVar("Value")


@dataclass
class Placeholders:
    """The placeholders of one example, and how many values were replaced, by kind."""

    kinds: Sequence[str]
    given: dict[tuple[str, str], str] = field(default_factory=dict)  # by kind and value
    taken: set[str] = field(default_factory=set)  # those that are in the texts already, too
    counts: Counter[str] = field(default_factory=Counter)

    def of(self, kind: str, value: str) -> str:
        """Return the placeholder of a value."""
        self.counts[kind] += 1
        same = value if kind == "secret" else value.casefold() if kind == "email" else re.sub(r"\W", "", value)
        if (kind, same) not in self.given:
            number = 1
            while (name := f"<{kind.upper()}_{number}>") in self.taken:
                number += 1
            self.taken.add(name)
            self.given[kind, same] = name
        return self.given[kind, same]


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


def redact_value(value: Any, placeholders: Placeholders, kept: frozenset[str] = KEPT) -> Any:
    """Return a JSON value with its texts redacted, except those under the keys of `kept`."""
    if isinstance(value, str):
        return redact_text(value, placeholders)
    if isinstance(value, list):
        return [redact_value(item, placeholders, kept) for item in value]
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
    """Return a text with placeholders. In JSON, texts are redacted as they are without escapes."""
    placeholders.taken.update(PLACEHOLDER.findall(text))
    if is_json(text):
        text = JSON_VALUE.sub(lambda match: redact_json_value(match[0], placeholders), text)
    # A number is sometimes found only when the one beside it is gone.
    while found := list(places(text, placeholders.kinds)):
        parts, end = [], 0
        for one in found:
            parts += [text[end : one.start], placeholders.of(one.kind, text[one.start : one.end])]
            end = one.end
        text = "".join([*parts, text[end:]])
    return text


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
