"""Turn raw rows into examples, each with its split, the key that decides its split, and the cells to keep."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from finetune.core.errors import FinetuneError
from finetune.core.params import Abstain, Data
from finetune.core.records import Example
from finetune.data.class_codes import codes_text
from finetune.data.example_spool import NewExample
from finetune.data.formats import each_turn, examples_of
from finetune.data.hashes import sha256_64
from finetune.data.identity import question_hash, question_of
from finetune.data.prompts import Template, cell_text, check_column
from finetune.data.raw_file import Note, Row
from finetune.data.readers import read_rows
from finetune.data.split import SPLITS, split_keys
from finetune.data.unanswerable import is_marked, question_columns

SPLIT_NAMES = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}


@dataclass
class ReadingNotes:
    """What was seen while reading: how each file was read, by its split, and counts of rows."""

    sources: dict[str, Note] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def raw_examples(
    data: Data, template: Template | None, codes: dict[str, str], notes: ReadingNotes
) -> Iterator[NewExample]:
    """Yield each example of all files with its row number, split, split key and kept cells, for `spool_examples`.

    The split is the given one, or the first one if shares decide later. Raises FinetuneError naming the row that
    cannot be used, and the column that a parameter names and the data lack.
    """
    files = data.files.model_dump() if data.files else {"": data.file}
    abstain, columns = data.abstain, set[str]()
    kept = sorted(kept_columns(data, codes))
    for name, file in files.items():
        if file is None:
            continue
        rows, note = read_rows(Path(file), data.sheet)
        fixed = {"codes": codes_text(codes)} if codes else {}
        phrase = partial(abstaining_answer, abstain, file, notes.counts) if abstain and abstain.column else None
        pairs, note["rows"] = examples_of(rows, data.format, template, file, fixed, phrase)
        notes.sources[name] = note
        own: set[str] = set()
        for number, (row, example) in enumerate(pairs, 1):
            split = SPLITS.index(name) if name else given_split(data, row, number)
            key, question = split_keys(example)
            if data.group:
                key = sha256_64(group_of(data, row, number).encode())
            if codes:
                encode_answer(example, codes, f"{file}, row {number}")
            for turn in each_turn(example) if data.turns == "each" and "messages" in example else [example]:
                asked = question if turn is example else question_hash(question_of(turn))
                yield number, split, key, asked, turn, {column: row[column] for column in kept if column in row}
            notes.counts["rows"] += 1
            own.update(row)
        if data.by and name in ("", "test"):
            check_column("data.by", data.by, own, file)
        columns |= own
    if abstain and abstain.column:
        check_column("data.abstain.column", abstain.column, columns, " and ".join(filter(None, files.values())))


def kept_columns(data: Data, codes: dict[str, str]) -> set[str]:
    """Return the columns of the raw data that are needed again when the splits are known."""
    kept = {data.by} if data.by else set()
    if data.abstain and data.abstain.context:
        kept |= {data.abstain.context, *question_columns(question_template(data), data.abstain.context, codes)}
    return kept


def question_template(data: Data) -> Template:
    """Return the texts that rows are asked with: {} without a template, and no system prompt in completions."""
    texts = data.prompt.model_dump() if data.prompt else {}
    return texts if data.target == "chat" else {role: text for role, text in texts.items() if role != "system"}


def abstaining_answer(abstain: Abstain, file: str, counts: Counter[str], row: Row, number: int) -> str | None:
    """Return the answer of a row that is marked as unanswerable; None for other rows."""
    marked = is_marked(row, abstain.column or "", f"{file}, row {number}")
    counts["marked_unanswerable"] += marked
    return abstain.answer if marked else None


def encode_answer(example: Example, codes: dict[str, str], place: str) -> None:
    """Replace an example's answer by the code of its class. Raises FinetuneError if it is no class."""
    answer = example["messages"][-1] if example.get("messages") else {}
    if not isinstance(answer.get("content"), str) or answer["content"] not in codes:
        raise FinetuneError(
            f"{place}: the answer is not in data.labels, so it has no code.", "Correct it, or add it to data.labels."
        )
    answer["content"] = codes[answer["content"]]


def given_split(data: Data, row: Row, number: int) -> int:
    """Return the split that a row's own column names; the first split if shares decide later."""
    column = data.split.column if data.split else None
    if column is None:
        return 0
    name = cell_text(row.get(column)).strip().lower()
    if name not in SPLIT_NAMES:
        raise FinetuneError(
            f"{data.file}, row {number}: the column {column!r} of data.split.column has {name!r}.",
            "Write train, valid or test there.",
        )
    return SPLIT_NAMES[name]


def group_of(data: Data, row: Row, number: int) -> str:
    """Return a row's cell in the column `data.group`. Raises FinetuneError if it is missing or empty."""
    key = cell_text(row.get(data.group or "")).strip()
    if not key:
        raise FinetuneError(
            f"{data.file}, row {number}: the column {data.group!r} of data.group is empty.",
            f"Fill that column, or name another of: {', '.join(sorted(row))}.",
        )
    return key
