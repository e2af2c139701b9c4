"""Check the lines of one chunk of a training file, each on its own."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from finetune.core.records.prepared import Example
from finetune.data.checks.findings import Finding
from finetune.data.checks.line_block import LineBlock
from finetune.data.checks.prefilter import may_break, rules_to_ask, simple_chat_texts
from finetune.data.checks.rule import Rule, Severity, found_in, remembered
from finetune.data.checks.rules import RULES
from finetune.data.examples import (
    OUTPUTS,
    ReadExample,
    Shape,
    TurnTexts,
    has_call,
    join_question,
    messages_of,
    shape_of,
    texts_of,
    texts_of_functions,
    turn_texts,
    with_output,
)
from finetune.data.hashes import xxh3_64
from finetune.data.identity import GOLDEN_RATIO, answer_of, asked_hash, context_hash, question_of, text_hash
from finetune.data.json_readers import orjson_message
from finetune.data.json_values import values_of
from finetune.data.parallel import Chunk
from finetune.data.text_normalization import normalize
from finetune.data.token_counts import IMAGE_PRICES, ImagePrices, counter, has_unknown_image

SHAPES: dict[str, tuple[Shape, ...]] = {
    "supervised": ("chat", "completion"),
    "dpo": ("preference",),
    "reinforcement": ("chat",),
}
CHAT_METHODS = {method for method, shapes in SHAPES.items() if "chat" in shapes}
# Examples of reinforcement have other keys for the grader, and end with a question.
RULES_LEFT_OUT = {"reinforcement": {"unknown_key", "no_assistant", "ends_unanswered"}}
SHAPE_FIXES: dict[Shape, str] = {
    "chat": 'Write {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}.',
    "completion": 'Write {"prompt": "…", "completion": "…"}.',
    "preference": 'Write {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}.',
}
MOST_CLASSES, LONGEST_CLASS = 500, 50  # answers are classes only if they are few and short

# For each example: the number, place and size of its line; hashes of what is asked and of its context (identity.py), of
# its answer, of its system prompt, and of the letters and digits of the system prompt (0: none); its tokens (-1: not
# counted).
EXAMPLE_DTYPE = np.dtype("i8, i8, i8, u8, u8, u8, u8, u8, i4")
EXAMPLE_DTYPE.names = ("line", "start", "size", "asked", "context", "answer", "system", "system_letters", "tokens")
ExampleRows = NDArray[Any]  # of EXAMPLE_DTYPE

Fault = tuple[str, Severity, str, str]  # a finding without its place: code, severity, what is wrong, how to fix it


@dataclass
class CheckedLines:
    """The result of one chunk."""

    count: int  # of lines
    findings: list[Finding]  # lines count from 1
    rows: ExampleRows
    answers: Counter[str] | None  # how often each answer occurs, where answers may be classes
    unknown_images: int  # counted examples with an image whose tokens are not known
    with_functions: int  # counted examples that declare or call functions


def check_lines(
    chunk: Chunk,
    file: str,
    method: str,
    encoding: str | None,
    context: int | None,
    image_prices: ImagePrices | None = IMAGE_PRICES,
    tokens_exact: bool = True,
) -> CheckedLines:
    """Check each line of a chunk, and return a row for each line with an example of a shape that `method` trains on."""
    start, end = chunk
    with open(file, "rb") as content:
        content.seek(start)
        block = LineBlock(content.read(end - start).removesuffix(b"\n"))
    count = counter(encoding, image_prices or IMAGE_PRICES) if encoding else None
    findings: list[Finding] = []
    rows: list[tuple[int, ...]] = []
    answers: Counter[str] | None = Counter()
    unknown_images = with_functions = 0
    for number, (line, rules) in enumerate(zip(block.lines, rules_to_ask(block), strict=True), 1):
        place, start = start, start + len(line) + 1
        example, known_texts, faults = read_line(line, method, rules)
        tokens = -1
        if example is not None and count and not any(severity == "error" for _, severity, _, _ in faults):
            tokens = count(example)
            unknown_images += known_texts is None and has_unknown_image(example, image_prices)
            with_functions += known_texts is None and has_functions(example)
            if context is not None and tokens > context and (size := tokens_at_once(example, count)) > context:
                about = "" if tokens_exact else "about "
                what = f"{about}{size:,} tokens, more than the training context of {context:,}"
                fix = "Shorten the example: a server refuses it, or cuts off its end, which is the answer."
                faults.append(("too_long", "error", what, fix))
        if faults:
            findings += [Finding(code, severity, file, number, what, fix) for code, severity, what, fix in faults]
        if example is None:
            continue
        if known_texts:
            texts, system = known_texts
            asked, context_text, answer = text_hash(join_question(texts)), system or "", texts[-1].strip()
        else:
            question, system, answer = question_of(example), turn_texts(example)[1], answer_of(example).strip()
            asked, context_text = asked_hash(question), question.context
        hashes = asked, context_hash(context_text), answer_hash(answer), *system_hashes(system)
        rows.append((number, place, len(line), *hashes, tokens))
        if answers is not None and answer:
            answers[answer] += 1
            if len(answers) > MOST_CLASSES or len(answer) > LONGEST_CLASS or "\n" in answer:
                answers = None
    return CheckedLines(
        len(block.lines), findings, np.array(rows, EXAMPLE_DTYPE), answers, unknown_images, with_functions
    )


def tokens_at_once(example: Example, count: Callable[[Example], int]) -> int:
    """Return the tokens that have to fit into the context; a preference is trained as two chats."""
    if shape_of(example) != "preference":
        return count(example)
    return max(count(with_output(example, output)) for output in OUTPUTS)


def has_functions(example: Example) -> bool:
    """Return whether an example declares or calls functions, whose tokens no bill has confirmed (see `counter`)."""
    given = example.get("input") if isinstance(example.get("input"), dict) else example
    declared = any(given.get(key) for key in ("tools", "functions")) if given else False
    return declared or any(has_call(message) for _, message in messages_of(example))


def read_line(
    line: bytes, method: str, simple_chat_rules: Sequence[Rule] | None = None
) -> tuple[Example | None, TurnTexts | None, list[Fault]]:
    """Return the example of a line, its turn texts if it is simple chat, and the line's faults.

    The example is None where the line has none of a shape that `method` trains on. `simple_chat_rules` are the rules
    that the example may break if it is simple chat (see prefilter.py); None: every rule is asked, of every example.
    """
    try:
        example = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return None, None, [json_fault(line, error)]
    if type(example) is not dict:
        return None, None, [("not_an_object", "error", "the line is not a JSON object", SHAPE_FIXES["chat"])]
    texts = simple_chat_texts(example) if simple_chat_rules is not None and method in CHAT_METHODS else None
    if texts and (not simple_chat_rules or not any(may_break(rule, example, texts) for rule in simple_chat_rules)):
        return example, texts, []
    if not texts and is_too_deep(line, example):
        what = "too many objects or lists within each other"
        return None, None, [("invalid_json", "error", what, "Flatten them: servers have a limit, too.")]
    shape = shape_of(example)
    if shape is None or shape not in SHAPES[method]:
        return None, None, [shape_fault(example, shape, method)]
    left_out = RULES_LEFT_OUT.get(method, ())
    rules = [rule for rule in RULES if shape in rule.shapes and rule.code not in left_out]
    if texts:
        rules = [rule for rule in rules if not rule.simple_chat_passes]
    return example, texts, list(faults_of(example, rules))


def is_too_deep(line: bytes, example: Example) -> bool:
    """Return whether an example has more objects and lists within each other than the JSON writer can write."""
    if line.count(b"{") + line.count(b"[") <= 200:
        return False
    try:
        orjson.dumps(example)
    except TypeError:
        return True
    return False


def faults_of(example: Example, rules: Iterable[Rule]) -> Iterator[Fault]:
    example = ReadExample(example)
    texts = list(texts_of(example))  # once for all rules on texts
    of_functions = list(texts_of_functions(example))
    for rule in rules:
        found = found_in(texts, rule.find_in) if rule.find_in else rule.find(example)
        yield from ((rule.code, rule.severity, what, fix) for what, fix in found)
        if rule.find_in and rule.of_functions:
            found = found_in(of_functions, partial(remembered, rule.find_in))
            yield from ((rule.code, rule.severity, what, fix) for what, fix in found)


def json_fault(line: bytes, error: orjson.JSONDecodeError) -> Fault:
    """Return the fault of a line that is not JSON."""
    if not line.strip():
        return "blank_line", "error", "the line is blank", "Remove it."
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as fault:
        return "not_utf8", "error", f"byte {fault.start + 1} of the line is not UTF-8", "Save the file as UTF-8."
    values = values_of(line)
    if values and not values.broken_line and values.texts and not values.is_list:
        if len(values.texts) > 1:
            what = f"{len(values.texts)} JSON objects on one line"
            return "invalid_json", "error", what, "Write each on its own line (--fix does it)."
        return "invalid_json", "error", "a comma beside the JSON object", "Remove the comma (--fix does it)."
    if line.lstrip().startswith(b"{'"):
        return "invalid_json", "error", "a dict as Python prints it, not JSON", "Write it with json.dumps."
    what = f"not valid JSON: {orjson_message(error)} (column {error.colno})"
    return "invalid_json", "error", what, "Correct the line."


def shape_fault(example: Example, shape: Shape | None, method: str) -> Fault:
    """Return the fault of an example whose shape is not one that `method` trains on."""
    wanted = " or ".join(f"a {name} example" for name in SHAPES[method])
    what = f"not {wanted}, which {method!r} needs" if shape else f"unknown keys of an example: {keys_of(example)}"
    return "wrong_shape", "error", what, SHAPE_FIXES[SHAPES[method][0]]


def keys_of(example: Example) -> str:
    names = [key[:30] for key in sorted(example)[:6]]
    return ", ".join(names) + (", …" if len(example) > 6 else "") if names else "none"


def question_hashes(rows: ExampleRows) -> NDArray[Any]:
    """Return for each row the hash by which two questions are the same."""
    hashes: NDArray[Any] = rows["asked"] * np.uint64(GOLDEN_RATIO) + rows["context"]
    return hashes


@lru_cache(1024)  # answers recur where they are classes
def answer_hash(answer: str) -> int:
    return xxh3_64(answer.encode())


@lru_cache(1024)  # system prompts recur
def system_hashes(system: str | None) -> tuple[int, int]:
    """Return the hashes of a system prompt and of its letters and digits, 0 without a system prompt."""
    if system is None:
        return 0, 0
    letters = "".join(filter(str.isalnum, normalize(system)))
    return xxh3_64(system.encode()), xxh3_64(letters.encode())


def example_at(file: str, row: Any) -> Example:
    """Return the example of a row of EXAMPLE_DTYPE, read from its file."""
    with open(file, "rb") as content:
        content.seek(int(row["start"]))
        return dict(orjson.loads(content.read(int(row["size"]))))
