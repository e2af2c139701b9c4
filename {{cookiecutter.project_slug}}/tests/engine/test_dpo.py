"""Jobs of the method dpo: the loss, the same bytes after a kill, what is reported, and what is refused."""

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import COLOURS, adapter_bytes, wait
from test_jobs import kill, wait_for_event

from finetune.engine import worker_launcher
from finetune.engine.api_errors import JobError
from finetune.engine.training.training_file import nothing, read_examples

pytestmark = pytest.mark.usefixtures("forked_workers")

DPO = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 5.0, "beta": 0.5}


def preference(number: int, **more: Any) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": f"{number}: paint it {COLOURS[number % 3]}, please"}]}
    outputs = [[{"role": "assistant", "content": text}] for text in (COLOURS[number % 3], "no way")]
    return {"input": asked, "preferred_output": outputs[0], "non_preferred_output": outputs[1], **more}


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def start(client: openai.OpenAI, rows: list[dict[str, Any]], model: str = "tiny", **hyperparameters: Any) -> Any:
    file = client.files.create(file=("train.jsonl", lines(rows)), purpose="fine-tune")
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {**DPO, **hyperparameters}}}
    return client.fine_tuning.jobs.create(
        model=model, training_file=file.id, validation_file=file.id, seed=7, method=method
    )


PREFERENCES = [preference(number) for number in range(22)]


