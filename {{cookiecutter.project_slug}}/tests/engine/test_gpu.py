"""On a GPU: a job trains and resumes on it, and its model answers. `make gpu` of the template runs these tests."""

import importlib.util
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import adapter_bytes, start_job, wait
from test_jobs import kill, wait_for_event

from finetune.engine import worker_launcher
from finetune.engine.devices import best_device, best_dtype
from finetune.engine.inference.loaded_model import LoadedModel

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(best_device() == "cpu", reason="this machine has no GPU")]


def test_a_job_trains_on_the_gpu_and_is_resumed_after_a_kill(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_launcher, "STARTUP_SECONDS", 0.5)
    first, killed = (start_job(client, epochs=3, examples=60) for _ in range(2))
    assert wait(client, first.id).status == "succeeded"
    wait_for_event(client, first.id, f"Fine-tuning job started on {best_device()} in {best_dtype()}")
    wait_for_event(client, killed.id, "Step 15/")
    kill(home)
    ended = wait(client, killed.id)
    assert ended.status == "succeeded", ended.error
    if best_device() == "cuda":  # PyTorch promises the same bits there only
        assert adapter_bytes(client, killed.id) == adapter_bytes(client, first.id)
    messages: Any = [{"role": "user", "content": "1: paint it blue"}]
    answer = client.chat.completions.create(model=ended.fine_tuned_model, messages=messages, max_tokens=4)
    assert answer.choices[0].message.content is not None


def test_a_base_answers_on_the_gpu(home: Path) -> None:
    loaded = LoadedModel(home / "bases" / "tiny")
    assert loaded.base.device.type == best_device()
    assert loaded.has_segments
    assert not loaded.invariant_sizes


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.skipif(best_device() != "cuda", reason="bitsandbytes needs CUDA")
def test_a_base_in_four_bits_is_trained(client: openai.OpenAI) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "quantize": "4bit"}}}
    job = wait(client, start_job(client, method=method).id)
    assert job.status == "succeeded", job.error
