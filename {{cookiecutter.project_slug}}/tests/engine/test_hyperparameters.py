"""The engine's own hyperparameters: what they do to a job, what `auto` becomes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import adapter_bytes, start_job, wait
from safetensors.torch import load
from test_jobs import kill, wait_for_event

from finetune.engine import worker_launcher
from finetune.engine.api_errors import JobError
from finetune.engine.training.hyperparameters import resolve, resolve_with_answers, resolve_with_base

pytestmark = pytest.mark.usefixtures("forked_workers")


def supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, **hyperparameters}}}


def ended(client: openai.OpenAI, model: str = "tiny", **hyperparameters: Any) -> Any:
    return wait(client, start_job(client, model=model, method=supervised(**hyperparameters)).id)


def trained(client: openai.OpenAI, model: str = "tiny", **hyperparameters: Any) -> Any:
    job = ended(client, model, **hyperparameters)
    assert job.status == "succeeded", job.error
    return job


def adapter(client: openai.OpenAI, job: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration and the weights of a job's adapter."""
    config, weights = adapter_bytes(client, job.id)
    return json.loads(config), load(weights)


@pytest.fixture(scope="module")
def plain(client: openai.OpenAI, home: Path, forked_workers: None) -> Any:
    return trained(client)


@pytest.fixture(scope="module")
def shaped(client: openai.OpenAI, home: Path, forked_workers: None) -> Any:
    """A job with an adapter of rank 4 on all layers."""
    return trained(client, lora_r=4, lora_layers="all", gradient_checkpointing=True, learning_rate=1e-4)


def test_a_job_shows_what_auto_became(client: openai.OpenAI, plain: Any) -> None:
    assert plain.hyperparameters.to_dict() == {
        "n_epochs": 2,
        "batch_size": 2,
        "learning_rate_multiplier": 1.0,
        "learning_rate": 0.001,
        "weight_decay": 0.0,
        "warmup_ratio": 0.0,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_layers": 1,
        "lora_dropout": 0.0,
        "max_length": 1024,
        "quantize": None,
        "gradient_checkpointing": False,
    }


def test_the_adapter_has_the_rank_and_the_layers_that_were_asked_for(client: openai.OpenAI, shaped: Any) -> None:
    config, weights = adapter(client, shaped)
    assert (config["r"], config["lora_alpha"], config["layers_to_transform"]) == (4, 8, [0, 1])
    assert {min(one.shape) for one in weights.values()} == {4}
    shown = shaped.hyperparameters.to_dict()
    assert (shown["lora_layers"], shown["learning_rate"]) == (2, 1e-4)
    assert "learning_rate_multiplier" not in shown
    answer = client.chat.completions.create(
        model=shaped.fine_tuned_model, messages=[{"role": "user", "content": "1: paint it blue"}], max_tokens=3
    )
    assert answer.choices


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"lora_dropout": 0.5},
        {"weight_decay": 0.5, "learning_rate_multiplier": 9},
        {"warmup_ratio": 0.5},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_each_changes_the_adapter(client: openai.OpenAI, plain: Any, changed: dict[str, Any]) -> None:
    assert adapter_bytes(client, trained(client, **changed).id)[1] != adapter_bytes(client, plain.id)[1]


@pytest.mark.slow
def test_a_killed_job_drops_the_same_inputs_as_an_uninterrupted_one(
    client: openai.OpenAI, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_launcher, "STARTUP_SECONDS", 0.5)
    asked = supervised(lora_dropout=0.5)
    whole = wait(client, start_job(client, examples=60, method=asked).id)
    job = start_job(client, examples=60, method=asked)
    wait_for_event(client, job.id, "Checkpoint created")
    kill(home)
    assert wait(client, job.id).status == "succeeded"
    assert adapter_bytes(client, job.id) == adapter_bytes(client, whole.id)


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing_but_memory(client: openai.OpenAI, shaped: Any) -> None:
    """It computes the same numbers again."""
    kept = trained(client, lora_r=4, lora_layers=2, learning_rate=1e-4)
    assert adapter_bytes(client, kept.id) == adapter_bytes(client, shaped.id)


