"""Look at a file of raw data: its format, its first rows, and what the cells of each column look like."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import orjson

from finetune.core.callbacks import Progress
from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import Example
from finetune.core.sections.data import Data, Split
from finetune.data.annotation_exports import ONE_CHOICE, Tool, refuse_nested_export, tool_of
from finetune.data.class_codes import MOST_CLASSES
from finetune.data.column_words import GROUPS, QUESTIONS, rank
from finetune.data.converters.keys import Format
from finetune.data.examples import as_chat, declared_in, right_answer
from finetune.data.existing_marks import NO_MARKS
from finetune.data.formats import examples_of, format_of
from finetune.data.hashes import xxh3_64
from finetune.data.marked_rows import unmarked
from finetune.data.prompts import cell_text
from finetune.data.raw_examples import SPLIT_NAMES
from finetune.data.raw_file import Note, Row, Rows
from finetune.data.readers import read_rows

Kind = Literal["empty", "constant", "split", "json", "date", "id", "group", "label", "number", "text"]
SHOWN = 3  # rows
LABEL_LETTERS = 60  # at most, in the name of a class
COUNTED_LETTERS = 200  # at most, in a cell that is counted by its text
MOST_DISTINCT = 100_000  # different cells of a column that are counted
NEARLY_ALL = 0.95  # of the cells, for a kind that allows for mistakes
EVERY = 10_000  # rows from one sign of progress to the next
DATE = re.compile(
    r"(\d{4}\s?[-/.年년]\s?\d{1,2}\s?[-/.月월]\s?\d{1,2}[日일]?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})"
    r"([T ,]+\d{1,2}:\d{2}.*)?"
)
NUMBER = re.compile(r"[-+]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?(e[-+]?\d+)?%?", re.IGNORECASE)
WITHOUT_SPACES = re.compile(r"\S{1,64}")
# Writing in which a whole sentence may have no space: from Thai to Burmese, Khmer, kana, Chinese characters, Hangul.
UNSPACED = re.compile(
    r"[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
UNSPACED_LETTERS_OF_IDS = 4  # at most, such as in 注文番号-12; more are a text
ADDRESS = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")  # of e-mail


@dataclass
class Column:
    """What the cells of a column look like. Cells without text are not counted."""

    name: str
    filled: int = 0
    characters: int = 0
    longest: str = ""
    lists: int = 0  # JSON lists
    objects: int = 0  # JSON objects
    keys: set[str] = field(default_factory=set)  # of these objects, all of them
    dates: int = 0
    numbers: int = 0
    words: int = 0  # cells of one word
    addresses: int = 0  # of e-mail
    values: Counter[str] = field(default_factory=Counter)  # up to one more than there can be classes
    distinct: set[int] = field(default_factory=set)  # hashes of the first cells
    compared: int = 0  # cells that these hashes are of

    def add(self, cell: object) -> None:
        """Count a cell."""
        text = cell_text(cell)
        stripped = text.strip()
        if not stripped:
            return
        self.filled += 1
        self.characters += len(text)
        if len(text) > len(self.longest):
            self.longest = text
        if stripped[0] in "[{":
            self.add_json(cell, stripped)
        elif len(stripped) <= LABEL_LETTERS:
            self.dates += DATE.fullmatch(stripped) is not None
            self.numbers += NUMBER.fullmatch(stripped) is not None
            self.addresses += "@" in stripped and ADDRESS.fullmatch(stripped) is not None
        self.words += is_word(stripped)
        if len(self.values) <= MOST_CLASSES:
            self.values[text[: COUNTED_LETTERS + 1]] += 1
        if len(self.distinct) < MOST_DISTINCT:
            self.distinct.add(xxh3_64(text.encode("utf-8", "surrogatepass")))
            self.compared += 1

    def add_json(self, cell: object, text: str) -> None:
        """Count a cell that may be a JSON list or object."""
        value: Any = cell
        if isinstance(cell, str):
            with suppress(orjson.JSONDecodeError):
                value = orjson.loads(text)
        self.lists += isinstance(value, list)
        if isinstance(value, dict):
            self.keys = self.keys & set(value) if self.objects else set(value)
            self.objects += 1

    @property
    def repeats(self) -> float:
        """How often a cell occurs, on average."""
        return self.compared / len(self.distinct) if self.distinct else 0.0

    @property
    def average(self) -> float:
        """Characters of a cell, on average."""
        return self.characters / self.filled if self.filled else 0.0

    @property
    def is_classes(self) -> bool:
        """Whether the cells are few short texts that repeat."""
        few = len(self.values) <= MOST_CLASSES and len(self.longest) <= LABEL_LETTERS and "\n" not in self.longest
        return few and self.repeats >= (2 if len(self.values) <= 10 else 3)

    @property
    def names_someone(self) -> bool:
        """Whether the cells are names or numbers of persons or conversations, by the column's name, and not texts."""
        is_short = len(self.longest) <= LABEL_LETTERS
        may_be_texts = self.words < self.filled and rank(self.name, QUESTIONS) is not None  # customer_message
        return is_short and rank(self.name, GROUPS) is not None and not may_be_texts

    @property
    def kind(self) -> Kind:
        if not self.filled:
            return "empty"
        if self.filled > 1 and len(self.values) == 1 and len(self.longest) <= COUNTED_LETTERS:
            return "constant"
        if self.is_classes and {SPLIT_NAMES.get(value.strip().lower()) for value in self.values} in SPLIT_SETS:
            return "split"
        if self.lists + self.objects >= NEARLY_ALL * self.filled:
            return "json"
        if self.dates >= NEARLY_ALL * self.filled:
            return "date"
        are_numbers = self.numbers == self.filled and not self.longest.isdecimal()
        if (
            self.words == self.filled
            and self.repeats == 1
            and any(map(str.isdecimal, self.longest))
            and not are_numbers
        ):
            return "id"
        if self.addresses >= NEARLY_ALL * self.filled:
            return "group" if self.repeats > 1 else "id"
        if self.repeats > 1 and self.names_someone:
            return "group"
        if self.is_classes and not (self.numbers == self.filled and len(self.values) > 20):
            return "label"
        return "number" if self.numbers >= NEARLY_ALL * self.filled else "text"


