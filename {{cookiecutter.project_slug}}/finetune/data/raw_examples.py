"""Turn raw rows into examples, each with its split, the key that decides its split, and the cells to keep."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import Example, FoundMarks
from finetune.core.sections.data import Abstain, Data
from finetune.data.cell_map import cell_map_of
from finetune.data.cell_paths import beginnings_of, cell_of, column_of, root_of
from finetune.data.class_codes import codes_text
from finetune.data.converters.keys import CONVERTED, Format, unused_keys
from finetune.data.example_spool import NewExample
from finetune.data.examples import is_trained
from finetune.data.existing_marks import NO_MARKS
from finetune.data.formats import each_turn, examples_of
from finetune.data.hashes import sha256_64
from finetune.data.identity import question_hash, question_of
from finetune.data.marked_rows import unmarked
from finetune.data.prompts import Template, cell_text, check_column, columns_in
from finetune.data.raw_file import Note, Row, Rows
from finetune.data.readers import read_raw_data
from finetune.data.redaction import redact, shown
from finetune.data.split import SPLITS, split_keys
from finetune.data.unanswerable import is_marked, question_columns
from finetune.data.unused_keys import UnusedKeys
from finetune.data.written_numbers import has_written

SPLIT_NAMES = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}


@dataclass
class ReadingNotes:
    """What was seen while reading: how each file was read, by its split, and what was found, changed and not used."""

    sources: dict[str, Note] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    found_marks: FoundMarks = field(default_factory=lambda: NO_MARKS.copy())
    unused: UnusedKeys = field(default_factory=UnusedKeys)
    redacted: Counter[str] = field(default_factory=Counter)  # by kind
    left_out: Counter[str] = field(default_factory=Counter)  # rows that are no examples, by the reason


def raw_examples(
    data: Data, template: Template | None, codes: dict[str, str], notes: ReadingNotes, with_preferences: bool = False
) -> Iterator[NewExample]:
    """Yield each example of all files with its row number, split, split key and kept cells, for `spool_examples`.

    The split is the given one, or the first one if shares decide later. Raises FinetuneError naming the row that
    cannot be used, and the column that a parameter names and the data lack. Preferences are refused without
    `with_preferences`.
    """
    files = data.files.model_dump() if data.files else {"": data.file}
    abstain, columns = data.abstain, set[str]()
    kept, cell_map, declared = sorted(kept_columns(data, codes)), cell_map_of(data.map), declared_columns(data)
    paths = [column for column in declared if root_of(column) != column]
    for name, file in files.items():
        if file is None:
            continue
        raw, note = read_raw_data(data, file)
        rows = Rows(unmarked(raw, data, notes.found_marks), raw.places)
        fixed = {"codes": codes_text(codes)} if codes else {}
        phrase = partial(abstaining_answer, abstain, file, rows, notes.counts) if abstain and abstain.column else None
        pairs, form = examples_of(rows, data.format, template, file, fixed, phrase, cell_map, declared)
        if not with_preferences:
            refuse_preference(form, file)
        note["rows"], notes.sources[name] = form, note
        used = used_columns(data, template, form)
        own: set[str] = set()
        for number, (row, given) in enumerate(pairs, 1):
            example = redact(given, data.redact, notes.redacted)
            split = SPLITS.index(name) if name else given_split(data, row, rows, number)
            key, question = split_keys(example)
            if data.group:
                key = sha256_64(group_of(data, row, rows, number).encode())
            answers = answers_in(example, each=data.turns == "each")
            if data.labels and sum([trim_label(answer, data.labels) for answer in answers]):
                notes.counts["labels_trimmed"] += 1
            if has_white_space_at_ends(example):
                notes.counts["white_space_kept"] += 1
            for answer in answers if codes else ():
                encode_answer(answer, codes, f"{file}, {rows.place(number)}")
            for turn in each_turn(example) if data.turns == "each" and "messages" in example else [example]:
                asked = question if turn is example else question_hash(question_of(turn))
                yield rows.number(number), split, key, asked, turn, cells_of(row, kept)
            notes.counts["rows"] += 1
            notes.unused.add(unused_keys(row, used, form))
            own.update(row)
            own.update(path for path in paths if cell_of(row, path) is not None)
        notes.left_out.update(blank=raw.places.blank, not_accepted=raw.places.not_accepted)
        if data.by and name in ("", "test"):
            check_column("data.by", data.by, own, file)
        columns |= own
    if abstain and abstain.column:
        check_column("data.abstain.column", abstain.column, columns, " and ".join(filter(None, files.values())))


def refuse_preference(form: Format, file: str) -> None:
    """Raise FinetuneError for rows with a better and a worse answer where rows with one answer are needed."""
    if form == "preference":
        raise FinetuneError(
            f"{file}: the rows are preferences, each with two answers, and one answer is needed.",
            "To train on preferences, name the file under data.file in params.yaml and set train.method to dpo. Or keep"
            " only the better answer, as `messages` or as `prompt` and `completion`.",
        )


def declared_columns(data: Data) -> set[str]:
    """Return the columns that parameters other than the prompt use."""
    columns = {data.group, data.by, data.split.column if data.split else None}
    if data.abstain:
        columns |= {data.abstain.column, data.abstain.context}
    return {column for column in columns if column}


def used_columns(data: Data, template: Template | None, form: Format) -> set[str]:
    """Return all columns that are used of rows of a format; of a path, the columns that it may begin with too."""
    named = columns_in(template) if template else CONVERTED[form]
    columns = {*named, *declared_columns(data)}
    return columns | {beginning for column in columns for beginning, _ in beginnings_of(column)}


def cells_of(row: Row, columns: list[str]) -> Row:
    """Return the cells of some columns or paths, of those that the row has."""
    cells = {column: cell_of(row, column) for column in columns if column_of(row, column) is not None}
    return {column: cell_text(cell) if has_written(cell) else cell for column, cell in cells.items()}


def has_white_space_at_ends(example: Example) -> bool:
    """Return whether an answer begins or ends with white space, which is then part of what the model learns."""
    for message in example.get("messages", ()):
        text = message.get("content")
        if isinstance(text, str) and text != text.strip() and is_trained(message):
            return True
    return False


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


def abstaining_answer(
    abstain: Abstain, file: str, rows: Rows, counts: Counter[str], row: Row, number: int
) -> str | None:
    """Return the answer of a row that is marked as unanswerable; None for other rows."""
    marked = is_marked(row, abstain.column or "", f"{file}, {rows.place(number)}")
    counts["marked_unanswerable"] += marked
    return abstain.answer if marked else None


def answers_in(example: Example, each: bool) -> list[dict[str, Any]]:
    """Return the messages of an example that may name a class: the last one, or each trained answer."""
    messages: list[dict[str, Any]] = example.get("messages") or [{}]
    return [message for message in messages if is_trained(message)] if each else messages[-1:]


def trim_label(answer: dict[str, Any], labels: Sequence[str]) -> bool:
    """Remove white space around an answer if the rest is a class, and return whether there was any."""
    text = answer.get("content")
    if not isinstance(text, str) or text in labels or text.strip() not in labels:
        return False
    answer["content"] = text.strip()
    return True


def encode_answer(answer: dict[str, Any], codes: dict[str, str], place: str) -> None:
    """Replace an answer by the code of its class. Raises FinetuneError if it is no class."""
    if not isinstance(answer.get("content"), str) or answer["content"] not in codes:
        raise FinetuneError(
            f"{place}: the answer is not in data.labels, so it has no code.", "Correct it, or add it to data.labels."
        )
    answer["content"] = codes[answer["content"]]


def given_split(data: Data, row: Row, rows: Rows, number: int) -> int:
    """Return the split that a row's own column names; the first split if shares decide later."""
    column = data.split.column if data.split else None
    if column is None:
        return 0
    name = cell_text(cell_of(row, column)).strip().lower()
    if name not in SPLIT_NAMES:
        raise FinetuneError(
            f"{data.file}, {rows.place(number)}: the column {column!r} of data.split.column has {shown(name)}.",
            "Write train, valid or test there.",
        )
    return SPLIT_NAMES[name]


def group_of(data: Data, row: Row, rows: Rows, number: int) -> str:
    """Return a row's cell in the column `data.group`. Raises FinetuneError if it is missing or empty."""
    key = cell_text(cell_of(row, data.group or "")).strip()
    if not key:
        raise FinetuneError(
            f"{data.file}, {rows.place(number)}: the column {data.group!r} of data.group is empty.",
            f"Fill that column, or name another of: {', '.join(sorted(row))}.",
        )
    return key
