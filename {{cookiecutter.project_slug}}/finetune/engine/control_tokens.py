"""Keep a tokenizer's control tokens out of texts: `<|im_end|>` that somebody wrote is text, and ends no turn.

A chat template writes its markers and the texts of a conversation into one string, and the tokenizer cannot tell them
apart there. So each control token inside of a text is cut by a mark, a character that is in none of the texts, and the
mark is taken out of the tokens again. Texts without control tokens have no marks: their IDs are those of the plain
string.

Control tokens are the tokenizer's special tokens, and the added tokens that its chat template writes around turns.
Other added tokens are words: models write `<think>` or `<tool_call>` into their answers.

Transformers 5.23 has `sanitize_control_tokens` for this. It takes characters of private use out of texts, splits
`<think>` too, and leaves keys of objects and what a template joins into a token as they are.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

FIRST_MARK, LAST_MARK = 0xFDD0, 0x10FFFF  # from the first of Unicode's noncharacters on
SPACE_MARKS = ("▁", "Ġ")  # a space before a word, as SentencePiece and byte-level tokenizers write it


@dataclass(frozen=True)
class ControlTokens:
    """The control tokens of a tokenizer: a pattern for them, and their parts; `insides` are all in one text."""

    pattern: "re.Pattern[str]"
    beginnings: frozenset[str]
    ends: frozenset[str]
    insides: str
    longest: int


@dataclass(frozen=True)
class Marks:
    """Two characters that are in none of the texts.

    `cut` is inside of a control token. `border` is where a text ends with the first part of a control token, or begins
    with the last part of one: the template may write the other part.
    """

    control: ControlTokens
    cut: str
    border: str

    def mark(self, value: Any, borders: bool = True) -> Any:
        """Return a text with its marks; of lists and objects a copy with marks in each text and key.

        Without `borders`, words that a template may look for are the same: they contain no control tokens.
        """
        if isinstance(value, str):
            return self._mark_text(value, borders)
        if isinstance(value, Mapping):
            return {self.mark(key, borders): self.mark(one, borders) for key, one in value.items()}
        return [self.mark(one, borders) for one in value] if isinstance(value, list | tuple) else value

    def _mark_text(self, text: str, borders: bool) -> str:
        while self.control.pattern.search(text):  # again where one token begins inside of another
            text = self.control.pattern.sub(lambda found: found[0][0] + self.cut + found[0][1:], text)
        if not borders or not text.strip():
            return text
        begins, ends = begins_inside(self.control, text), ends_inside(self.control, text)
        # Beside the first and the last character that is no space: templates strip texts.
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        after = (self.border if ends else "") + text[end:]
        return text[:start] + (self.border if begins else "") + text[start:end] + after

    def only_cuts(self, rendered: str) -> str:
        """Return a rendered text in which a border is a cut if a control token spans it, and is gone if none does."""
        # A template that writes an object with escapes writes the marks as escapes too.
        for mark in (self.cut, self.border):
            rendered = rendered.replace(escaped(mark), mark)
        first, *rest = rendered.split(self.border)
        for part in rest:
            window = first[-self.control.longest :]
            after = window + part[: self.control.longest]
            spans = (self.control.pattern.match(after, start) for start in range(len(window)))
            is_spanned = any(span is not None and span.end() > len(window) for span in spans)
            first += (self.cut if is_spanned else "") + part
        return first


def escaped(mark: str) -> str:
    """Return a character as JSON and Python escape it."""
    return f"\\u{ord(mark):04x}" if ord(mark) < 0x10000 else f"\\U{ord(mark):08x}"


def begins_inside(control: ControlTokens, text: str) -> bool:
    """Return whether a text begins with the last part of a control token, or is a part of one."""
    start = text.lstrip()[: control.longest]
    return any(start[:length] in control.ends for length in range(1, len(start) + 1)) or is_part(control, text)


def ends_inside(control: ControlTokens, text: str) -> bool:
    """Return whether a text ends with the first part of a control token, or is a part of one."""
    end = text.rstrip()[-control.longest :]
    return any(end[place:] in control.beginnings for place in range(len(end))) or is_part(control, text)


def is_part(control: ControlTokens, text: str) -> bool:
    """Return whether a text is a part of a control token: a template that writes `<` and `>` around it writes `<s>`."""
    bare = text.strip()
    return 0 < len(bare) < control.longest and bare in control.insides


def marks_for(tokenizer: Any, value: Any) -> Marks | None:
    """Return the marks for all texts in a value; None if they need none."""
    control = control_tokens(tokenizer)
    if control is None:
        return None
    texts = list(texts_in(value))
    if not any(
        control.pattern.search(text) or begins_inside(control, text) or ends_inside(control, text) for text in texts
    ):
        return None
    unused = iter(unused_characters(texts))
    return Marks(control, next(unused), next(unused))


def texts_in(value: Any) -> Iterable[str]:
    """Yield each text and each key in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield key
            yield from texts_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts_in(one)


