"""Write a repaired copy of a training file, with a list of the changes.

Only mistakes with one possible repair are repaired. Others (broken JSON, a missing answer, a leak) stay, and `finetune
check` reports them.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from finetune.core.disk import write_bytes
from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import Example
from finetune.data.checks.exact_json import read_exactly, write_like
from finetune.data.checks.rules.messages import allowed_keys
from finetune.data.checks.rules.texts import CONTROL
from finetune.data.converters.keys import CONVERTED, Format, refuse_keys
from finetune.data.converters.turns import REFUSED_IN_TURNS, is_marked_untrained
from finetune.data.converters.values import has_value
from finetune.data.examples import KEYS, Shape, messages_of, shape_of
from finetune.data.json_values import on_one_line, values_of
from finetune.data.null_keys import null_keys
from finetune.data.text_encoding import BYTE_ORDER_MARKS

FORMATS: dict[Shape, Format] = {"chat": "messages", "completion": "completion", "preference": "preference"}
DECLARED = ("tools", "functions")
NULL_KEYS = {*DECLARED, "parallel_tool_calls"}
Change = tuple[int, str]  # the line, 0 for the whole file, and what was changed


def repair(path: Path) -> tuple[Path, list[Change]]:
    """Write a repaired copy beside the file, and return its path and all changes; without changes none is written.

    Raises FinetuneError when the file cannot be read, or the copy cannot be written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FinetuneError(f"Cannot read {path}: {error.strerror or error}.", "Check the file's name.") from error
    changes: list[Change] = []
    lines = split_lines(as_utf8(content, changes), changes)
    kept = list(repaired_lines(lines, changes))
    target = unused_path(path)
    if not kept:
        return target, []
    if changes:
        write_bytes(target, b"".join(line + b"\n" for line in kept))
    return target, changes


def unused_path(path: Path) -> Path:
    """Return `a.fixed.jsonl` for `a.jsonl`, or the first of `a.fixed-2.jsonl`, … that does not exist."""
    target, number = path.with_name(f"{path.stem}.fixed{path.suffix}"), 2
    while target.exists():
        target, number = path.with_name(f"{path.stem}.fixed-{number}{path.suffix}"), number + 1
    return target


