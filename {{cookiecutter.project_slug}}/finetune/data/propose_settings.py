"""Propose the settings of `data` and `evaluate` for a file, each with its reason, from what the file looks like."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from finetune.core.errors import FinetuneError
from finetune.core.params import Task
from finetune.data.class_codes import MOST_CLASSES
from finetune.data.column_names import ANSWERS, COMPANIONS, GROUPS, QUESTIONS, rank
from finetune.data.file_look import COUNTED_LETTERS, Column, FileLook
from finetune.data.formats import Format
from finetune.data.prompts import PLACEHOLDER, fill

LONGEST_LIST = 1_000  # letters of the classes in a prompt; without them it costs less, and the model learns them
FEWEST_GROUPS = 10  # with fewer, the shares of the splits cannot be kept
TEST_ROWS, VALID_ROWS = (50, 1_000), (20, 500)  # wanted at least and at most
TEST_SHARE, VALID_SHARE = (0.2, 0.3), (0.1, 0.15)  # the usual one, and the largest one, of small files
ROOM = 1.25  # for answers that are longer than the longest one

TokenCount = Callable[[str], int]


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


@dataclass(frozen=True)
class Proposal:
    """Settings for a file, and the reason for each by its name."""

    format: Format
    task: Task
    questions: tuple[str, ...]
    answer: str | None  # the column; None where the format says what the answer is
    system: str | None
    labels: list[str]
    group: str | None
    split: dict[str, Any]
    max_tokens: int
    reasons: dict[str, str]

    @property
    def prompt(self) -> dict[str, str] | None:
        """The value of data.prompt."""
        if self.answer is None:
            return None
        asked = [f"{{{name}}}" if len(self.questions) == 1 else f"{name}: {{{name}}}" for name in self.questions]
        system = {"system": self.system} if self.system else {}
        return {**system, "user": "\n".join(asked), "assistant": f"{{{self.answer}}}"}


def propose(look: FileLook, choices: Choices, count_tokens: TokenCount) -> Proposal:
    """Propose settings. Raises FinetuneError where a choice does not fit the file, or nothing can be proposed."""
    reasons: dict[str, str] = {}
    questions: tuple[str, ...] = ()
    answer = None
    answers = look.answers
    if look.format == "columns":
        answer, reasons["answer"] = answer_column(look, choices)
        questions, reasons["question"] = question_columns(look, choices, answer)
        answers = look.columns[answer]
        refuse_header_of_cells(look, answers)
    task, reasons["task"] = task_of(answers, choices.task)
    labels = labels_of(answers) if task == "classify" else []
    system = choices.system
    if system is None and answer is not None:
        system = system_sentence(task, questions, answers, labels)
    split, reasons["split"] = split_of(look, choices)
    group, reasons["group"] = (
        (None, "the file says the split of each row")
        if "column" in split
        else group_column(look, choices, {*questions, answer})
    )
    longest = max(map(count_tokens, [*labels, answers.longest]), default=1)
    reasons["max_tokens"] = f"the longest answer has about {longest} tokens"
    return Proposal(
        look.format, task, questions, answer, system, labels, group, split, round(longest * ROOM) + 1, reasons
    )


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
            "Add a column with the answers, or name the columns: --question NAME --answer NAME.",
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


def refuse_header_of_cells(look: FileLook, answers: Column) -> None:
    """Raise FinetuneError if the first line seems to be a row and not the names of columns."""
    if answers.kind == "label" and answers.values[answers.name] > 0:
        raise FinetuneError(
            f"{look.path} has no line with the names of its columns: {answers.name!r} in the first line is also an"
            " answer in other rows.",
            "Write the names of the columns into the first line, such as: question,answer",
        )


def task_of(answers: Column, chosen: Task | None) -> tuple[Task, str]:
    """Return the task, and why."""
    different = len(answers.values)
    if chosen:
        if chosen not in get_args(Task):
            raise FinetuneError(f"There is no task {chosen!r}.", f"Choose one of: {', '.join(get_args(Task))}.")
        if chosen == "classify" and (different > MOST_CLASSES or len(answers.longest) > COUNTED_LETTERS):
            raise FinetuneError(
                f"The answers are not classes: more than {MOST_CLASSES} different ones, or longer than"
                f" {COUNTED_LETTERS} letters.",
                "Choose extract or generate, or another column for the answer.",
            )
        return chosen, "as asked for"
    if answers.kind == "json":
        return "extract", "the answers are JSON"
    if answers.is_classes:
        return "classify", f"{different} different short answers in {answers.filled:,} rows"
    return "generate", "most answers are different texts"


def labels_of(answers: Column) -> list[str]:
    """Return the classes as `prepare` writes them: the most frequent one first, numbers in their order."""
    if all(map(str.isdecimal, answers.values)):
        counted = sorted(answers.values.items(), key=lambda pair: int(pair[0]))
    else:
        counted = sorted(answers.values.items(), key=lambda pair: (-pair[1], pair[0]))
    written = (fill({"assistant": "{answer}"}, {"answer": value})[0]["content"] for value, _ in counted)
    return list(dict.fromkeys(written))


def system_sentence(task: Task, questions: Sequence[str], answers: Column, labels: Sequence[str]) -> str:
    """Return a sentence that says what the model does with a question."""
    asked = f"the {' and the '.join(questions)}"
    if task == "classify":
        names = ("; " if any("," in label for label in labels) else ", ").join(labels)
        shown = len(names) <= LONGEST_LIST and "{" not in names and "}" not in names
        rest = f"Answer with one of: {names}." if shown else f"Answer with the {answers.name} only."
        return f"Classify {asked}. {rest}"
    if task == "extract":
        keys = ", ".join(sorted(answers.keys))
        with_keys = f" with the keys {keys}" if keys and "{" not in keys and "}" not in keys else ""
        form = f"object{with_keys}" if answers.objects > answers.lists else "list"
        return f"Find the {answers.name} in {asked}. Answer with a JSON {form}."
    return f"Write the {answers.name} for {asked}."


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


def split_of(look: FileLook, choices: Choices) -> tuple[dict[str, Any], str]:
    """Return the value of data.split, and why."""
    given = [column.name for column in look.columns.values() if column.kind == "split" and column.filled == look.rows]
    if given and not choices.group:
        return {"column": given[0]}, "the file says the split of each row"
    test = share_of(look.rows, TEST_ROWS, TEST_SHARE)
    valid = share_of(look.rows, VALID_ROWS, VALID_SHARE)
    about = f"about {round(test * look.rows):,} test and {round(valid * look.rows):,} validation rows"
    return {"train": round(1 - valid - test, 4), "valid": valid, "test": test}, about


def share_of(rows: int, wanted: tuple[int, int], share: tuple[float, float]) -> float:
    """Return the share that gives the usual share, but the wanted numbers of rows where possible."""
    fewest, most = wanted
    usual, largest = share
    found = min(max(usual, fewest / rows), largest, max(most / rows, 0.0001))
    return round(found, 2) if found >= 0.01 else round(found, 4)
