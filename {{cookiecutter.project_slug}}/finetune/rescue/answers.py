"""The recorded answers of a model: which questions need not be asked again, on whatever machine they were asked."""

import json
from pathlib import Path

from finetune.core.disk import read_jsonl
from finetune.core.records.answers import RecordedAnswer
from finetune.provider.completion_request import Messages

MADE_BY = "finetune rescue save"


def recorded_answers(file: Path) -> dict[str, RecordedAnswer]:
    """Return the rows of a file of answers by their question, canonical; {} if there is no such file."""
    rows = read_jsonl(file, MADE_BY, RecordedAnswer) if file.is_file() else []
    return {question_in(row): row for row in rows}


def question_in(row: RecordedAnswer) -> str:
    """Return the question of a row, canonical."""
    return canonical(row["messages"] if "error" in row else row["messages"][:-1])


def canonical(messages: Messages) -> str:
    """Return messages as a text that is the same for the same messages."""
    return json.dumps(list(messages), sort_keys=True)


def is_answered(row: RecordedAnswer | None, max_tokens: int) -> bool:
    """Return whether a row has an answer that a longer limit would not change."""
    if row is None or "error" in row:
        return False
    return "cut" not in row or max_tokens <= (row.get("max_tokens") or row.get("completion_tokens") or max_tokens)
