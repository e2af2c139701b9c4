"""A repaired copy of a training file: what can be mended without knowing what was meant, each change said.

What cannot (broken JSON, a missing answer, a leak) is left as it is, for `finetune check` to name.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from finetune.core.disk import write_bytes
from finetune.core.errors import FinetuneError
from finetune.data.checks.rules import CONTROL, MESSAGE_KEYS
from finetune.data.examples import KEYS, Example, messages_of, shape_of
from finetune.data.readers import MARKS

Change = tuple[int, str]  # the line, 0 for the file, and what was done


def repair(path: Path) -> tuple[Path, list[Change]]:
    """Write the repaired copy beside the file; its path and every change come back, none when nothing was to mend.

    Raises FinetuneError when the file cannot be read, or the copy not be written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FinetuneError(f"Cannot read {path}: {error.strerror or error}.", "Check its name.") from error
    changes: list[Change] = []
    lines = lines_of(as_utf8(content, changes), changes)
    kept = list(mended(lines, changes))
    target = free_name(path)
    if changes:
        write_bytes(target, b"".join(line + b"\n" for line in kept))
    return target, changes


def free_name(path: Path) -> Path:
    """`a.fixed.jsonl` beside `a.jsonl`, or the first `a.fixed-2.jsonl`, … that is not taken."""
    target, number = path.with_name(f"{path.stem}.fixed{path.suffix}"), 2
    while target.exists():
        target, number = path.with_name(f"{path.stem}.fixed-{number}{path.suffix}"), number + 1
    return target


def as_utf8(content: bytes, changes: list[Change]) -> bytes:
    """The content in UTF-8 without a byte-order mark, where a mark says what it is in."""
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            try:
                text = content.decode(encoding)
            except UnicodeDecodeError:
                return content
            changes.append((0, f"written as UTF-8 without a mark; it was {encoding}"))
            return text.encode("utf-8")
    return content


def lines_of(content: bytes, changes: list[Change]) -> list[bytes]:
    """The lines of a file, or the examples of one that is a single JSON document."""
    try:
        whole = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.removesuffix(b"\n").split(b"\n")
    if isinstance(whole, list):
        changes.append((0, f"{len(whole)} examples of a JSON list written on lines of their own"))
        return [orjson.dumps(example) for example in whole]
    line = orjson.dumps(whole)
    if b"\n" in content.strip():
        changes.append((0, "one example written on one line"))
    return [line if b"\n" in content.strip() else content.strip()]


def mended(lines: list[bytes], changes: list[Change]) -> Iterator[bytes]:
    """Each line after its repairs; blank lines and exact copies are left out."""
    seen: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            changes.append((number, "blank line removed"))
            continue
        try:
            example = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield line
            continue
        if isinstance(example, dict) and shape_of(example):
            done = [what for step in STEPS for what in step(example)]
            if done:
                changes += [(number, what) for what in done]
                line = json.dumps(example, ensure_ascii=False).encode()
            first = seen.setdefault(orjson.dumps(example, option=orjson.OPT_SORT_KEYS), number)
            if first != number:
                changes.append((number, f"removed: the same example as line {first}"))
                continue
        yield line


def without_unknown_keys(example: Example) -> Iterator[str]:
    shape = shape_of(example)
    for key in sorted(set(example) - KEYS[shape]) if shape else ():
        del example[key]
        yield f"the key {key!r} removed"
    for path, message in messages_of(example):
        for key in sorted(set(message) - MESSAGE_KEYS):
            del message[key]
            yield f"{path}: the key {key!r} removed"


def with_sound_weights(example: Example) -> Iterator[str]:
    for path, message in messages_of(example):
        if "weight" in message and message.get("role") != "assistant":
            del message["weight"]
            yield f"{path}: its weight removed; only assistant messages have one"
        elif isinstance(message.get("weight"), bool) or message.get("weight") in ("0", "1"):
            message["weight"] = int(message["weight"])
            yield f"{path}: its weight written as a number"


def with_clean_texts(example: Example) -> Iterator[str]:
    """Composed letters, no control characters, and no white space at the end of chat texts."""
    for path, message in messages_of(example):
        if isinstance(message.get("content"), str):
            yield from change(message, "content", path, lambda text: clean(text).rstrip())
    for key in ("prompt", "completion"):  # their spaces at the ends have a meaning
        if isinstance(example.get(key), str):
            yield from change(example, key, key, clean)


def clean(text: str) -> str:
    return CONTROL.sub("", unicodedata.normalize("NFC", text))


def change(holder: dict[str, Any], key: str, path: str, mend: Callable[[str], str]) -> Iterator[str]:
    before = holder[key]
    holder[key] = mend(before)
    if holder[key] != before:
        yield f"{path}: white space at its end, control characters or letters apart from their accents mended"


STEPS: tuple[Callable[[Example], Iterator[str]], ...] = (without_unknown_keys, with_sound_weights, with_clean_texts)