@pytest.mark.further
def test_processes_that_share_the_base_train_on_preferences_alike(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """22 preferences are three chunks of eight, of which two processes compute two and one."""
    in_two = f"{os.environ['FINETUNE_ENGINE_LAUNCHER']} --num_processes 2"
    found = []
    for launcher in (in_two, f"env ACCELERATE_USE_FSDP=true {in_two}"):
        monkeypatch.setenv("FINETUNE_ENGINE_LAUNCHER", launcher)
        job = wait(client, start(client, PREFERENCES).id)
        assert job.status == "succeeded", job.error
        found.append(adapter_bytes(client, job.id))
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def first(client: openai.OpenAI) -> Any:
    """Return a job that ran without interruption."""
    job = wait(client, start(client, PREFERENCES).id)
    assert job.status == "succeeded", job.error
    return job


def test_the_preferred_answers_win(client: openai.OpenAI, first: Any) -> None:
    assert first.method.type == "dpo"
    assert first.method.dpo.hyperparameters.beta == 0.5
    (result,) = first.result_files
    steps = list(csv.DictReader(io.StringIO(client.files.content(result).text)))
    assert float(steps[0]["train_loss"]) == pytest.approx(0.6931, abs=0.02)  # of no margin
    assert float(steps[-1]["valid_rewards_accuracy"]) == 1
    assert float(steps[-1]["valid_rewards_margin"]) > 0.1
    assert float(steps[-1]["valid_loss"]) < 0.6
    events = [event.message for event in client.fine_tuning.jobs.list_events(first.id).data]
    assert any(message.startswith("Step 12/12: training loss=0.3") for message in events)
    newest = client.fine_tuning.jobs.checkpoints.list(first.id).data[0]
    metrics: Any = newest.metrics
    assert metrics.full_valid_rewards_margin == float(steps[-1]["valid_rewards_margin"])


@pytest.mark.slow
def test_a_killed_job_that_continues_a_tuned_model_is_resumed_to_the_same_bytes(
    client: openai.OpenAI, first: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its margins at the start are those of the tuned model, which the checkpoint's model no longer has."""
    monkeypatch.setattr(worker_launcher, "STARTUP_SECONDS", 0.5)
    whole, killed = (start(client, PREFERENCES, first.fine_tuned_model) for _ in range(2))
    wait_for_event(client, killed.id, "Step 8/")
    kill(home, "trainer")
    for job in (whole, killed):
        ended = wait(client, job.id)
        assert ended.status == "succeeded", ended.error
    messages = [event.message for event in client.fine_tuning.jobs.list_events(killed.id, limit=100).data]
    assert any(message.startswith("Fine-tuning job resumed from step 6") for message in messages)
    assert any("Step 1/12: training loss=0.69" in message for message in messages)
    assert adapter_bytes(client, killed.id) == adapter_bytes(client, whole.id) != adapter_bytes(client, first.id)


def test_the_loss_is_that_of_the_paper(home: Path) -> None:
    """Equation 7 of Rafailov et al. (2023), computed by Transformers one answer at a time, without packing."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from finetune.engine.training.base_model import first_trained_layer, lora_config
    from finetune.engine.training.encoding import IGNORE_INDEX, encode_file
    from finetune.engine.training.frozen_layers import SplitModel
    from finetune.engine.training.hyperparameters import resolve, resolve_with_base
    from finetune.engine.training.preferences import PreferenceDataset, PreferenceMetrics

    folder, path = home / "bases" / "tiny", home / "preferences.jsonl"
    path.write_bytes(lines(PREFERENCES))
    answers = encode_file(AutoTokenizer.from_pretrained(folder), path, 1000, "training_file", "dpo")
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    hyperparameters: Any = resolve(resolve_with_base({"lora_layers": 1}, 2, 1024), 22, "dpo")
    model = get_peft_model(base, lora_config(base, hyperparameters))
    dataset = PreferenceDataset(SplitModel(base, first_trained_layer(base, hyperparameters), answers), answers, nothing)

    def margins() -> torch.Tensor:
        with torch.no_grad():
            sums = []
            for answer in answers:
                logprobs = model(torch.tensor([answer.input_ids])).logits[0].log_softmax(-1)
                trained = [i for i, label in enumerate(answer.labels) if label != IGNORE_INDEX]
                sums.append(sum(float(logprobs[i - 1, answer.input_ids[i]]) for i in trained))
        return torch.tensor(sums[::2]) - torch.tensor(sums[1::2])

    dataset.compute_reference()
    reference = margins()
    assert dataset.reference == pytest.approx(reference.tolist(), abs=1e-3)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.02)
    rewards = 0.3 * (margins() - reference)
    metrics, batch = PreferenceMetrics(0.3), dataset.batch([3, 0, 17, 8])
    loss = metrics.add(*dataset.split_model.labelled_logits(batch), batch)
    chosen = rewards[[3, 0, 17, 8]]
    assert chosen.abs().min() > 0.01
    assert loss.item() == pytest.approx(float(-chosen.sigmoid().log().sum()), abs=1e-3)
    measured = metrics.read_and_reset().named("train")
    assert measured["train_rewards_margin"] == pytest.approx(float(chosen.mean()), abs=1e-3)
    assert measured["train_rewards_accuracy"] == float((chosen > 0).float().mean())


ANSWER = [{"role": "assistant", "content": "red"}]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (
            {"messages": [{"role": "user", "content": "?"}, *ANSWER]},
            "is missing key 'input'. The method 'dpo' trains on",
        ),
        ({"input": {"messages": []}, "preferred_output": ANSWER}, "is missing key 'non_preferred_output'"),
        (preference(0, n=1), 'contains an extra "n"'),
        (preference(0, non_preferred_output=ANSWER), "'non_preferred_output' is the same as 'preferred_output'"),
        (preference(0, preferred_output=[]), "'preferred_output' "),
        (preference(0, preferred_output=[{"role": "user", "content": "?"}]), "'preferred_output[0]' has a role"),
        (preference(0, preferred_output=[{**ANSWER[0], "weight": 0}]), "'preferred_output[0].assistant.weight'"),
        (preference(0, preferred_output="red"), "'preferred_output' must be an array"),
        (preference(0, input={"messages": [{"role": "user", "content": "?"}, *ANSWER]}), "'input.messages' ends with"),
        (
            preference(0, preferred_output=[*ANSWER, {"role": "tool", "content": "1", "tool_call_id": "a"}]),
            "no result of",
        ),
    ],
)
def test_a_wrong_preference_is_named(tmp_path: Path, row: dict[str, Any], what: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(lines([preference(1), row]))
    with pytest.raises(JobError, match=rf"Example 2 .*{re.escape(what)}.*\(line 2\)"):
        list(read_examples(path, "validation_file", "dpo"))


def test_preferences_are_refused_by_the_method_supervised(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(lines(PREFERENCES))
    with pytest.raises(JobError, match=r"Preferences are trained on by the method 'dpo'. \(line 1\)"):
        list(read_examples(path, "training_file"))


@pytest.mark.parametrize(
    ("method", "param", "what"),
    [
        ({"type": "reinforcement"}, "method", "must not be of the type 'reinforcement'"),
        ({"type": "dpo", "dpo": {"hyperparameters": {"beta": 3}}}, "hyperparameters.beta", "up to 2"),
        ({"type": "supervised", "supervised": {"hyperparameters": {"beta": 1}}}, "hyperparameters.beta", "not support"),
        ({"type": "dpo", "supervised": {"hyperparameters": {}}}, "method.supervised", "'method.type' is 'dpo'"),
    ],
)
def test_another_method_is_refused_by_name(client: openai.OpenAI, method: Any, param: str, what: str) -> None:
    with pytest.raises(openai.BadRequestError, match=what) as refused:
        client.fine_tuning.jobs.create(model="tiny", training_file="file-none", method=method)
    assert refused.value.param == param
