"""Training on prompts and completions: rows are checked, and a job on them learns."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import COLOURS, start_job, training_lines, wait
from tokenizers_of_tests import with_template

from finetune.engine.api_errors import JobError
from finetune.engine.completion_prompt import completion_ids, prompt_ids
from finetune.engine.training.encoding import IGNORE_INDEX, encode_file


def pair(number: int) -> dict[str, str]:
    colour = COLOURS[number % 3]
    return {"prompt": f"{number}: paint it {colour} ->", "completion": f" {colour}\n"}


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def encoded(folder: Path, *rows: Any, max_length: int = 1000) -> Any:
    path = folder / "train.jsonl"
    path.write_bytes(lines(*rows))
    return encode_file(with_template("chatml"), path, max_length, "validation_file")


def test_labels_are_on_the_completion_and_no_end_is_added(tmp_path: Path) -> None:
    tokenizer = with_template("chatml")
    first, empty = encoded(tmp_path, {"prompt": "a ->", "completion": " b\n"}, {"prompt": "", "completion": "c"})
    assert first.input_ids == prompt_ids(tokenizer, "a ->") + completion_ids(tokenizer, " b\n")
    assert tokenizer.decode(first.input_ids) == "a -> b\n"
    assert [label for label in first.labels if label != IGNORE_INDEX] == completion_ids(tokenizer, " b\n")
    assert empty.input_ids == [tokenizer.bos_token_id, *completion_ids(tokenizer, "c")]
    assert empty.labels[0] == IGNORE_INDEX


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "a"}, "is missing key 'completion'"),
        ({"completion": "a"}, "is missing key 'prompt'"),
        ({"prompt": "a", "completion": ""}, "has an empty completion"),
        ({"prompt": "a", "completion": None}, "has a completion that is not a string"),
        ({"prompt": ["a"], "completion": "b"}, "has a prompt that is not a string"),
        ({"prompt": "a", "completion": "b", "id": 1}, 'contains an extra "id"'),
        ({"messages": []}, "is missing key 'prompt'. The examples before it have prompts and completions"),
        ({"prompt": "a" * 30, "completion": "b"}, "has 31 tokens; max_length is 30"),
    ],
)
def test_a_row_is_refused_with_its_line(tmp_path: Path, row: Any, why: str) -> None:
    with pytest.raises(JobError, match=r"\(line 2\)$") as refused:
        encoded(tmp_path, {"prompt": "a", "completion": "b"}, row, max_length=30)
    assert str(refused.value).startswith("Example 2 " + why)
    assert refused.value.code == "invalid_training_file"


@pytest.mark.usefixtures("forked_workers")
def test_a_job_on_prompts_and_completions_learns(client: openai.OpenAI) -> None:
    rows = [pair(number) for number in range(24)]
    rows[3] = {"prompt": "", "completion": " red\n"}
    file = client.files.create(file=("train.jsonl", lines(*rows)), purpose="fine-tune")
    job = wait(client, start_job(client, epochs=8, training_file=file.id, validation_file=file.id).id)
    assert job.status == "succeeded", job.error
    losses = [float(one.metrics.full_valid_loss or 0) for one in client.fine_tuning.jobs.checkpoints.list(job.id).data]
    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
    trained: Any = [event.data for event in reversed(events) if event.type == "metrics"]
    assert trained[-1]["train_loss"] < 0.9 * trained[0]["train_loss"]
    assert losses[0] <= losses[-1]  # the newest first
    tokenizer = with_template("chatml")
    tokens = sum(len(prompt_ids(tokenizer, row["prompt"])) + len(row["completion"]) for row in rows)
    assert job.trained_tokens == 8 * tokens


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_files_of_two_kinds_and_too_few_rows_fail_the_job(client: openai.OpenAI) -> None:
    def uploaded(content: bytes) -> str:
        return client.files.create(file=("train.jsonl", content), purpose="fine-tune").id

    pairs, chats = uploaded(lines(*map(pair, range(12)))), uploaded(training_lines(12))
    error = wait(client, start_job(client, training_file=pairs, validation_file=chats).id).error
    assert (error.code, error.param) == ("invalid_training_file", "validation_file")
    assert "Validation file has messages, but training file has prompts and completions." in error.message
    few = uploaded(lines(*map(pair, range(9))))
    error = wait(client, start_job(client, training_file=few, validation_file=None).id).error
    assert error.code == "invalid_n_examples"
    mixed = uploaded(lines(*map(pair, range(12))) + training_lines(1))
    error = wait(client, start_job(client, training_file=mixed, validation_file=None).id).error
    assert "Example 13 is missing key 'prompt'" in error.message
    assert "(line 13)" in error.message
