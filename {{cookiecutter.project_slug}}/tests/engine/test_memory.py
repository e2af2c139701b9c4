"""The estimate of a job's memory is near the peak of the real job, and a job that does not fit is refused before it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import start_job, wait
from transformers import AutoConfig

from finetune.engine.api_errors import JobError
from finetune.engine.training import memory
from finetune.engine.training.encoding import IGNORE_INDEX, EncodedExample
from finetune.engine.training.hyperparameters import resolve, resolve_with_base

ROWS = [EncodedExample([n % 200, *[7] * 400, 9], [IGNORE_INDEX] * 401 + [9]) for n in range(16)]
MEASURE = Path(__file__).with_name("peak.py")


def hyperparameters(**asked: Any) -> Any:
    return resolve(resolve_with_base({"batch_size": 16, "lora_layers": "all", **asked}, 2, 1024), len(ROWS))


@pytest.fixture
def base(home: Path) -> memory.Base:
    found = memory.read_base(home / "bases" / "tiny", AutoConfig.from_pretrained(home / "bases" / "tiny"))
    assert found
    return found


def refusal(base: memory.Base, available: int, **asked: Any) -> str:
    with pytest.raises(JobError) as caught:
        memory.refuse_if_too_large(base, hyperparameters(**asked), "bfloat16", ROWS, [], 1, available)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its processes do not tell their peak")
def test_the_estimate_is_near_the_peak_of_a_real_job(home: Path, tmp_path: Path) -> None:
    """Rows of 476 tokens, 16 in a batch, on all layers: about 0.4 GB, of which the base is a thousandth."""
    rows = [
        [{"role": "user", "content": f"{n} " + "ab " * 150}, {"role": "assistant", "content": "blue"}]
        for n in range(16)
    ]
    text = "".join(json.dumps({"messages": one}) + "\n" for one in rows)
    (tmp_path / "training.jsonl").write_text(text, encoding="utf-8")
    job: dict[str, Any] = {
        "id": "mine",
        "base": "tiny",
        "base_folder": str(home / "bases" / "tiny"),
        "model": "tiny",
        "method": "supervised",
        "hyperparameters": {"n_epochs": 1, "batch_size": 16, "lora_layers": "all"},
        "seed": 1,
        **dict.fromkeys(("base_weights", "dtype", "threads", "cores", "processes", "asked_by")),
        "integrations": [],
        "integrations_folder": str(tmp_path),
    }
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(MEASURE), str(tmp_path)]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found = json.loads(run.stdout.splitlines()[-1])
    assert 0.5 < found["estimate"] / found["peak"] < 2, found


def test_a_base_in_parts_needs_less_for_its_layers_alone(base: memory.Base) -> None:
    """A process has two layers whole at most, beside its part of all layers, the embeddings and the head."""
    whole = memory.estimate(base, hyperparameters(), "float32", ROWS)
    parts = memory.estimate(base, hyperparameters(), "float32", ROWS, processes=1, shards=4)
    layers = [base.layer(0), base.layer(1)]
    assert whole.weights - parts.weights == 4 * (sum(layers) - sum(layers) // 4 - 2 * max(layers))
    assert parts._replace(weights=whole.weights) == whole


def test_a_job_that_does_not_fit_is_refused_with_the_numbers_and_what_would_fit(base: memory.Base) -> None:
    need = memory.estimate(base, hyperparameters(), "bfloat16", ROWS)
    message = refusal(base, need.total - 1)
    assert f"{memory.gigabytes(need.activations)} for activations (16 rows of up to 416 tokens)" in message
    assert "One of these would fit: gradient_checkpointing true, batch_size 8, lora_layers 1." in message
    for change in ({"gradient_checkpointing": True}, {"batch_size": 8}, {"lora_layers": 1}):
        memory.refuse_if_too_large(base, hyperparameters(**change), "bfloat16", ROWS, [], 1, need.total - 1)
    memory.refuse_if_too_large(base, hyperparameters(), "bfloat16", ROWS, [], 1, need.total)
    assert "Train a smaller base." in refusal(base, memory.LIBRARIES)


def test_several_changes_are_named_together_if_one_is_not_enough(base: memory.Base) -> None:
    least = {"batch_size": 1, "lora_layers": 1, "gradient_checkpointing": True}
    need = memory.estimate(base, hyperparameters(**least), "bfloat16", ROWS)
    assert "These together would fit: batch_size 1, lora_layers 1, gradient_checkpointing true." in refusal(
        base, need.total
    )


def test_a_job_too_large_for_this_machine_fails_before_its_base_is_loaded(
    client: openai.OpenAI, home: Path, forked_workers: None
) -> None:
    shutil.copytree(home / "bases" / "tiny", home / "bases" / "huge")
    path = home / "bases" / "huge" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "vocab_size": 10**12}), encoding="utf-8")
    job = wait(client, start_job(client, model="huge").id)
    assert (job.status, job.error.code, job.error.param) == ("failed", "invalid_value", "hyperparameters")
    assert job.error.message.startswith("This job needs about ")
    assert "Train a smaller base." in job.error.message
