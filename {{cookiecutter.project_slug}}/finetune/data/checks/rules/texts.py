"""Rules on texts: special tokens, characters, spaces, capitals and sensitive data.

Source of the warnings: the advice of OpenAI's guide.
"""

import re
import unicodedata
from collections.abc import Iterable

import numpy as np

from finetune.core.records.prepared import Example
from finetune.data.checks.detector import kinds_in, lines_to_search
from finetune.data.checks.line_block import LineBlock
from finetune.data.checks.rule import Found, rule, text_rule
from finetune.data.checks.sensitive_data import PERSONAL_DATA, SECRETS
from finetune.data.examples import messages_of

# Tokens that end or divide a text. Servers refuse them inside a text, or read them as the token.
SPECIAL_TOKEN = re.compile(
    r"<\|(?:endoftext|endofprompt|im_start|im_end|im_sep|fim_prefix|fim_middle|fim_suffix|start|end|channel|message"
    r"|begin_of_text|end_of_text|start_header_id|end_header_id|eot_id)\|>"
)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
REPLACEMENT = "\ufffd"
NO_CAPITAL, NO_SMALL = (bytes(set(range(256)) - set(letters)) for letters in (range(65, 91), range(97, 123)))
MOST_CAPITALS = 20  # texts with no more capitals may be names and abbreviations


@text_rule("special_token", of_functions=True, lines_to_ask=lambda block: block.lines_with(b"|"))
def has_no_special_token(text: str) -> Found:
    for token in dict.fromkeys(SPECIAL_TOKEN.findall(text)):
        yield f"contains the special token {token}", "Remove it: servers refuse the file."


def lines_with_control_characters(block: LineBlock) -> Iterable[int]:
    yield from block.lines_with(b"\x7f")  # JSON escapes all others
    if block.beyond_ascii:
        yield from block.lines_with(REPLACEMENT.encode())


@text_rule("control_character", "warning", lines_to_ask=lines_with_control_characters)
def has_no_control_character(text: str) -> Found:
    if found := CONTROL.search(text):
        yield f"contains the control character U+{ord(found[0]):04X}", "Remove it."
    elif REPLACEMENT in text:
        yield "contains U+FFFD, which a wrong encoding leaves", "Read the source in its own encoding."


@rule("empty_text", "warning", shapes=("chat", "completion", "preference"), simple_chat_passes=True)
def questions_are_not_empty(example: Example) -> Found:
    for path, message in messages_of(example):
        content = message.get("content")
        if message.get("role") in ("system", "developer", "user") and isinstance(content, str) and not content.strip():
            yield f"{path}: the text is empty", "Write a text, or remove the message."
    if isinstance(example.get("completion"), str) and not example["completion"].strip():
        yield "the completion is empty", "Write a completion, or remove the example."


@text_rule("trailing_space", "warning", shapes=("chat", "preference"), simple_chat_passes=True)
def has_no_trailing_space(text: str) -> Found:
    if text.strip() and text != text.rstrip():
        yield "ends with white space", "Remove it: the model learns to write it, or to need it."


def lines_with_many_capitals(block: LineBlock) -> Iterable[int]:
    yield from np.flatnonzero(block.capitals > MOST_CAPITALS).tolist()
    letters = block.beyond_ascii.decode("utf-8", "replace")
    if letters.lower() != letters:
        yield from block.lines_beyond_ascii


@text_rule("upper_case", "warning", lines_to_ask=lines_with_many_capitals)
def is_not_in_capitals(text: str) -> Found:
    if has_mostly_capitals(text):
        yield "is mostly in capitals", "Write it as users write, and as the model should write."


def has_mostly_capitals(text: str) -> bool:
    """Return whether a text has more than two capitals for each small letter, the limit of OpenAI's old tool."""
    if text.isascii():
        upper = len(text.encode().translate(None, NO_CAPITAL))
        return upper > MOST_CAPITALS and upper > 2 * len(text.encode().translate(None, NO_SMALL))
    upper = sum(map(str.isupper, text))
    return upper > MOST_CAPITALS and upper > 2 * sum(map(str.islower, text))


def lines_not_in_nfc(block: LineBlock) -> Iterable[int]:
    if block.beyond_ascii and not unicodedata.is_normalized("NFC", block.content.decode("utf-8", "replace")):
        yield from block.lines_beyond_ascii


@text_rule("not_normal_form", "warning", lines_to_ask=lines_not_in_nfc)
def is_in_nfc(text: str) -> Found:
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        yield "has letters separate from their accents (it is not in Unicode NFC)", "Normalize it to NFC."


@text_rule("secret", "warning", of_functions=True, lines_to_ask=lambda block: lines_to_search(block, SECRETS))
def has_no_secret(text: str) -> Found:
    for kind in kinds_in(text, SECRETS):
        yield f"contains what looks like a secret ({kind})", "Remove it, and replace the secret: it may leak."


@text_rule(
    "personal_data", "warning", of_functions=True, lines_to_ask=lambda block: lines_to_search(block, PERSONAL_DATA)
)
def has_no_personal_data(text: str) -> Found:
    for kind in kinds_in(text, PERSONAL_DATA):
        yield f"contains what looks like {kind}", "Replace it with a placeholder: the model may repeat it."
