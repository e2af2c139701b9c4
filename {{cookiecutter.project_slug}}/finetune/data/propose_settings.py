"""Propose the settings of `data` and `evaluate` for a file, each with its reason, from what the file looks like."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from finetune.core.errors import FinetuneError
from finetune.core.task import Task
from finetune.data.choose_columns import Choices, answer_column, group_column, question_columns
from finetune.data.class_codes import MOST_CLASSES
from finetune.data.converters.keys import Format
from finetune.data.file_look import COUNTED_LETTERS, Column, FileLook
from finetune.data.prompts import fill

LONGEST_LIST = 1_000  # letters of the classes in a prompt; without them it costs less, and the model learns them
TEST_ROWS, VALID_ROWS = (50, 1_000), (20, 500)  # wanted at least and at most
TEST_SHARE, VALID_SHARE = (0.2, 0.3), (0.1, 0.15)  # the usual one, and the largest one, of small files
ROOM = 1.25  # for answers that are longer than the longest one

TokenCount = Callable[[str], int]


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