def is_word(text: str) -> bool:
    """Return whether a text is one word, and not a sentence of a language that writes no spaces."""
    if WITHOUT_SPACES.fullmatch(text) is None:
        return False
    return text.isascii() or len(UNSPACED.findall(text)) <= UNSPACED_LETTERS_OF_IDS


SPLIT_SETS = ({0, 1, 2}, {0, 2})  # a column that says the split has at least train and test


@dataclass(frozen=True)
class FileLook:
    """What a file looks like."""

    path: Path
    note: Note
    format: Format  # "columns" for a table without known keys
    rows: int
    first: list[Row]
    columns: dict[str, Column]
    answers: Column  # the last answer of each row; without cells for "columns"
    turns: int  # the most answers in one row
    tool: Tool | None = None  # of annotation, whose export this is
    not_accepted: int = 0  # rows that are left out, because the annotator rejected or ignored them
    declares_tools: bool = False  # in some row


def look_at(
    path: Path,
    sheet: str | None,
    as_columns: bool,
    progress: Progress | None = None,
    keep_rejected: bool = False,
    reading: Mapping[str, Any] | None = None,
) -> FileLook:
    """Look at all rows of a file, one by one.

    `as_columns`: its rows are plain columns, whatever their keys are. `reading`: its encoding, delimiter and quoting,
    as `data` has them, where they are not to be detected. Raises FinetuneError where `prepare` would too,
    and for a single object of JSON, which may hold the answers by their questions.
    """
    read, note = read_rows(path, sheet, keep_rejected=keep_rejected, **(reading or {}))
    first = list(islice(read, SHOWN))
    tool = tool_of(first[0])
    refuse_nested_export(path, first[0])
    form: Format = "columns" if as_columns else known_format(first[0])
    rows = Rows(chain(first, read), read.places)
    if form == "completion":
        data = Data(file=str(path), sheet=sheet, split=Split(column=""))
        rows = Rows(unmarked(rows, data, NO_MARKS.copy()), read.places)
    columns: dict[str, Column] = {}
    answers = Column("answer")
    count = turns = 0
    declares_tools = False
    for row, example in examples(rows, form, str(path)):
        for name, cell in row.items():
            columns.setdefault(name, Column(name)).add(cell)
        if tool == "Prodigy" and isinstance(row.get("accept"), list):
            columns.setdefault(ONE_CHOICE, Column(ONE_CHOICE)).add(
                row["accept"][0] if len(row["accept"]) == 1 else None
            )
        if example:
            found = answers_of(example)
            turns = max(turns, len(found))
            answers.add(found[-1] if found else None)
            declares_tools = declares_tools or bool(declared_in(as_chat(example)))
        count += 1
        if progress and count % EVERY == 0:
            progress(count, 0, f"{count:,} rows read")
    if form == "columns" and count == 1 and note["format"].startswith("JSON"):
        raise FinetuneError(
            f"{path} has only one row, an object with {len(columns)} {'key' if len(columns) == 1 else 'keys'}.",
            'If the keys are questions and the values answers, write a list of rows, [{"question": "…", "answer": "…"},'
            " …]. Else add rows.",
        )
    if ONE_CHOICE in columns:  # one option is accepted in each row, or a list of several
        del columns["accept" if columns[ONE_CHOICE].filled == count else ONE_CHOICE]
    return FileLook(
        path, note, form, count, first, columns, answers, turns, tool, read.places.not_accepted, declares_tools
    )


def known_format(row: Row) -> Format:
    """Return the format that a row's keys belong to, "columns" where they belong to none."""
    try:
        return format_of(row, "")
    except FinetuneError:
        return "columns"


def examples(rows: Iterable[Row], form: Format, source: str) -> Iterator[tuple[Row, Example]]:
    """Yield each row with its example; with {} where it has plain columns."""
    if form == "columns":
        return ((row, {}) for row in rows)
    return examples_of(rows, form, None, source)[0]


def answers_of(example: Example) -> list[str]:
    """Return the answers of a conversation, or the preferred output's."""
    messages = example.get("messages") or example.get("preferred_output") or []
    return [
        right_answer(message)
        for message in messages
        if isinstance(message, dict) and message.get("role") == "assistant"
    ]
