"""Which rules an example need not be asked, told in a microsecond or two; for most examples that is all of them.

What a text may hold but should not (a special token, a key, a number) is looked for in many lines at once, as bytes.
A rule that is left out finds nothing: tests/test_screen.py holds this to it.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from finetune.data.checks.rules import LONG_SHOUT, RULES, Rule
from finetune.data.checks.sensitive_data import AS_DIGIT, KEY_LETTERS, LONG_KEY, SEPARATORS, SEVEN_DIGITS
from finetune.data.examples import Said

# The rules that a plain example may break; all others ask for what it does not have.
ON_TEXTS = ("special_token", "control_character", "upper_case", "not_normal_form", "secret", "personal_data")
WIDE_DIGITS = [digit.encode() for digit in "０１２３４５６７８９"]
SEVEN_WITHIN = 6 * 3  # bytes from the first to the last of seven digits with two separators after each
ASCII = bytes(range(128))


def plain(example: dict[str, Any]) -> Said | None:
    """What is said in a chat example of texts that end in no white space, with an answer to learn at its end.

    None for any other: with tools, names, parts or other keys. Weights may be there.
    """
    messages = example.get("messages")
    if len(example) != 1 or type(messages) is not list:
        return None
    texts: list[str] = []
    trained, role, system = False, None, None
    for message in messages:
        if type(message) is not dict:
            return None
        role, content = message.get("role"), message.get("content")
        if type(content) is not str or not content or content[-1].isspace():
            return None
        if role == "user" or role == "assistant":
            texts.append(content)
        elif role == "system" or role == "developer":
            system = system or content
        else:
            return None
        if len(message) == 2:
            trained = trained or role == "assistant"
        elif len(message) != 3 or role != "assistant" or type(message.get("weight")) is not int:
            return None
        elif message["weight"] == 1:
            trained = True
        elif message["weight"] != 0:
            return None
    return (texts, system) if trained and role == "assistant" else None


def rules_for(content: bytes, lines: list[bytes]) -> list[list[Rule]]:
    """For each of some lines, which together are `content`, the rules that it may break if its example is plain.

    The rules look at texts, and this at the JSON that they stand in: so a line with escapes, but for those of line
    breaks and quotation marks, may break any of them. Single bytes are looked for first, which is quicker by ten times.
    """
    letters = np.frombuffer(content, np.uint8)
    starts = np.concatenate([[0], np.flatnonzero(letters == ord("\n")) + 1])
    suspect = np.zeros((len(ON_TEXTS), len(lines)), bool)

    def mark(code: str, numbers: Iterable[Any]) -> None:
        suspect[ON_TEXTS.index(code), list(numbers)] = True

    mark("special_token", lines_with(content, b"|"))
    mark("control_character", lines_with(content, b"\x7f"))
    mark("personal_data", lines_with(content, b"@"))
    mark("secret", lines_with(content.translate(KEY_LETTERS), LONG_KEY))
    digits = np.flatnonzero(letters - ord("0") < 10)
    close: Any = digits[:-6][digits[6:] - digits[:-6] <= SEVEN_WITHIN] if len(digits) > 6 else []
    near = np.unique(np.searchsorted(starts, close, "right") - 1)
    mark("personal_data", (n for n in near if SEVEN_DIGITS in lines[n].translate(AS_DIGIT, SEPARATORS)))
    capitals = np.diff(np.searchsorted(np.flatnonzero(letters - ord("A") < 26), [*starts, len(letters)]))
    mark("upper_case", np.flatnonzero(capitals > LONG_SHOUT))
    mark("secret", (n for n in np.flatnonzero(capitals >= len("PRIVATEKEY")) if b"PRIVATE KEY" in lines[n]))
    mark("secret", (n for n in lines_with(content, b"/") if b"://" in lines[n]))
    if not content.isascii():
        beyond = np.unique(np.searchsorted(starts, np.flatnonzero(letters > 127), "right") - 1)
        mark("control_character", lines_with(content, "\ufffd".encode()))
        for digit in WIDE_DIGITS:
            mark("personal_data", lines_with(content, digit))
        others = content.translate(None, ASCII).decode("utf-8", "replace")
        if others.lower() != others:
            mark("upper_case", beyond)
        if not unicodedata.is_normalized("NFC", content.decode("utf-8", "replace")):
            mark("not_normal_form", beyond)
    escaped = [n for n in lines_with(content, b"\\") if b"\\" in lines[n].replace(b"\\n", b"").replace(b'\\"', b"")]
    suspect[:, escaped] = True
    masks = (suspect * (1 << np.arange(len(ON_TEXTS)))[:, None]).sum(axis=0)
    return [RULES_OF[mask] for mask in masks.tolist()]


RULES_OF = [
    [rule for rule in RULES if rule.code in ON_TEXTS and mask >> ON_TEXTS.index(rule.code) & 1]
    for mask in range(1 << len(ON_TEXTS))
]


def lines_with(content: bytes, mark: bytes) -> Iterator[int]:
    """The numbers of the lines, from 0, in which `mark` stands."""
    line = place = 0
    while (at := content.find(mark, place)) >= 0:
        line += content.count(b"\n", place, at)
        yield line
        place = content.find(b"\n", at)
        if place < 0:
            return
