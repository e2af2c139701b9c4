"""Propose the settings of `data` and `evaluate` for a file, each with its reason, from what the file looks like."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from finetune.core.errors import FinetuneError
from finetune.core.task import Task
from finetune.data.annotation_exports import refuse_annotations
from finetune.data.choose_columns import Choices, answer_column, group_column, question_columns
from finetune.data.converters.keys import Format
from finetune.data.file_look import Column, FileLook
from finetune.data.missing_header import refuse_header_of_cells
from finetune.data.propose_split import split_of
from finetune.data.propose_system_prompt import system_prompt
from finetune.data.propose_task import labels_of, task_of

ROOM = 1.25  # for answers that are longer than the longest one
CALL_MARKS = 16  # tokens that a model may write around its calls
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
    few_shot: int | None = None  # None: as it is

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
    if answers.filled < look.rows and "answer" in reasons:
        reasons["answer"] += f"; {look.rows - answers.filled:,} rows have no answer, which `prepare` refuses"
    system = choices.system
    if system is None and answer is not None:
        system, reasons["system"] = system_prompt(look, choices, task, questions, answers, labels)
    split, reasons["split"] = split_of(look, choices)
    group, reasons["group"] = (
        (None, "the file says the split of each row")
        if "column" in split
        else group_column(look, choices, {*questions, answer})
    )
    longest = max(map(count_tokens, [*labels, answers.longest]), default=1)
    few_shot = None
    if look.declares_tools:
        few_shot, reasons["few_shot"] = 0, "the rows have tools, whose calls no prompt can show"
        longest += CALL_MARKS
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
        few_shot,
    )


def only_accepted(look: FileLook, answers: Column) -> FinetuneError:
    """Return the error for accepted rows that all have the same label, so that nothing is learned."""
    return FinetuneError(
        f"{look.path}: all accepted rows have the same {answers.name}, {answers.longest!r}.",
        "To train whether an annotator accepts it, take the decision as the answer: --answer answer",
    )
