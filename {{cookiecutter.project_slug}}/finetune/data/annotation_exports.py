"""Recognise the exports of annotation tools by their keys, which have a meaning: Prodigy, Label Studio and Argilla.

The forms of Prodigy (_task_hash, answer, accept, options) and of Label Studio's JSON are those of published files and
of Label Studio's guide "Task format". The keys of JSON-MIN and of Argilla's tables are not checked against a real file.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from finetune.core.errors import FinetuneError
from finetune.data.raw_file import Row

Tool = Literal["Prodigy", "Label Studio"]
# Keys of the tools' own records, which are neither question nor answer.
PRODIGY_KEYS = frozenset({"answer", "options", "tokens", "meta", "score", "priority", "config", "flagged", "html"})
LABEL_STUDIO_KEYS = frozenset({"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"})
ONE_CHOICE = "accept[0]"  # the path of the class where one of Prodigy's options is accepted
IN_ONE_FILE = "Write a table with two columns, the text and the answer."


def tool_of(row: Row) -> Tool | None:
    """Return the tool whose export a row is from; None for other rows."""
    if is_of_prodigy(row):
        return "Prodigy"
    return "Label Studio" if {"annotator", "annotation_id", "lead_time"} <= row.keys() else None


def is_of_prodigy(row: Row) -> bool:
    return "_task_hash" in row and "answer" in row


def is_unaccepted(row: Row, keep_rejected: bool) -> bool:
    """Return whether a row of Prodigy is no example: the annotator ignored it, or rejected its label.

    With `keep_rejected`, the decision itself is the answer.
    """
    if not is_of_prodigy(row):
        return False
    return row["answer"] == "ignore" or (row["answer"] == "reject" and not keep_rejected)


def is_own_key(name: str, tool: Tool | None) -> bool:
    """Return whether a column has a tool's own record and is neither question nor answer."""
    if tool == "Prodigy":
        return name.startswith("_") or name in PRODIGY_KEYS
    return tool == "Label Studio" and name in LABEL_STUDIO_KEYS


def refuse_nested_export(path: Path, row: Row) -> None:
    """Raise FinetuneError for an export that holds several annotations in a row, and for marked parts of a text."""
    if isinstance(row.get("annotations"), list) and isinstance(row.get("data"), dict):
        raise FinetuneError(
            f"{path} is Label Studio's export JSON, in which a row may have several annotations.",
            "Export as JSON-MIN, which has a row for each annotation.",
        )
    if isinstance(row.get("fields"), dict) and "responses" in row:
        raise FinetuneError(
            f"{path} is an export of Argilla, in which a row may have several responses, some of them discarded.",
            f"{IN_ONE_FILE} The answer is the value of a submitted response.",
        )
    if any(name.endswith((".responses", ".responses.status")) for name in row):
        raise FinetuneError(
            f"{path} is an export of Argilla, in which a row may have several responses, some of them discarded.",
            f"{IN_ONE_FILE} The answer is the item of `….responses` whose `….responses.status` is submitted.",
        )
    marks_parts = any(is_marked_part(value) for value in row.values())
    if is_of_prodigy(row) and marks_parts and not {"accept", "label"} & row.keys():
        raise no_answer(path)


def refuse_several_options(row: Row) -> None:
    """Raise ValueError for a row of Prodigy with several accepted options, where the prompt names the first only."""
    accepted = row.get("accept")
    if is_of_prodigy(row) and isinstance(accepted, list) and len(accepted) > 1:
        raise ValueError(f"{len(accepted)} options are accepted, and data.prompt names the first only")


def is_marked_part(value: Any) -> bool:
    """Return whether a value is a list of marked parts of a text, by their first and last letter."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and {"start", "end"} <= first.keys()


def no_answer(path: Path) -> FinetuneError:
    """Return the error for marked parts of a text, whose numbers of letters a model cannot count."""
    return FinetuneError(
        f"{path} marks parts of the texts by the numbers of their letters, which a model cannot count.",
        "Write a table with the text, and with the marked parts as JSON, such as"
        ' {"person": ["Ana"]}, and train extract.',
    )


def refuse_annotations(path: Path, tool: Tool | None, first: Collection[Any], objects: int, rows: int) -> None:
    """Raise FinetuneError for answers of Label Studio that are marked parts, or several choices in some rows.

    `first` are the first answers, and `objects` of `rows` are JSON objects.
    """
    if tool != "Label Studio":
        return
    if any(map(is_marked_part, first)):
        raise no_answer(path)
    if objects > 0:
        raise FinetuneError(
            f"{path}: {objects:,} of {rows:,} answers are objects, in which Label Studio has several choices.",
            "Keep one choice a row, as text. If several are right, write a list for each row and train extract.",
        )
