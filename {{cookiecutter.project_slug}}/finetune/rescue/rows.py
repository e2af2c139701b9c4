"""The rows of a successor: the data and the answers that were saved of a model, divided for training and test."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finetune.core.disk import each_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.records.answers import RecordedAnswer
from finetune.rescue.downloads import VALIDATION
from finetune.rescue.questions import key_of, questions_in_data

Choice = Literal["original", "model"]
Source = Literal["train", "valid", "rows"]  # the model's training file, its validation file, or rows of --rows
SAVE = "finetune rescue save"
ANSWERS = "answers.jsonl"  # to the model's own data; those to rows of --rows have the name of their file


@dataclass
class SavedRow:
    """A question that was saved: where it comes from, its original answer, and the model's."""

    source: Source
    question: list[dict[str, Any]]
    original: str | None
    recorded: RecordedAnswer | None = None  # None: not asked, or without an answer

    def example(self, choice: Choice) -> dict[str, Any] | None:
        """Return the row with the chosen answer; None without one, and for an answer of the model that was cut.

        Of the model, only the last answer was recorded, so those before it are not trained.
        """
        if choice == "original":
            answer = {"role": "assistant", "content": self.original}
            return {"messages": [*self.question, answer]} if self.original else None
        if self.recorded is None or "cut" in self.recorded or not self.recorded["messages"][-1]["content"].strip():
            return None
        turns = [{**turn, "weight": 0} if turn.get("role") == "assistant" else turn for turn in self.question]
        return {"messages": [*turns, self.recorded["messages"][-1]]}

    def why_left_out(self, choice: Choice) -> str:
        """Return why the row is no row of the successor."""
        if self.recorded is None:
            return "no answer of the model"
        if choice == "original":
            return "no original answer"
        return "the model's answer was cut" if "cut" in self.recorded else "the model's answer is empty"


def saved_rows(folder: Path, general: Collection[int] = ()) -> list[SavedRow]:
    """Return the saved questions, each once: those that the model was trained on, those of its validation, others.

    Those whose `key_of` is in `general` are left out.
    """
    found: dict[int, SavedRow] = {}
    asked = questions_in_data(folder, general)
    for prompt, expected, place in zip(asked.prompts, asked.expected, asked.places, strict=True):
        found.setdefault(key_of(list(prompt)), SavedRow(source_of(place), list(prompt), expected))
    for source, row in recorded_rows(folder):
        answered = "error" not in row and not row.get("refused")
        question = row["messages"][:-1] if "error" not in row else row["messages"]
        if source == "train" and key_of(question) in general:  # of an earlier version
            continue
        known = found.setdefault(key_of(question), SavedRow(source, question, row.get("expected")))
        known.recorded = known.recorded or (row if answered else None)
    return list(found.values())


def recorded_rows(folder: Path) -> Iterator[tuple[Source, RecordedAnswer]]:
    """Yield the answers that were recorded of the model, with the source of each. Raises FinetuneError without any."""
    files = sorted(folder.glob("answers*.jsonl"))
    if not files:
        raise FinetuneError(f"{folder} has no answers of the model.", f"Record them before its shutdown: {SAVE}")
    for file in files:
        for row in each_jsonl(file, SAVE, RecordedAnswer):
            yield "rows" if file.name != ANSWERS else source_of(row["place"]), row


def source_of(place: str) -> Source:
    """Return where a question to the model's own data comes from, by its place."""
    return "valid" if place.startswith(VALIDATION) else "train"


@dataclass
class Divided:
    """The rows of the successor's data file, the recorded answers to those that may be tested, and how they divide."""

    rows: list[dict[str, Any]]
    recorded: list[RecordedAnswer]
    held_out: bool  # the test rows are marked, and the model was not trained on them
    left_out: Counter[str]


def divide(rows: list[SavedRow], choice: Choice) -> Divided:
    """Return the rows of a successor.

    Test rows are those that the model was not trained on: rows of --rows, else its validation data. Where none of them
    has an answer, `prepare` divides the answered rows by shares. Raises FinetuneError where no row can be trained on.
    """
    sources = {row.source for row in rows if row.recorded}
    tested = "rows" if "rows" in sources else "valid" if "valid" in sources else None
    divided = Divided([], [], False, Counter())
    trained = any(row.source == "train" and row.example(choice) for row in rows)
    divided.held_out = tested is not None and trained
    for row in rows:
        example, is_test = row.example(choice), row.source == tested
        if divided.held_out and is_test:  # scored by the original answer, whatever is trained on
            example = row.example("original") or row.example("model")
        if example is None or ((is_test or not divided.held_out) and row.recorded is None):
            divided.left_out[row.why_left_out(choice)] += 1
            continue
        if divided.held_out:
            example["split"] = "test" if is_test else "valid" if row.source == "valid" else "train"
        divided.rows.append(example)
        if row.recorded and (is_test or not divided.held_out):
            recorded: RecordedAnswer = {**row.recorded}
            if row.source == "train":
                recorded["trained"] = True
            if example["messages"][-1] is row.recorded["messages"][-1]:
                recorded["is_expected"] = True
            divided.recorded.append(recorded)
    if not divided.rows:
        why = "".join(f" Left out: {count:,} ({reason})." for reason, count in divided.left_out.items())
        other = "the model's own answers with --answers model" if choice == "original" else "the original ones"
        raise FinetuneError(
            f"No saved row has an answer to train on.{why}",
            f"Train on {other}, or save answers to other rows: {SAVE} MODEL --rows FILE",
        )
    return divided
