"""What a provider does not do is said before anything is sent, and so is what comes too late."""

import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from finetune.core.errors import FinetuneError
from finetune.core.params import Params, load_params
from finetune.core.profiles import PROFILES
from finetune.provider.capabilities import refuse_too_late, refuse_unfit, warning_of_shutdown
from finetune.stages import upload
from finetune.stages.train import asked, request_of

HOSTED = "gpt-4.1-mini-2025-04-14"


def params(tmp_path: Path, provider: str, base: str = HOSTED, **train: Any) -> Params:
    values = {
        "data": {"file": "raw.csv", "split": {"train": 0.7, "valid": 0.1, "test": 0.2}},
        "provider": {"name": provider},
        "train": {
            "base": base,
            "method": "supervised",
            "n_epochs": "auto",
            "batch_size": "auto",
            "learning_rate_multiplier": "auto",
            "seed": 1,
            **train,
        },
        "evaluate": {"max_tokens": 6, "temperature": 0.0, "concurrency": 8},
    }
    path = tmp_path / "params.yaml"
    YAML().dump(values, path)
    return load_params(path)


@pytest.mark.parametrize(
    ("provider", "train", "told"),
    [
        ("azure", {"suffix": "a.b"}, "train.suffix 'a.b'"),
        ("azure", {"suffix": "x" * 19}, "train.suffix"),
        ("azure", {"training_type": "Cheap"}, "GlobalStandard"),
        ("openai", {"training_type": "GlobalStandard"}, "train.training_type"),
        ("openai", {"hyperparameters": {"lora_r": 8}}, "train.hyperparameters.lora_r"),
        ("nebius", {"learning_rate_multiplier": 2.0}, "learning_rate in train.hyperparameters"),
        ("nebius", {"hyperparameters": {"beta": 0.1}}, "train.hyperparameters.beta"),
        ("nebius", {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "train.integrations"),
        ("local", {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "train.integrations"),
        ("azure", {"choose": "best_metric"}, "train.choose"),
    ],
)
def test_what_a_provider_does_not_take_is_refused_before_the_upload(
    tmp_path: Path, provider: str, train: dict[str, Any], told: str
) -> None:
    """There is no server, no key and no file: the refusal comes first."""
    with pytest.raises(FinetuneError) as caught:
        upload.run(params(tmp_path, provider, **train))
    assert told in str(caught.value)
    assert "Nothing was sent" in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "train"),
    [
        ("azure", {"suffix": "support-desk", "training_type": "developerTier"}),
        ("nebius", {"hyperparameters": {"learning_rate": 1e-5, "lora": True, "lora_r": 16}}),
        ("openai", {"suffix": "a.b", "integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}),
        ("compatible", {"hyperparameters": {"anything": 1}}),
    ],
)
def test_what_it_takes_is_let_through(tmp_path: Path, provider: str, train: dict[str, Any]) -> None:
    refuse_unfit(params(tmp_path, provider, **train))


def test_a_closed_door_and_a_dead_base_are_said_by_their_dates(tmp_path: Path) -> None:
    hosted = params(tmp_path, "openai")
    refuse_too_late(hosted, datetime.date(2027, 1, 5))
    with pytest.raises(FinetuneError, match="no new fine-tuning jobs since 2027-01-06"):
        refuse_too_late(hosted, datetime.date(2027, 1, 6))
    with pytest.raises(FinetuneError, match="was shut down on 2026-10-23"):
        refuse_too_late(params(tmp_path, "openai", "gpt-3.5-turbo-0125"), datetime.date(2026, 11, 21))
    refuse_too_late(params(tmp_path, "local", "SmolLM2-135M-Instruct"), datetime.date(2030, 1, 1))


def test_a_base_that_will_go_dark_is_warned_of_in_time(tmp_path: Path) -> None:
    hosted = params(tmp_path, "openai")  # provider.warn_days is 90 unless set
    assert warning_of_shutdown(hosted, datetime.date(2026, 10, 15)) is None
    warning = warning_of_shutdown(hosted, datetime.date(2026, 11, 21))
    assert warning is not None
    assert "2027-01-14, in 54 days" in warning


def request(tmp_path: Path, provider: str, **train: Any) -> dict[str, Any]:
    """What the create call would be sent with."""
    asked_for = params(tmp_path, provider, **train)
    connection: Any = SimpleNamespace(profile=PROFILES[provider])
    files = {"train": {"id": "file-1"}}
    return request_of(asked_for, connection, asked(asked_for, HOSTED), files, "f" * 64)


def test_the_create_call_has_what_the_provider_takes_and_nothing_that_is_not_set(tmp_path: Path) -> None:
    wandb = [{"type": "wandb", "wandb": {"project": "p"}}]
    sent = request(tmp_path, "openai", integrations=wandb, n_epochs=2)
    assert sent["integrations"] == wandb
    assert sent["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    assert sent["metadata"]["finetune-fingerprint"] == "f" * 64
    assert not {"validation_file", "suffix", "extra_body"} & set(sent)
    sent = request(tmp_path, "azure", training_type="developerTier")
    assert sent["extra_body"] == {"trainingType": "developerTier"}
    sent = request(tmp_path, "nebius", suffix="desk", hyperparameters={"learning_rate": 1e-5, "lora": True})
    assert sent["suffix"] == "desk-" + "f" * 12
    assert sent["method"]["supervised"]["hyperparameters"] == {"learning_rate": 1e-5, "lora": True}
    assert "metadata" not in sent