@pytest.mark.slow
def test_a_tuned_model_keeps_its_shape_when_it_is_trained_further(client: openai.OpenAI, shaped: Any) -> None:
    config, _ = adapter(client, trained(client, shaped.fine_tuned_model))
    assert (config["r"], config["lora_alpha"], config["layers_to_transform"]) == (4, 8, [0, 1])


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ({"lora_r": 8}, "has lora_r 4, and this job asks for 8"),
        pytest.param({"lora_layers": 1}, "has lora_layers 2, and this job asks for 1", marks=pytest.mark.slow),
        pytest.param({"lora_alpha": 16}, "has lora_alpha 8, and this job asks for 16", marks=pytest.mark.slow),
    ],
)
def test_another_shape_than_that_of_the_tuned_model_is_refused(
    client: openai.OpenAI, shaped: Any, hyperparameters: dict[str, Any], words: str
) -> None:
    job = ended(client, shaped.fine_tuned_model, **hyperparameters)
    assert job.status == "failed"
    assert words in job.error.message
    assert job.error.param == "hyperparameters"


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ({"lora_layers": 3}, "lora_layers is 3, but it is at most 2 for this base"),
        ({"max_length": 1025}, "max_length is 1025, but it is at most 1024 for this base"),
        ({"max_length": 20}, "Example 1 has 39 tokens; max_length is 20. (line 1)"),
        ({"quantize": "4bit"}, "quantize '4bit' is not possible on this server: it lacks"),
    ],
)
def test_what_does_not_fit_the_base_or_the_server_is_refused(
    client: openai.OpenAI, hyperparameters: dict[str, Any], words: str
) -> None:
    import torch

    if "quantize" in hyperparameters and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    job = ended(client, **hyperparameters)
    assert job.status == "failed"
    assert words in job.error.message


def test_the_learning_rate_is_said_once(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="two ways to say the same"):
        start_job(client, method=supervised(learning_rate=1e-4, learning_rate_multiplier=1.0))


@pytest.mark.parametrize(
    ("name", "value"),
    [("lora_r", 0), ("lora_layers", "most"), ("lora_dropout", 1), ("quantize", "8bit"), ("gradient_checkpointing", 1)],
)
def test_a_value_beyond_its_range_is_refused_by_its_name(client: openai.OpenAI, name: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError, match='must be "auto"') as caught:
        start_job(client, method=supervised(**{name: value}))
    assert caught.value.param == f"hyperparameters.{name}"


SHORT, LONG = [3, 4, 3, 90], [30, 40, 3, 35]  # trained tokens of four examples; some rows are of another kind


def auto(tokens: list[int], layers: int = 30, method: str = "supervised", **asked: Any) -> tuple[int, float]:
    """Return what `auto` becomes: the layers and the rate."""
    found = resolve_with_base(resolve(asked, 80, method), layers, 2048)
    found = resolve(resolve_with_answers(found, layers, tokens, method), 80, method)
    return found["lora_layers"], found["learning_rate"]


@pytest.mark.parametrize(
    ("tokens", "layers", "expected"),
    [
        (SHORT, 30, (4, 0.002)),
        (LONG, 30, (15, 0.001)),
        ([8, 8, 9], 24, (3, 0.002)),
        ([8, 9, 9], 24, (12, 0.001)),
        (SHORT, 2, (1, 0.001)),
        (LONG, 2, (1, 0.001)),
    ],
)
def test_longer_answers_train_more_layers_at_a_lower_rate(tokens: list[int], layers: int, expected: Any) -> None:
    assert auto(tokens, layers) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"lora_layers": "all"}, (30, 0.0005)),
        ({"lora_layers": 6}, (6, 0.002)),
        ({"lora_layers": 6, "learning_rate_multiplier": 0.1}, (6, 0.0001)),
        ({"learning_rate": 0.01}, (15, 0.01)),
        ({"learning_rate_multiplier": 4.0}, (15, 0.004)),
    ],
)
def test_what_is_asked_for_is_kept(asked: dict[str, Any], expected: Any) -> None:
    assert auto(LONG, **asked) == expected


def test_the_rule_is_for_supervised_jobs() -> None:
    assert auto(LONG, method="dpo") == (4, 0.0002)


def test_a_job_of_an_earlier_version_keeps_its_rate() -> None:
    asked: dict[str, Any] = {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 2.0}
    found = resolve_with_base(resolve(asked, 80), 30, 2048)
    assert (found["lora_r"], found["lora_alpha"], found["learning_rate"]) == (16, 32, 0.002)
    assert auto(SHORT, **asked) == (4, 0.002)


def test_an_adapter_on_other_layers_than_the_top_ones_is_refused() -> None:
    with pytest.raises(JobError, match="on other layers"):
        resolve_with_base({}, 4, 1024, {"r": 8, "lora_alpha": 8, "layers_to_transform": [0, 1]})
