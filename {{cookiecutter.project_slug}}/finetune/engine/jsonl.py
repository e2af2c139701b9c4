"""Read JSON Lines with one strictness: files are checked at upload as jobs and batches read them later.

OpenAI refuses a file at upload whose lines are not JSON objects, and fails the job for what is wrong inside of them.
So does this server: what cannot be decoded, parsed or encoded again is refused at upload, with the line's number.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import from_json

MAX_LINE = 32 * 1024**2  # bytes; no base has a context of that length


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers from 1, and without the byte order mark of Azure's files.

    A line that is too long is not read whole: `parse_object` refuses the part that is yielded.
    """
    with open(path, "rb") as lines:
        number = 0
        while line := lines.readline(MAX_LINE + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            if line.strip():
                yield number, line


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object of a line.

    Raises ValueError for anything else: bytes that are not UTF-8, half of a surrogate pair, NaN, nesting and numbers
    beyond what a parser accepts, and lines over MAX_LINE.
    """
    if len(line) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE // 1024**2} MiB")
    found = from_json(line, allow_inf_nan=False)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found
