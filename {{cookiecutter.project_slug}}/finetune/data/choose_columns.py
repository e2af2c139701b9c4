"""Choose the columns of question, answer and group in a table, and say why."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finetune.core.errors import FinetuneError
from finetune.core.task import Task
from finetune.data.column_words import ANSWERS, COMPANIONS, GROUPS, QUESTIONS, rank
from finetune.data.file_look import Column, FileLook
from finetune.data.prompts import PLACEHOLDER

FEWEST_GROUPS = 10  # with fewer, the shares of the splits cannot be kept


@dataclass(frozen=True)
class Choices:
    """What the user chose; None: not chosen. An empty group is none."""

    task: Task | None = None
    questions: tuple[str, ...] | None = None
    answer: str | None = None
    system: str | None = None
    group: str | None = None

    @property
    def as_columns(self) -> bool:
        """Whether the rows are to be read as plain columns."""
        return self.system is not None or bool(self.questions or self.answer)


def answer_column(look: FileLook, choices: Choices) -> tuple[str, str]:
    """Return the column of the answers, and why."""
    if choices.answer is not None:
        return known_column(look, choices.answer, "answer"), "as asked for"
    chosen = set(choices.questions or ())
    usable = [
        c for c in look.columns.values() if c.kind in ("label", "json", "text", "number") and c.name not in chosen
    ]
    if len(usable) + len(chosen) < 2:
        raise FinetuneError(
            f"{look.path} has no question and answer: its columns are {listed(look)}.",
            "If it is a table, rename it to .csv or .tsv; if its lines are JSON, to .jsonl."
            if look.note["format"] == "TXT"
            else "Add a column with the answers, or name the columns: --question NAME --answer NAME.",
        )
    named = best_named(usable, ANSWERS)
    if named:
        return named.name, "its name"
    texts = [column for column in usable if column.kind == "text"]
    for kind, why in (("label", "the last column with few short answers"), ("json", "the last column with JSON")):
        # Beside two columns of text, numbers are more likely a score of the answer than the answer.
        found = [c for c in usable if c.kind == kind and (c.numbers < c.filled or len(texts) < 2)]
        if found:
            return found[-1].name, why
    return (texts or usable)[-1].name, "the last column of text"


def question_columns(look: FileLook, choices: Choices, answer: str) -> tuple[tuple[str, ...], str]:
    """Return the columns of the question in the order of the file, and why."""
    if choices.questions:
        for name in choices.questions:
            known_column(look, name, "question")
            if name == answer:
                raise FinetuneError(f"The column {name!r} is the answer, so it cannot be in the question.")
        return choices.questions, "as asked for"
    usable = [c for c in look.columns.values() if c.name != answer and c.kind in ("text", "json", "label", "number")]
    usable = [column for column in usable if PLACEHOLDER.fullmatch(f"{{{column.name}}}")]
    if not usable:
        raise FinetuneError(
            f"{look.path} has no column for the question: its columns are {listed(look)}.",
            "Name it: --question NAME.",
        )
    main = best_named(usable, QUESTIONS)
    if not main:
        return (max(usable, key=lambda column: column.average).name,), "the longest texts"
    others = {column.name for column in usable if rank(column.name, COMPANIONS) is not None}
    names = tuple(column.name for column in usable if column is main or column.name in others)
    return names, "its name" if len(names) == 1 else "their names"


def best_named(columns: Sequence[Column], known: str) -> Column | None:
    """Return the column whose name has the first of the known words; None if no name has one."""
    ranked = [(place, column) for column in columns if (place := rank(column.name, known)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def known_column(look: FileLook, name: str, role: str) -> str:
    """Return the name. Raises FinetuneError if the file has no such column, or the prompt cannot name it."""
    if name not in look.columns:
        raise FinetuneError(f"{look.path} has no column {name!r} for the {role}.", f"Its columns are: {listed(look)}.")
    if PLACEHOLDER.fullmatch(f"{{{name}}}") is None:
        raise FinetuneError(
            f"{look.path}: a prompt cannot name the column {name!r}, because of its braces.", "Rename it."
        )
    return name


def listed(look: FileLook) -> str:
    """Return the names of the columns as text."""
    return ", ".join(look.columns) or "none"


def group_column(look: FileLook, choices: Choices, taken: Iterable[str | None]) -> tuple[str | None, str]:
    """Return the column whose rows stay in one split, and why; None for none."""
    if choices.group is not None:
        if not choices.group:
            return None, "as asked for"
        column = look.columns.get(choices.group)
        if column is None:
            raise FinetuneError(
                f"{look.path} has no column {choices.group!r} for the group.", f"Its columns are: {listed(look)}."
            )
        if column.filled < look.rows:
            raise FinetuneError(
                f"{look.path}: the column {choices.group!r} is empty in {look.rows - column.filled} rows, so it cannot"
                " be the group.",
                "Fill it, or choose another column: --group NAME, or --group '' for none.",
            )
        return choices.group, "as asked for"
    usable = [
        column
        for column in look.columns.values()
        if column.name not in taken
        and column.filled == look.rows
        and column.kind == "group"
        and len(column.distinct) >= FEWEST_GROUPS
    ]
    found = best_named(usable, GROUPS)
    if found is None:
        return None, "no column names a person or a conversation whose rows repeat"
    many = "at least " if len(found.distinct) < found.compared < found.filled else ""
    return found.name, f"{many}{len(found.distinct):,} values in {look.rows:,} rows: one value stays in one split"
