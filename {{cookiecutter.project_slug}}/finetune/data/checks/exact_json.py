"""Read the JSON of an example and write it again without changing its numbers, escapes and spaces."""

import json
from typing import Any

from finetune.data.written_numbers import WrittenFloat, WrittenInt


def read_exactly(text: bytes) -> Any:
    """Return a JSON value whose numbers remember how they were written; None where an object has a key twice."""

    def whole(written: str) -> int:
        number = WrittenInt(written)
        number.text = written
        return number

    def decimal(written: str) -> float:
        number = WrittenFloat(written)
        number.text = written
        return number

    try:
        return json.loads(text, parse_int=whole, parse_float=decimal, object_pairs_hook=without_repeats)
    except (ValueError, RecursionError):
        return None


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def write_like(value: Any, text: bytes) -> bytes:
    """Return the JSON of a value that `read_exactly` read, with the escapes and spaces of `text`."""
    escapes = text.isascii()
    is_compact = b'":' in text and b'": ' not in text
    comma, colon = (",", ":") if is_compact else (", ", ": ")

    def written(part: Any) -> str:
        if isinstance(part, (WrittenInt, WrittenFloat)):
            return part.text
        if isinstance(part, dict):
            pairs = (f"{json.dumps(key, ensure_ascii=escapes)}{colon}{written(item)}" for key, item in part.items())
            return f"{{{comma.join(pairs)}}}"
        if isinstance(part, list):
            return f"[{comma.join(map(written, part))}]"
        return json.dumps(part, ensure_ascii=escapes)

    return written(value).encode()
