"""Messages for jobs without a model: the provider's message, the lines that it names, and whether to try again."""

from types import SimpleNamespace
from typing import Any

import pytest

from finetune.provider.job_failures import is_temporary, job_error, line_numbers


def job(code: str | None, message: str, param: str | None = None, status: str = "failed") -> Any:
    return SimpleNamespace(id="ftjob-1", status=status, error=SimpleNamespace(code=code, message=message, param=param))


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("Example 12 is missing key 'messages'", [12]),
        ("Example 3, message 2 Discriminator 'role' is missing in value", [3]),
        ("Example 7 cannot be parsed. Error: line contains invalid json: x (line 7)", [7]),
        ("failed moderation safety checks. Flagged lines: 4, 13, 20", [4, 13, 20]),
        ("Training file has 3 example(s), but must have at least 10 examples", []),
    ],
)
def test_line_numbers_are_read_from_the_message(message: str, lines: list[int]) -> None:
    assert line_numbers(message) == lines


def test_lines_are_shown_with_their_file() -> None:
    error = str(job_error(job("invalid_training_file", "Flagged lines: 4, 13", "validation_file")))
    assert "data/prepared/valid.jsonl:4, data/prepared/valid.jsonl:13" in error
    assert "ftjob-1" in error
    assert "--again" in error


@pytest.mark.parametrize(
    ("code", "message", "temporary"),
    [
        ("server_error", "The job failed due to an internal error.", True),
        ("server_error", "Error while running moderation eval refusals_v3 for snapshot ft:x", False),
        ("invalid_training_file", "Example 1 is missing key 'messages'", False),
        (None, "no code", False),
    ],
)
def test_only_a_server_error_is_temporary(code: str | None, message: str, temporary: bool) -> None:
    assert is_temporary(job(code, message)) is temporary
