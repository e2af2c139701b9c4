"""A job without a model: the provider's words, the lines that they name, and whether another try may help."""

from types import SimpleNamespace
from typing import Any

import pytest

from finetune.provider.job_failures import failure, lines_of, may_pass


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
def test_the_lines_that_a_message_names(message: str, lines: list[int]) -> None:
    assert lines_of(message) == lines


def test_lines_are_told_with_their_file() -> None:
    told = str(failure(job("invalid_training_file", "Flagged lines: 4, 13", "validation_file")))
    assert "data/prepared/valid.jsonl:4, data/prepared/valid.jsonl:13" in told
    assert "ftjob-1" in told
    assert "--again" in told


@pytest.mark.parametrize(
    ("code", "message", "passes"),
    [
        ("server_error", "The job failed due to an internal error.", True),
        ("server_error", "Error while running moderation eval refusals_v3 for snapshot ft:x", False),
        ("invalid_training_file", "Example 1 is missing key 'messages'", False),
        (None, "no code", False),
    ],
)
def test_only_the_servers_own_trouble_is_tried_again_unasked(code: str | None, message: str, passes: bool) -> None:
    assert may_pass(job(code, message)) is passes
