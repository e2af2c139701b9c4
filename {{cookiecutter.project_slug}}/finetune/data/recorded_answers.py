"""The recorded answers of a model that was shut down, to the test questions. They are read, and no model is asked."""

from collections.abc import Sequence
from pathlib import Path

from finetune.core.disk import each_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.records.answers import Prediction, RecordedAnswer
from finetune.core.records.prepared import TestRow
from finetune.core.sections.evaluate import Rescued
from finetune.data.answered_questions import AnsweredQuestion
from finetune.data.identity import answer_of, question_hash, question_of

MADE_BY = "finetune rescue into"


def recorded_answers(settings: Rescued, test: Sequence[TestRow]) -> list[RecordedAnswer]:
    """Return the recorded answer to each test question, in their order.

    Raises FinetuneError if a test question has none, or if the file is missing.
    """
    path = Path(settings.answers)
    remedy = "Make it again in the project that saved the model: finetune rescue into DIR. Or remove evaluate.rescued."
    if not path.is_file():
        raise FinetuneError(f"evaluate.rescued: there is no file {path}.", remedy)
    rows: list[RecordedAnswer] = list(each_jsonl(path, MADE_BY, RecordedAnswer))
    by_question = {f"{question_hash(question_of({**row})):016x}": row for row in rows if "error" not in row}
    lacking = [place for place, row in enumerate(test, 1) if row["question"] not in by_question]
    if lacking:
        raise FinetuneError(
            f"evaluate.rescued: {path} has no answer of {settings.model} to {len(lacking):,} of {len(test):,} test"
            f" rows, first to row {lacking[0]}.",
            "Take only rows that it has answered into the test split. A model that was shut down cannot be asked.",
        )
    return [by_question[row["question"]] for row in test]


def recorded_predictions(recorded: Sequence[RecordedAnswer], asked: Sequence[AnsweredQuestion]) -> list[Prediction]:
    """Return recorded answers as the rows of a model; `asked` are the test questions with their right answers."""
    keeps_white_space = any(one.answer != one.answer.strip() for one in asked)
    rows: list[Prediction] = []
    for answer, one in zip(recorded, asked, strict=True):
        text = answer_of({**answer})
        row: Prediction = {
            "asked": one.asked,
            "expected": one.answer,
            "answer": text if keeps_white_space else text.strip(),
            "prompt_tokens": answer.get("prompt_tokens"),
            "completion_tokens": answer.get("completion_tokens"),
        }
        if answer.get("logprobs"):
            row["logprobs"] = answer["logprobs"]
        if answer.get("cut"):
            row["cut"] = True
        rows.append(row)
    return rows
