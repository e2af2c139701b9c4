"""Choose the columns of question, answer and group in a table, and say why."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.core.errors import FinetuneError
from finetune.core.task import Task
from finetune.data.annotation_exports import ONE_CHOICE, is_own_key
from finetune.data.column_words import ANSWERS, COMPANIONS, GROUPS, OPTIONS, QUESTIONS, rank
from finetune.data.file_look import Column, FileLook
from finetune.data.prompts import PLACEHOLDER, columns_in

AS_BEFORE = "as in params.yaml"
FEWEST_GROUPS = 10  # with fewer, the shares of the splits cannot be kept
FEWEST_OPTIONS = 3  # columns with the same word in their names that are answers to choose from
OTHERS_NAMED = 3  # columns that could be the answer too


@dataclass(frozen=True)
class Choices:
    """What the user chose, now or in params.yaml; None: not chosen. An empty group is none."""

    task: Task | None = None
    questions: tuple[str, ...] | None = None
    answer: str | None = None
    system: str | None = None
    group: str | None = None
    split: dict[str, Any] | None = None
    former_prompt: Mapping[str, Any] | None = None  # data.prompt of params.yaml for the same file

    @property
    def as_columns(self) -> bool:
        """Whether the rows are to be read as plain columns."""
        return self.system is not None or self.former_prompt is not None or bool(self.questions or self.answer)

    def former_columns(self, role: str, look: FileLook) -> tuple[str, ...]:
        """Return the columns of a text of the prompt of params.yaml; () if the file lacks one of them."""
        names = tuple(columns_in({role: str((self.former_prompt or {}).get(role) or "")}))
        return names if look.columns.keys() >= set(names) else ()

    def former_system(self, answer: str | None) -> str | None:
        """Return the system prompt of params.yaml, "" for none; None if there is no prompt with this answer."""
        if self.former_prompt is None or f"{{{answer}}}" not in str(self.former_prompt.get("assistant")):
            return None
        return self.former_prompt.get("system") or ""


def answer_column(look: FileLook, choices: Choices) -> tuple[str, str]:
    """Return the column of the answers, and why."""
    if choices.answer is not None:
        return known_column(look, choices.answer, "answer"), "as asked for"
    chosen = set(choices.questions or ())
    former = choices.former_columns("assistant", look)
    if len(former) == 1 and former[0] not in chosen:
        return former[0], AS_BEFORE
    usable = [column for column in usable_columns(look) if column.name not in chosen]
    if not usable or len(usable) + len(chosen) < 2:
        raise no_question_and_answer(look)
    if choice := next((c for c in usable if c.name in (ONE_CHOICE, "accept") and look.tool == "Prodigy"), None):
        return choice.name, "the options that were accepted"
    found, why = named_answer(usable), "its name"
    if found is None:
        found, why = likely_answer(usable)
    others = [c.name for c in usable if c is not found and is_rival(c, found, by_name=why == "its name")]
    more = f"; it could also be {' or '.join(others[:OTHERS_NAMED])}" if others else ""
    return known_column(look, found.name, "answer"), why + more


def usable_columns(look: FileLook) -> list[Column]:
    """Return the columns that may be a question or an answer.

    Where they are too few, also constant ones, groups, and ids and dates whose name says so, such as `text`.
    """
    own = [c for c in look.columns.values() if not is_own_key(c.name, look.tool)]
    columns = [c for c in own if c.kind in ("label", "json", "text", "number")]
    if len(columns) < 2:
        columns = [c for c in own if c in columns or c.kind in ("constant", "group") or is_named_text(c)]
    return columns


def is_named_text(column: Column) -> bool:
    """Return whether a column of ids or dates, as they seem, has just the name of a question or an answer."""
    return column.kind in ("id", "date") and column.name.casefold() in f"{QUESTIONS} {ANSWERS}".split()


def no_question_and_answer(look: FileLook) -> FinetuneError:
    """Return the error for a file with less than two columns of text."""
    if look.note["format"] == "TXT":
        remedy = "If it is a table, rename it to .csv or .tsv; if its lines are JSON, to .jsonl"
        return FinetuneError(f"{look.path} has no question and answer: it is plain text.", f"{remedy}.")
    remedy = "Add a column with the answers"
    if len(look.columns) == 1 and look.note["format"] in ("CSV", "TSV"):
        remedy += ", or, if another character separates the cells, set data.delimiter in params.yaml to it"
    if len(look.columns) > 1:
        remedy += ", or name the columns: --question NAME --answer NAME"
    if sheets := look.note.get("other sheets"):
        remedy += f", or choose another sheet with --sheet NAME: {sheets}"
    return FinetuneError(f"{look.path} has no question and answer: its columns are {listed(look)}.", f"{remedy}.")


def named_answer(usable: Sequence[Column]) -> Column | None:
    """Return the column with the name of an answer; None if there is none.

    Several columns with the same word, such as answerA, answerB and answerC, are answers to choose from. The name of a
    column of texts does not count if it is a question, as in surveys ("What do you like about your team?").
    """
    named = [column for column in usable if column.kind != "text" or not column.name.rstrip().endswith(("?", "？"))]
    places = [(place, column) for column in named if (place := rank(column.name, ANSWERS)) is not None]
    for best in sorted({place for place, _ in places}):
        same = [column for place, column in places if place == best]
        exact = [column for column in same if column.name.casefold() == ANSWERS.split()[best]]
        if exact or len(same) < FEWEST_OPTIONS:
            return (exact or same)[0]
    return None


def likely_answer(usable: Sequence[Column]) -> tuple[Column, str]:
    """Return the column that looks most like answers, and why."""
    texts = [column for column in usable if column.kind == "text"]
    # Beside a question and a text, numbers are more likely a score of the text than the answer.
    scores = len(texts) > 1 and any(rank(column.name, QUESTIONS) is None for column in texts)
    for kind, why in (("label", "the last column with few short answers"), ("json", "the last column with JSON")):
        found = [c for c in usable if c.kind == kind and (c.numbers < c.filled or not scores)]
        if found:
            return found[-1], why
    numbers = [column for column in usable if column.kind == "number"]
    if numbers and len(texts) == 1:
        return numbers[-1], "the last column of numbers"
    return (texts or usable)[-1], "the last column of text" if texts else "the last column"


def is_rival(column: Column, found: Column, by_name: bool) -> bool:
    """Return whether a column could be the answer as well as the one that was found."""
    if by_name and rank(column.name, ANSWERS) is None:
        return False
    return column.kind == found.kind == "label"


def question_columns(look: FileLook, choices: Choices, answer: str) -> tuple[tuple[str, ...], str]:
    """Return the columns of the question in the order of the file, and why."""
    if choices.questions:
        for name in choices.questions:
            known_column(look, name, "question")
            if name == answer:
                raise FinetuneError(f"The column {name!r} is the answer, so it cannot be in the question.")
        return choices.questions, "as asked for"
    former = choices.former_columns("user", look)
    if former and answer not in former:
        return former, AS_BEFORE
    usable = [column for column in usable_columns(look) if column.name != answer]
    if not usable:
        raise FinetuneError(
            f"{look.path} has no column for the question: its columns are {listed(look)}.",
            "Name it: --question NAME.",
        )
    texts = [column for column in usable if column.kind == "text"] or usable
    main = best_named(texts, QUESTIONS)
    words = Counter(rank(column.name, ANSWERS) for column in usable)
    others = {
        column.name
        for column in usable
        if is_option(column, look.columns[answer])
        or (words[place := rank(column.name, ANSWERS)] >= FEWEST_OPTIONS and place is not None)
    }
    why = "its name" if main else "the longest texts"
    if main:
        others |= {column.name for column in usable if rank(column.name, COMPANIONS) is not None}
    else:
        main = max(texts, key=lambda column: column.average)
    names = tuple(column.name for column in usable if column is main or column.name in others)
    for name in names:
        known_column(look, name, "question")
    if len(names) > 1:
        why = "their names" if why == "its name" else f"{why}, with the answers to choose from"
    return names, why


def is_option(column: Column, answers: Column) -> bool:
    """Return whether a column has an answer to choose from: its name says so, or is one of the answers, such as A."""
    is_class = answers.kind == "label" and column.name in answers.values
    return is_class or rank(column.name, OPTIONS) is not None


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
        and not is_own_key(column.name, look.tool)
        and column.filled == look.rows
        and column.kind == "group"
        and len(column.distinct) >= FEWEST_GROUPS
    ]
    found = best_named(usable, GROUPS) or next((column for column in usable if column.addresses), None)
    if found is None:
        return None, "no column names a person or a conversation whose rows repeat"
    many = "at least " if len(found.distinct) < found.compared < found.filled else ""
    return found.name, f"{many}{len(found.distinct):,} values in {look.rows:,} rows: one value stays in one split"
