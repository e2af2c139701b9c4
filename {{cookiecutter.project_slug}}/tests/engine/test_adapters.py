"""`POST /v1/load_lora_adapter`: an adapter that was trained elsewhere becomes a model, in vLLM's form."""

import json
import shutil
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import start_job, wait
from openai.types import Model
from test_access import server
from tiny import make_tiny_base

QUESTION: Any = [{"role": "user", "content": "5: paint it blue"}]


@pytest.fixture(scope="module")
def job(client: openai.OpenAI, forked_workers: None) -> Any:
    return wait(client, start_job(client).id)


@pytest.fixture
def adapter(client: openai.OpenAI, job: Any, tmp_path: Path) -> Path:
    """The folder with the adapter of the job, as PEFT writes it."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in client.fine_tuning.jobs.checkpoints.list(job.id).data[0].result_files:  # type: ignore[attr-defined]
        (folder / client.files.retrieve(file).filename).write_bytes(client.files.content(file).content)
    return folder


def load(client: openai.OpenAI, name: str, folder: Path, **more: str) -> Model:
    body = {"lora_name": name, "lora_path": str(folder), **more}
    return client.post("/load_lora_adapter", cast_to=Model, body=body)


def answer(client: openai.OpenAI, model: str) -> tuple[str, list[float]]:
    """Return a model's answer, and the log-probability of each of its tokens."""
    asked: Any = {"model": model, "messages": QUESTION, "max_tokens": 4, "temperature": 0, "logprobs": True}
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.logprobs
    assert choice.logprobs.content
    return choice.message.content or "", [token.logprob for token in choice.logprobs.content]


def test_it_answers_as_the_model_that_it_was_and_is_deleted(
    client: openai.OpenAI, home: Path, job: Any, adapter: Path
) -> None:
    assert load(client, "ours", adapter).id == "ours"
    assert answer(client, "ours") == answer(client, job.fine_tuned_model) != answer(client, "tiny")
    shutil.rmtree(adapter)
    assert client.models.retrieve("ours").id in {model.id for model in client.models.list()}
    folders = len(list((home / "models").iterdir()))
    client.models.delete("ours")
    assert len(list((home / "models").iterdir())) == folders - 1
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("ours")
    assert answer(client, job.fine_tuned_model)[0]


def test_a_job_continues_from_it(client: openai.OpenAI, adapter: Path) -> None:
    load(client, "start", adapter)
    assert wait(client, start_job(client, epochs=1, model="start").id).status == "succeeded"


def test_the_same_again_changes_nothing_and_another_one_is_refused(
    client: openai.OpenAI, home: Path, adapter: Path
) -> None:
    load(client, "twice", adapter)
    folders = sorted((home / "models").iterdir())
    load(client, "twice", adapter)
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 3}), encoding="utf-8")
    with pytest.raises(openai.BadRequestError, match="There is another model twice"):
        load(client, "twice", adapter)
    with pytest.raises(openai.BadRequestError, match="tiny is a base model"):
        load(client, "tiny", adapter)
    assert sorted((home / "models").iterdir()) == folders


@pytest.mark.parametrize("other", [{"width": 32}, {"shared_by": 1}], ids=lambda other: next(iter(other)))
def test_an_adapter_of_another_base_is_refused_when_it_is_asked(
    client: openai.OpenAI, home: Path, adapter: Path, other: dict[str, Any]
) -> None:
    make_tiny_base(home / "bases" / "other", **other)
    before = answer(client, "other")
    load(client, "misfit", adapter, base_model_name="other")
    with pytest.raises(openai.UnprocessableEntityError, match="not made for its base"):
        answer(client, "misfit")
    assert answer(client, "other") == before
    shutil.rmtree(home / "bases" / "other")
    client.models.delete("misfit")
    with pytest.raises(openai.NotFoundError, match="unknown-base"):
        load(client, "ours", adapter, base_model_name="unknown-base")


@pytest.mark.parametrize("damage", ["no folder", "no weights", "cut weights", "no JSON", "no LoRA"])
def test_what_is_no_adapter_is_refused(client: openai.OpenAI, home: Path, adapter: Path, damage: str) -> None:
    weights, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    before = sorted((home / "models").iterdir())
    if damage == "no folder":
        shutil.rmtree(adapter)
    elif damage == "no weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        config.write_text("{" if damage == "no JSON" else '{"peft_type": "IA3"}', encoding="utf-8")
    with pytest.raises((openai.NotFoundError, openai.BadRequestError), match="adapter"):
        load(client, "broken", adapter)
    assert sorted((home / "models").iterdir()) == before


def test_clients_of_other_machines_load_nothing(home: Path, adapter: Path) -> None:
    with server(any_base=False) as strict, pytest.raises(openai.PermissionDeniedError, match="--allow-any-base"):
        load(strict, "ours", adapter)
