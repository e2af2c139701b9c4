"""One piece of a training file: what is wrong with each of its lines, and what is known of each of its examples."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray

from finetune.data.checks.findings import Finding
from finetune.data.checks.prefilter import plain, rules_for
from finetune.data.checks.rules import RULES, Rule, Severity
from finetune.data.examples import Example, Said, Shape, question_text, said_in, shape_of
from finetune.data.near_duplicates import bare, normal
from finetune.data.parallel import Piece
from finetune.data.token_counts import counter

SHAPES: dict[str, tuple[Shape, ...]] = {
    "supervised": ("chat", "completion"),
    "dpo": ("preference",),
    "reinforcement": ("chat",),
}
CHATTY = {method for method, shapes in SHAPES.items() if "chat" in shapes}
# Reinforcement keeps other keys for its grader, and its prompts wait for an answer.
LEFT_OUT = {"reinforcement": {"unknown_key", "no_assistant", "ends_unanswered"}}
FORMS: dict[Shape, str] = {
    "chat": 'Write {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}.',
    "completion": 'Write {"prompt": "…", "completion": "…"}.',
    "preference": 'Write {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}.',
}
MOST_CLASSES, LONGEST_CLASS = 500, 50  # answers are classes when they are few and short

# What is kept of an example: where its line is, hashes of its question (bare), of its answer, of its system
# prompt and of that prompt's letters (0: it has none), and its tokens (-1: not counted).
ROW = np.dtype("i8, i8, i8, u8, u8, u8, u8, i4")
ROW.names = ("line", "start", "size", "question", "answer", "system", "style", "tokens")


Fault = tuple[str, Severity, str, str]  # a finding without its place: code, severity, what is wrong, how to mend it


@dataclass
class Lines:
    """What a piece holds: its number of lines, its findings by line from 1, ROWs, and its answers if they are few."""

    count: int
    findings: list[Finding]
    rows: NDArray[Any]
    answers: Counter[str] | None


def check_piece(piece: Piece, file: str, method: str, encoding: str | None, context: int | None) -> Lines:
    """Each line of a piece on its own: what is wrong with it, and where its keys are those of an example, its ROW."""
    start, end = piece
    with open(file, "rb") as content:
        content.seek(start)
        whole = content.read(end - start).removesuffix(b"\n")
    lines = whole.split(b"\n")
    count = counter(encoding) if encoding else None
    findings: list[Finding] = []
    rows: list[tuple[int, ...]] = []
    answers: Counter[str] | None = Counter()
    for number, (line, rules) in enumerate(zip(lines, rules_for(whole, lines), strict=True), 1):
        place, start = start, start + len(line) + 1
        example, said, faults = read_line(line, method, rules)
        tokens = -1
        if example is not None and count and not any(severity == "error" for _, severity, _, _ in faults):
            tokens = count(example)
            if context is not None and tokens > context:
                what = f"{tokens:,} tokens, over the {context:,} that are trained on; the server cuts the end off"
                faults.append(("too_long", "error", what, "Shorten the example: its end is the answer."))
        if faults:
            findings += [Finding(code, severity, file, number, what, fix) for code, severity, what, fix in faults]
        if example is None:
            continue
        texts, system = said or said_in(example)
        question, answer = question_text(texts), texts[-1].strip() if texts else ""
        rows.append(
            (number, place, len(line), digest_of(bare(question)), short_digest(answer), *style_of(system), tokens)
        )
        if answers is not None:
            answers[answer] += 1
            if len(answers) > MOST_CLASSES or len(answer) > LONGEST_CLASS or "\n" in answer:
                answers = None
    return Lines(len(lines), findings, np.array(rows, ROW), answers)


def read_line(
    line: bytes, method: str, if_plain: Sequence[Rule] = RULES
) -> tuple[Example | None, Said | None, list[Fault]]:
    """The example of a line, None where it has none that `method` trains on, and all that is wrong with it.

    Where the example is plain (see prefilter.py), `if_plain` are the rules to ask, and what it says comes too.
    """
    try:
        example = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return None, None, [why_unread(line, error)]
    if type(example) is not dict:
        return None, None, [("not_an_object", "error", "not a JSON object", FORMS["chat"])]
    said = plain(example) if method in CHATTY else None
    if said and not any(may_find(rule, said) for rule in if_plain):
        return example, said, []
    shape = shape_of(example)
    if shape is None or shape not in SHAPES[method]:
        wanted = " or ".join(f"a {name} example" for name in SHAPES[method])
        misfit = f"its keys are those of no example: {keys_of(example)}"
        what = f"not {wanted}, which {method!r} trains on" if shape else misfit
        return None, None, [("wrong_shape", "error", what, FORMS[SHAPES[method][0]])]
    asked = [rule for rule in RULES if shape in rule.shapes and rule.code not in LEFT_OUT.get(method, ())]
    return example, None, [(rule.code, rule.severity, what, fix) for rule in asked for what, fix in rule.find(example)]


def may_find(rule: Rule, said: Said) -> bool:
    """Whether a rule on texts finds something; any other rule is asked with the whole example."""
    texts, system = said
    if rule.find_in is None:
        return True
    return any(map(any, map(rule.find_in, texts))) or any(rule.find_in(system or ""))


def why_unread(line: bytes, error: orjson.JSONDecodeError) -> Fault:
    """What keeps a line from being JSON."""
    if not line.strip():
        return "blank_line", "error", "the line is blank", "Remove it."
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as fault:
        return "not_utf8", "error", f"not UTF-8 at byte {fault.start + 1} of the line", "Save it as UTF-8."
    # orjson ends with the place in the whole text, which is a line here
    reason = str(error).split(": line ")[0]
    return "invalid_json", "error", f"not valid JSON: {reason} (column {error.colno})", "Mend the line."


def keys_of(example: Example) -> str:
    shown = [key[:30] for key in sorted(example)[:6]]
    return ", ".join(shown) + (", …" if len(example) > 6 else "") if shown else "none"


def digest(text: str) -> int:
    """64 bits of a text (XXH3): two of a million texts share them once in 40 million times."""
    return digest_of(text.encode())


def digest_of(content: bytes) -> int:
    return xxhash.xxh3_64_intdigest(content)


short_digest = lru_cache(1024)(digest)  # answers recur where they are classes


@lru_cache(1024)  # system prompts recur
def style_of(system: str | None) -> tuple[int, int]:
    """The hashes of a system prompt and of its letters; 0 without one."""
    return (0, 0) if system is None else (digest(system), digest(letters(system)))


def letters(text: str) -> str:
    return "".join(filter(str.isalnum, normal(text)))


def example_at(file: str, row: Any) -> dict[str, Any]:
    """The example of a ROW, read from its file again."""
    with open(file, "rb") as content:
        content.seek(int(row["start"]))
        return dict(orjson.loads(content.read(int(row["size"]))))