def as_utf8(content: bytes, changes: list[Change]) -> bytes:
    """Return content that begins with a byte-order mark as UTF-8 without the mark, other content as it is."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            try:
                text = content.decode(encoding)
            except UnicodeDecodeError:
                return content
            changes.append((0, f"{encoding} converted to UTF-8 without a byte-order mark"))
            return text.encode("utf-8")
    return content


def split_lines(content: bytes, changes: list[Change]) -> list[bytes]:
    """Return the lines of a file; of JSON that is not one example per line, a line for each example."""
    lines = content.removesuffix(b"\n").split(b"\n")
    values = None if all(map(is_object, lines)) else values_of(content)
    if values is None or values.broken_line or not (values.is_list or values.over_lines):
        return lines
    count = len(values.texts)
    whole = "one example" if count == 1 and not values.is_list else f"{count} examples"
    where = " of a JSON list written one per line" if values.is_list else " written on one line each"
    changes.append((0, whole + (" written on one line" if whole == "one example" else where)))
    return [on_one_line(text) for text in values.texts]


def is_object(line: bytes) -> bool:
    with suppress(orjson.JSONDecodeError):
        return isinstance(orjson.loads(line), dict)
    return False


def repaired_lines(lines: list[bytes], changes: list[Change]) -> Iterator[bytes]:
    """Yield each line after its repairs, without blank lines and exact copies."""
    seen: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            changes.append((number, "blank line removed"))
            continue
        end = b"\r" if line.endswith(b"\r") else b""
        for text in objects_on(line.removesuffix(end), number, changes):
            repaired, done = repaired_object(text)
            changes += [(number, what) for what in done]
            first = seen.setdefault(canonical_digest(repaired), number) if is_object(repaired) else number
            if first != number:
                changes.append((number, f"removed: the same example as line {first}"))
            else:
                yield repaired + end


def repaired_object(text: bytes) -> tuple[bytes, list[str]]:
    """Return the JSON of an example after its repairs, and what was done; other text as it is."""
    example = orjson.loads(text) if is_object(text) else {}
    if not shape_of(example) or not apply_steps(example):
        return text, []
    exact = read_exactly(text)
    if exact is None:  # a key stands twice in an object: a repair would lose one of them
        return text, []
    done = apply_steps(exact)
    return write_like(exact, text), done


def apply_steps(example: Example) -> list[str]:
    return [what for step in STEPS for what in step(example)]


def canonical_digest(text: bytes) -> bytes:
    """Return the same digest for the same example, whatever the order of its keys."""
    with suppress(TypeError):  # too deep to be written
        text = orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).digest()


def objects_on(line: bytes, number: int, changes: list[Change]) -> list[bytes]:
    """Return the JSON objects of a line that has several or commas beside them; any other line as it is."""
    values = None if is_object(line) else values_of(line)
    if values is None or values.broken_line or values.is_list or not values.texts:
        return [line]
    what = f"{len(values.texts)} examples written one per line" if len(values.texts) > 1 else "comma removed"
    changes.append((number, what))
    return [text.encode() for text in values.texts]


def remove_unknown_keys(example: Example) -> Iterator[str]:
    """Remove keys that are not allowed, except those that change what is asked or which answer is good."""
    shape = shape_of(example)
    for key in sorted(set(example) - KEYS[shape]) if shape and not has_meaning(example, shape) else ():
        del example[key]
        yield f"the key {key!r} removed"
    for path, message in messages_of(example):
        if not any(has_value(message.get(key)) for key in REFUSED_IN_TURNS) and not is_marked_untrained(message):
            for key in sorted(set(message) - allowed_keys(message)):
                del message[key]
                yield f"{path}: the key {key!r} removed"


def has_meaning(example: Example, shape: Shape) -> bool:
    """Return whether an example has a key that is not allowed, and that `prepare` converts or refuses by its name."""
    form = FORMATS[shape]
    try:
        refuse_keys(example, form)
    except ValueError:
        return True
    return any(has_value(example[key]) for key in example.keys() & CONVERTED[form] - KEYS[shape])


def remove_null_keys(example: Example) -> Iterator[str]:
    """Remove keys that are null where the API wants another value: see null_keys.py."""
    for key in sorted(example):
        if (example[key] is None and key in NULL_KEYS) or (key == "functions" and example[key] == []):
            was = "empty" if example.pop(key) == [] else "null"
            yield f"the key {key!r} removed, which was {was}"
    given = example.get("input")
    holders = [("", example), *([("input.", given)] if isinstance(given, dict) else [])]
    declared = [(before + key, holder[key]) for before, holder in holders for key in DECLARED if key in holder]
    for path, value in [*messages_of(example), *declared]:
        for place, holder, key in list(null_keys(value, path)):
            del holder[key]
            yield f"{place}: the key {key!r} removed, which was null"
    for path, message in messages_of(example):
        if message.get("tool_calls") == []:
            del message["tool_calls"]
            yield f"{path}: the key 'tool_calls' removed, which was empty"


def repair_weights(example: Example) -> Iterator[str]:
    for path, message in messages_of(example):
        if "weight" in message and message.get("role") != "assistant":
            del message["weight"]
            yield f"{path}: the weight removed; only assistant messages have one"
        elif isinstance(message.get("weight"), bool) or message.get("weight") in ("0", "1"):
            message["weight"] = int(message["weight"])
            yield f"{path}: the weight written as a number"


def clean_texts(example: Example) -> Iterator[str]:
    """Normalize texts to NFC, remove control characters, and strip white space at the end of messages.

    White space alone stays: it is another mistake.
    """
    for path, message in messages_of(example):
        content = message.get("content")
        if isinstance(content, str):
            yield from change(message, "content", path, lambda text: clean(text).rstrip() or clean(text))
        for number, part in enumerate(content if isinstance(content, list) else []):
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield from change(part, "text", f"{path}.content[{number}]", clean)
    for key in ("prompt", "completion"):  # spaces at their ends may be needed
        if isinstance(example.get(key), str):
            yield from change(example, key, key, clean)


def clean(text: str) -> str:
    return unicodedata.normalize("NFC", CONTROL.sub("", text))


def change(holder: dict[str, Any], key: str, path: str, repair_text: Callable[[str], str]) -> Iterator[str]:
    before = holder[key]
    holder[key] = repair_text(before)
    if holder[key] != before:
        yield f"{path}: text normalized to NFC, without control characters and white space at its end"


STEPS: tuple[Callable[[Example], Iterator[str]], ...] = (
    remove_null_keys,
    remove_unknown_keys,
    repair_weights,
    clean_texts,
)
