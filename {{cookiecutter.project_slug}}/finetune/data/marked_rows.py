"""Find the marks of raw prompts and completions, and take them off the rows."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import FoundMarks
from finetune.core.sections.data import Data
from finetune.data.existing_marks import Pair, find_marks, without_marks
from finetune.data.formats import format_of
from finetune.data.raw_file import Row
from finetune.data.readers import read_raw_data
from finetune.data.unanswerable import is_marked


def unmarked(rows: Iterator[Row], data: Data, found: FoundMarks) -> Iterator[Row]:
    """Return the rows of one file; those of prompts and completions without their marks, which are noted in `found`.

    The marks are those of all rows of all files, so these are read once more. Raises FinetuneError naming the rows
    where only some have a mark.
    """
    if data.prompt or data.format not in ("auto", "completion"):
        return rows
    first = next(rows)
    rows = chain([first], rows)
    if data.format == "auto" and not is_completion(first):
        return rows
    if not any(found.values()):
        found.update(find_marks(raw_pairs(data)))
    return (without_own_marks(row, found) for row in rows)


def raw_pairs(data: Data) -> Iterator[Pair]:
    """Yield the place, the prompt and the completion of each row, for files of prompts and completions only.

    A completion that `data.abstain` replaces is "".
    """
    files = data.files.model_dump().values() if data.files else [data.file]
    for file in filter(None, files):
        rows, _ = read_raw_data(data, file)
        first = next(rows, {})
        if data.format == "auto" and not is_completion(first):
            continue
        for number, row in enumerate(chain([first], rows), 1):
            prompt, completion = (row.get(key) for key in ("prompt", "completion"))
            place = f"{file}, {rows.place(number)}" if data.files else rows.place(number)
            if (
                data.abstain
                and data.abstain.column
                and is_marked(row, data.abstain.column, f"{file}, {rows.place(number)}")
            ):
                completion = ""
            yield place, prompt if isinstance(prompt, str) else "", completion if isinstance(completion, str) else ""


def is_completion(row: Row) -> bool:
    """Return whether a row's keys belong to the format of prompts and completions."""
    with suppress(FinetuneError):
        return format_of(row, "") == "completion"
    return False


def without_own_marks(row: Row, marks: FoundMarks) -> Row:
    """Return a row of a prompt and a completion without its marks. A number has none."""
    texts = {key: row[key] for key in ("prompt", "completion") if isinstance(row.get(key), str)}
    prompt, completion = without_marks(texts.get("prompt", ""), texts.get("completion", ""), marks)
    clean = {"prompt": prompt, "completion": completion}
    return {**row, **{key: clean[key] for key in texts}}
