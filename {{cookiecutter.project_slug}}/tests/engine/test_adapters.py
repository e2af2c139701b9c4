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

from finetune.engine.inference.loaded_model import LoadedModel, Part
from finetune.engine.training.hyperparameters import OTHER_KINDS

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


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_job_that_would_continue_from_another_kind_fails(client: openai.OpenAI, adapter: Path, kind: str) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    value = {"q_proj": 4} if kind.endswith("pattern") else True
    (adapter / "adapter_config.json").write_text(json.dumps({**config, kind: value}), encoding="utf-8")
    load(client, kind, adapter)
    job = wait(client, start_job(client, epochs=1, model=kind).id)
    assert job.error.message == (
        f"The adapter of this job's model has {kind}, which this engine does not train. Start from a base model."
    )


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


@pytest.mark.parametrize("damage", ["no folder", "no weights", "cut weights", "no JSON", "no LoRA", "no base"])
def test_what_is_no_adapter_is_refused(client: openai.OpenAI, home: Path, adapter: Path, damage: str) -> None:
    weights, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    before = sorted((home / "models").iterdir())
    if damage == "no folder":
        shutil.rmtree(adapter)
    elif damage == "no weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no base":
        settings = json.loads(config.read_text(encoding="utf-8"))
        del settings["base_model_name_or_path"]
        config.write_text(json.dumps(settings), encoding="utf-8")
    else:
        config.write_text("{" if damage == "no JSON" else '{"peft_type": "IA3"}', encoding="utf-8")
    with pytest.raises((openai.NotFoundError, openai.BadRequestError), match="adapter"):
        load(client, "broken", adapter)
    assert sorted((home / "models").iterdir()) == before


@pytest.mark.parametrize(
    "setting",
    [
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"layer_replication": [[0, 2], [0, 2]]},
        {"trainable_token_indices": [1, 2]},
        {"target_parameters": ["q_proj.weight"]},
        {"target_modules": ["q_proj", 1]},
    ],
    ids=str,
)
def test_an_adapter_that_would_change_its_base_is_refused(
    client: openai.OpenAI, home: Path, adapter: Path, setting: dict[str, Any]
) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **setting}), encoding="utf-8")
    before = sorted((home / "models").iterdir())
    with pytest.raises(openai.BadRequestError, match=r"cannot be read: (it is no LoRA|.* would change the base)"):
        load(client, "changes", adapter)
    assert sorted((home / "models").iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("setting", [{"r": "8"}, {"r": 0}, {"target_modules": "("}, {"lora_alpha": []}], ids=str)
def test_a_setting_that_peft_does_not_take_is_refused_when_it_is_asked(
    client: openai.OpenAI, adapter: Path, setting: dict[str, Any]
) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **setting}), encoding="utf-8")
    before = answer(client, "tiny")
    load(client, "odd", adapter)
    with pytest.raises(openai.UnprocessableEntityError, match="not made for its base"):
        answer(client, "odd")
    assert answer(client, "tiny") == before
    client.models.delete("odd")


def test_clients_of_other_machines_load_nothing(home: Path, adapter: Path) -> None:
    with server(any_base=False) as strict, pytest.raises(openai.PermissionDeniedError, match="--allow-any-base"):
        load(strict, "ours", adapter)


def test_an_adapter_after_one_that_failed_answers_by_its_own_settings(
    home: Path, job: Any, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(adapter, tmp_path / "other")
    config = json.loads((other / "adapter_config.json").read_text(encoding="utf-8"))
    (other / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 500}), encoding="utf-8")

    def logits(model: LoadedModel, folder: Path) -> Any:
        return model.compute(folder, [[Part(model.new_cache(), [5, 6, 7, 8], 0)]])[0][0][-1]

    expected = logits(LoadedModel(home / "bases" / "tiny"), adapter)
    model = LoadedModel(home / "bases" / "tiny")
    logits(model, shutil.copytree(adapter, tmp_path / "first"))
    with monkeypatch.context() as patch:
        patch.setattr("peft.peft_model.set_peft_model_state_dict", fail)
        with pytest.raises(MemoryError):
            logits(model, other)
    assert logits(model, adapter).equal(expected)


def fail(*_: Any, **__: Any) -> None:
    raise MemoryError