def unused_characters(texts: Iterable[str]) -> Iterable[str]:
    """Yield characters that are in none of the texts, neither themselves nor as escapes."""
    whole = "\n".join(texts)
    for number in range(FIRST_MARK, LAST_MARK + 1):
        if chr(number) not in whole and escaped(chr(number)) not in whole:
            yield chr(number)


def unmarked_ids(tokenizer: Any, text: str, cut: str) -> list[int]:
    """Return the token IDs of a text without its cuts: no token reaches over one."""
    if cut not in text:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    places = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    tokens = [(number, text[start : max(end, start + 1)]) for number, (start, end) in places]
    if any(cut in part and part.strip(cut) for _, part in tokens):  # a tokenizer that joins unknown characters
        parts = text.split(cut)
        return [number for part in parts for number in tokenizer(part, add_special_tokens=False)["input_ids"]]
    return [number for number, part in tokens if cut not in part]


def text_ids(tokenizer: Any, text: str, continued: bool = False) -> list[int]:
    """Return the token IDs of a text in which nothing is a control token.

    `continued` says that other tokens are before it: then a tokenizer that begins each text with a space adds none.
    """
    adds_space = continued and begins_with_space(tokenizer)
    marks = marks_for(tokenizer, text)
    if marks is None and not adds_space:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    cut = marks.cut if marks else next(iter(unused_characters([text])))
    cut_text = marks.only_cuts(marks.mark(text)) if marks else text
    return unmarked_ids(tokenizer, (cut if adds_space else "") + cut_text, cut)


@lru_cache(maxsize=8)
def begins_with_space(tokenizer: Any) -> bool:
    """Return whether a tokenizer puts a space before a text, as Llama 2's does."""
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("a", add_special_tokens=False)["input_ids"])
    return bool(tokens) and str(tokens[0]).startswith(SPACE_MARKS)


@lru_cache(maxsize=8)
def control_tokens(tokenizer: Any) -> ControlTokens | None:
    """Return the control tokens of a tokenizer; None if it has none.

    One character cannot be cut, so a token of one character is not among them.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    plain = {token.content for token in added if not token.special and token.content.strip()}
    found = {token.content for token in added if token.special} | turn_markers(tokenizer, plain)
    contents = sorted((one for one in found if len(one) > 1), key=len, reverse=True)
    if not contents:
        return None
    return ControlTokens(
        pattern=re.compile("|".join(map(re.escape, contents))),
        beginnings=frozenset(one[:length] for one in contents for length in range(1, len(one))),
        ends=frozenset(one[length:] for one in contents for length in range(1, len(one))),
        insides="\0".join(one[1:-1] for one in contents),
        longest=len(contents[0]),
    )


def turn_markers(tokenizer: Any, added: set[str]) -> set[str]:
    """Return those of the added tokens that the chat template writes around turns, such as DeepSeek's `<｜User｜>`.

    What it writes before the first turn, or into the system prompt, may be words.
    """
    if not added:
        return set()
    system, user, assistant, call, result = samples()
    rendered = sample_text(tokenizer, [user, assistant, user, assistant, user])
    first, last = rendered.find("what is"), rendered.rfind("what is")
    found = {one for one in added if one in rendered[first:last]}
    before_system, is_there, _ = sample_text(tokenizer, [system, user]).partition("be brief")
    nearest = max(added, key=before_system.rfind)
    if is_there and nearest in before_system:
        found.add(nearest)
    # Around the result of a tool: what is not around the call.
    with_result, with_call = sample_text(tokenizer, [user, call, result]), sample_text(tokenizer, [user, call])
    return found | {one for one in added if with_call and one in with_result and one not in with_call}


def samples() -> tuple[dict[str, Any], ...]:
    """Return a system prompt, a question, an answer, a call of a tool and its result."""
    function = {"name": "look", "arguments": {"at": "it"}}
    return (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "what is it"},
        {"role": "assistant", "content": "a lamp"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "000000001", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "a lamp", "tool_call_id": "000000001", "name": "look"},
    )


def sample_text(tokenizer: Any, turns: list[dict[str, Any]], **more: Any) -> str:
    """Return a sample conversation as the chat template writes it; "" if the template refuses it."""
    settings = {"tokenize": False, "add_generation_prompt": False, **more}
    try:
        return str(tokenizer.apply_chat_template(turns, **settings))
    except Exception:  # a template is a program: it may fail in any way
        return ""
