"""Propose the settings of `data` and `evaluate` for a file, each with its reason, from what the file looks like."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from finetune.core.errors import FinetuneError
from finetune.core.task import Task
from finetune.data.annotation_exports import refuse_annotations
from finetune.data.choose_columns import AS_BEFORE, Choices, answer_column, group_column, question_columns
from finetune.data.class_codes import MOST_CLASSES
from finetune.data.converters.keys import Format
from finetune.data.file_look import COUNTED_LETTERS, DATE, NUMBER, Column, FileLook
from finetune.data.text_normalization import normalize

LONGEST_LIST = 1_000  # letters of the classes in a prompt; without them it costs less, and the model learns them
TEST_ROWS, VALID_ROWS = (50, 1_000), (20, 500)  # wanted at least and at most
TEST_SHARE, VALID_SHARE = (0.2, 0.3), (0.1, 0.15)  # the usual one, and the largest one, of small files
TABLES = ("CSV", "TSV", "XLSX")
WORDS_OF_A_SENTENCE = 5
SENTENCE_ENDS = tuple(".!…。．！？؟")
SYSTEM_NAMES = ("system", "system_prompt")
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
    method: Literal["supervised", "dpo"] = "supervised"

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
    if look.format == "preference":
        reasons["method"] = "each row has a preferred answer and another one"
    questions: tuple[str, ...] = ()
    answer = None
    answers = look.answers
    if look.format == "columns":
        answer, reasons["answer"] = answer_column(look, choices)
        questions, reasons["question"] = question_columns(look, choices, answer)
        answers = look.columns[answer]
        refuse_header_of_cells(look, answers, chosen=choices.answer is not None)
        refuse_annotations(look.path, look.tool, [row.get(answer) for row in look.first], answers.objects, look.rows)
        if look.not_accepted and answers.kind == "constant":
            raise only_accepted(look, answers)
    task, reasons["task"] = task_of(answers, choices.task, "method" in reasons)
    labels = labels_of(answers) if task == "classify" else []
    if same := spelled_in_two_ways(labels):
        reasons["labels"] = f"{' and '.join(map(repr, same))} differ only in case or width: write them in one way"
    if answers.filled < look.rows and "answer" in reasons:
        reasons["answer"] += f"; {look.rows - answers.filled:,} rows have no answer, which `prepare` refuses"
    system = choices.system
    if system is None and answer is not None:
        system, reasons["system"] = former_system(look, choices, answer), AS_BEFORE
    if system is None and answer is not None:
        system, reasons["system"] = system_column(look, {*questions, answer}), "its column"
    if system is None and answer is not None:
        system, reasons["system"] = system_sentence(task, questions, answers, labels), ""
    split, reasons["split"] = split_of(look, choices)
    group, reasons["group"] = (
        (None, "the file says the split of each row")
        if "column" in split
        else group_column(look, choices, {*questions, answer})
    )
    longest = max(map(count_tokens, [*labels, answers.longest]), default=1)
    reasons["max_tokens"] = f"the longest answer may have {longest} tokens"
    return Proposal(
        look.format,
        task,
        questions,
        answer,
        system,
        labels,
        group,
        split,
        round(longest * ROOM) + 1,
        reasons,
        "dpo" if "method" in reasons else "supervised",
    )


def only_accepted(look: FileLook, answers: Column) -> FinetuneError:
    """Return the error for accepted rows that all have the same label, so that nothing is learned."""
    return FinetuneError(
        f"{look.path}: all accepted rows have the same {answers.name}, {answers.longest!r}.",
        "To train whether an annotator accepts it, take the decision as the answer: --answer answer",
    )


def refuse_header_of_cells(look: FileLook, answers: Column, chosen: bool) -> None:
    """Raise FinetuneError if the first line seems to be a row and not the names of columns."""
    if answers.kind == "label" and answers.values[answers.name] > 0 and not chosen:
        raise FinetuneError(
            f"{look.path} has no line with the names of its columns: {answers.name!r} in the first line is also an"
            " answer in other rows.",
            "Write the names of the columns into the first line, such as: question,answer",
        )


def first_line_may_be_a_row(look: FileLook) -> bool:
    """Return whether all names of columns look like cells: sentences, or numbers and dates above numbers and dates."""
    if look.format != "columns" or not look.note["format"].startswith(TABLES):
        return False
    return all(looks_like_a_cell(column) for column in look.columns.values())


def looks_like_a_cell(column: Column) -> bool:
    name = column.name
    if column.kind in ("number", "date") or column.numbers == column.filled:
        return NUMBER.fullmatch(name) is not None or DATE.fullmatch(name) is not None
    if column.kind in ("label", "constant"):
        return column.values[name] > 0
    return len(name.split()) >= WORDS_OF_A_SENTENCE or name.endswith(SENTENCE_ENDS)


def task_of(answers: Column, chosen: Task | None, are_preferences: bool) -> tuple[Task, str]:
    """Return the task, and why."""
    if are_preferences and chosen == "classify":
        raise FinetuneError(
            "Rows with a preferred answer and another one cannot have the task classify.",
            "Choose generate or extract, or give each row one answer.",
        )
    different = len({value.strip() for value in answers.values})
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
    if answers.is_classes and not are_preferences:
        return "classify", f"{different} different short answers in {answers.filled:,} rows"
    at_least = "at least " if answers.compared < answers.filled else ""
    texts = f"{at_least}{len(answers.distinct):,} different answers in {answers.filled:,} rows"
    return "generate", f"{texts}, with up to {len(answers.longest):,} letters"


def labels_of(answers: Column) -> list[str]:
    """Return the classes, which `prepare` trims: the most frequent one first, numbers and A, B, C in their order."""
    counts = Counter[str]()
    for value, times in answers.values.items():
        counts[value.strip()] += times
    if all(map(str.isdecimal, counts)):
        return sorted(counts, key=int)
    if all(len(name) == 1 and name.isupper() for name in counts):
        return sorted(counts)
    return sorted(counts, key=lambda name: (-counts[name], name))


def spelled_in_two_ways(labels: Sequence[str]) -> list[str]:
    """Return the first classes that are the same but for case, width and spaces."""
    found: dict[str, list[str]] = {}
    for label in labels:
        found.setdefault(normalize(label), []).append(label)
    return next((names for names in found.values() if len(names) > 1), [])


def system_column(look: FileLook, taken: Collection[str]) -> str | None:
    """Return the placeholder of a column with the system prompt of each row; None if there is none."""
    for name, column in look.columns.items():
        is_system = name.casefold().replace(" ", "_") in SYSTEM_NAMES
        if is_system and name not in taken and column.filled == look.rows:
            return f"{{{name}}}"
    return None


def system_sentence(task: Task, questions: Sequence[str], answers: Column, labels: Sequence[str]) -> str:
    """Return a sentence that says what the model does with a question."""
    asked = listed_in_words(questions)
    if task == "classify":
        names = ("; " if any("," in label for label in labels) else ", ").join(labels)
        shown = len(names) <= LONGEST_LIST and "{" not in names and "}" not in names
        # Numbers, or true and false, say nothing without the column's name.
        what = f"the {answers.name}, one of" if all(map(says_nothing, labels)) else "one of"
        rest = f"Answer with {what}: {names}." if shown else f"Answer with the {answers.name} only."
        return f"Classify {asked}. {rest}"
    if task == "extract":
        keys = ", ".join(sorted(answers.keys))
        with_keys = f" with the keys {keys}" if keys and "{" not in keys and "}" not in keys else ""
        form = f"object{with_keys}" if answers.objects > answers.lists else "list"
        return f"Find the {answers.name} in {asked}. Answer with a JSON {form}."
    return f"Write the {answers.name} for {asked}."


def says_nothing(label: str) -> bool:
    """Return whether nobody understands the name of a class without its column's: a number, a letter, true or yes."""
    return len(label) == 1 or NUMBER.fullmatch(label) is not None or label.casefold() in ("true", "false", "yes", "no")


def listed_in_words(names: Sequence[str]) -> str:
    last = f" and {'the ' if len(names) == 2 else ''}{names[-1]}" if len(names) > 1 else ""
    return f"the {', '.join(names[:-1] or names)}{last}"


def former_system(look: FileLook, choices: Choices, answer: str) -> str | None:
    """Return the system prompt of params.yaml if it is for this answer, "" for none.

    None for a sentence that `init` wrote: the columns or the classes may have changed since.
    """
    found = choices.former_system(answer)
    asked = listed_in_words(choices.former_columns("user", look))
    own = (
        f"Classify {asked}. Answer with one of: ",
        f"Classify {asked}. Answer with the {answer}",
        f"Find the {answer} in {asked}. Answer with a JSON ",
        f"Write the {answer} for {asked}.",
    )
    return None if found and found.startswith(own) else found


def split_of(look: FileLook, choices: Choices) -> tuple[dict[str, Any], str]:
    """Return the value of data.split, and why."""
    if choices.split:
        return choices.split, AS_BEFORE
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
