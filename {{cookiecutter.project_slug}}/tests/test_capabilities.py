"""Unsupported parameters and shut-down providers or bases are refused before anything is sent."""

import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from finetune.asking.model_names import name_of_base
from finetune.core.errors import FinetuneError
from finetune.core.params import Params, load_params
from finetune.core.profiles import PROFILES
from finetune.core.records.training import FilesRecord
from finetune.pricing.end_dates import date_warnings, newcomers_warning, refuse_after_shutdown
from finetune.project.job_request import job_request, job_settings
from finetune.provider.capabilities import refuse_unsupported
from finetune.stages import upload

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
    ("provider", "train", "message"),
    [
        ("azure", {"suffix": "a.b"}, "train.suffix 'a.b'"),
        ("azure", {"suffix": "x" * 19}, "train.suffix"),
        ("azure", {"training_type": "Cheap"}, "GlobalStandard"),
        ("openai", {"training_type": "GlobalStandard"}, "train.training_type"),
        ("openai", {"hyperparameters": {"lora_r": 8}}, "train.hyperparameters.lora_r"),
        ("nebius", {"learning_rate_multiplier": 2.0}, "learning_rate in train.hyperparameters"),
        ("nebius", {"hyperparameters": {"beta": 0.1}}, "train.hyperparameters.beta"),
        ("nebius", {"hyperparameters": {"lora_layers": 4}}, "train.hyperparameters.lora_layers"),
        ("openai", {"hyperparameters": {"quantize": "4bit"}}, "train.hyperparameters.quantize"),
        ("local", {"hyperparameters": {"context_length": 9}}, "train.hyperparameters.context_length"),
        ("local", {"learning_rate_multiplier": 2.0, "hyperparameters": {"learning_rate": 1e-4}}, "sets both"),
        ("nebius", {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "train.integrations"),
        ("azure", {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "train.integrations"),
        ("azure", {"choose": "best_metric"}, "train.choose"),
    ],
)
def test_an_unsupported_parameter_is_refused_before_the_upload(
    tmp_path: Path, provider: str, train: dict[str, Any], message: str
) -> None:
    """There is no server, no key and no file: the refusal comes first."""
    with pytest.raises(FinetuneError) as caught:
        upload.run(params(tmp_path, provider, **train))
    assert message in str(caught.value)
    assert "Nothing was sent" in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "train"),
    [
        ("azure", {"suffix": "support-desk", "training_type": "developerTier"}),
        ("nebius", {"hyperparameters": {"learning_rate": 1e-5, "lora": True, "lora_r": 16}}),
        ("openai", {"suffix": "a.b", "integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}),
        ("local", {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}),
        ("compatible", {"hyperparameters": {"anything": 1}}),
        ("local", {"hyperparameters": {"lora_layers": "all", "lora_r": 8, "learning_rate": 1e-4, "max_length": 512}}),
    ],
)
def test_a_supported_parameter_is_accepted(tmp_path: Path, provider: str, train: dict[str, Any]) -> None:
    refuse_unsupported(params(tmp_path, provider, **train))


def test_a_closed_provider_and_a_retired_base_are_refused_with_the_date(tmp_path: Path) -> None:
    hosted = params(tmp_path, "openai")
    refuse_after_shutdown(hosted, datetime.date(2027, 1, 5))
    with pytest.raises(FinetuneError, match="no new fine-tuning jobs since 2027-01-06"):
        refuse_after_shutdown(hosted, datetime.date(2027, 1, 6))
    with pytest.raises(FinetuneError, match="was shut down on 2026-10-23"):
        refuse_after_shutdown(params(tmp_path, "openai", "gpt-3.5-turbo-0125"), datetime.date(2026, 11, 21))
    refuse_after_shutdown(params(tmp_path, "local", "SmolLM2-135M-Instruct"), datetime.date(2030, 1, 1))


OPENAI_BASE, AZURE_BASE, NEBIUS_BASE = HOSTED, "Ministral-3B", "meta-llama/Llama-3.1-8B-Instruct"
OPEN = {"training_type": "GlobalStandard"}


@pytest.mark.parametrize(
    ("provider", "base", "day", "expected"),
    [
        ("openai", HOSTED, "2026-10-01", []),  # provider.warn_days is 90 unless set
        (
            "openai", HOSTED, "2026-12-20",
            [
                "'openai' accepts no new fine-tuning jobs from 2027-01-06, in 17 days.",
                f"{HOSTED} and its fine-tunes will be shut down on 2027-01-14, in 25 days.",
            ],
        ),
        (
            "openai", HOSTED, "2027-01-10",
            [
                "'openai' accepts no new fine-tuning jobs since 2027-01-06.",
                f"{HOSTED} and its fine-tunes will be shut down on 2027-01-14, in 4 days.",
            ],
        ),
        (
            "openai", HOSTED, "2027-05-01",
            [
                "'openai' accepts no new fine-tuning jobs since 2027-01-06.",
                f"{HOSTED} was shut down on 2027-01-14, and its fine-tunes with it.",
            ],
        ),
        ("azure", HOSTED, "2026-12-20", []),
        ("azure", HOSTED, "2027-01-20", [f"Training of {HOSTED} ends no earlier than 2027-04-14, in 84 days."]),
        (
            "azure", HOSTED, "2027-05-01",
            [f"'azure' may have ended the training of {HOSTED}: it announced this for no earlier than 2027-04-14."],
        ),
        *(
            (provider, base, day, [])
            for provider, base in (("azure", AZURE_BASE), ("nebius", NEBIUS_BASE), ("local", "SmolLM2-135M-Instruct"))
            for day in ("2026-12-20", "2027-01-10", "2027-05-01")
        ),
    ],
)  # fmt: skip
def test_what_ends_is_said_for_each_provider(
    tmp_path: Path, provider: str, base: str, day: str, expected: list[str]
) -> None:
    assert date_warnings(params(tmp_path, provider, base), datetime.date.fromisoformat(day)) == expected


def test_a_base_that_newcomers_cannot_train_is_named(tmp_path: Path) -> None:
    day = datetime.date(2026, 12, 20)
    openai = newcomers_warning(params(tmp_path, "openai"), day)
    azure = newcomers_warning(params(tmp_path, "azure"), day)
    assert openai == "Since 2026-05-07, 'openai' takes jobs only from accounts that had some before."
    assert azure == f"Since 2026-10-14, 'azure' trains {HOSTED} only for accounts that trained it before."
    assert newcomers_warning(params(tmp_path, "azure"), datetime.date(2026, 10, 13)) is None
    for provider, base in (("azure", AZURE_BASE), ("nebius", NEBIUS_BASE), ("local", "SmolLM2-135M-Instruct")):
        assert newcomers_warning(params(tmp_path, provider, base), day) is None


def test_the_default_base_of_each_provider_can_be_trained_with_the_default_parameters(tmp_path: Path) -> None:
    refuse_unsupported(params(tmp_path, "azure", AZURE_BASE, **OPEN))
    refuse_unsupported(params(tmp_path, "nebius", NEBIUS_BASE))
    with pytest.raises(FinetuneError, match=r"(?s)Ministral-3B without train\.training_type.*GlobalStandard"):
        refuse_unsupported(params(tmp_path, "azure", AZURE_BASE))
    with pytest.raises(FinetuneError, match="Supported types: GlobalStandard"):
        refuse_unsupported(params(tmp_path, "azure", AZURE_BASE, training_type="developerTier"))


def test_a_base_is_asked_by_its_name_for_inference(tmp_path: Path) -> None:
    assert name_of_base(params(tmp_path, "nebius", NEBIUS_BASE)) == "meta-llama/Meta-Llama-3.1-8B-Instruct"
    assert name_of_base(params(tmp_path, "compatible", NEBIUS_BASE)) == NEBIUS_BASE
    assert name_of_base(params(tmp_path, "openai")) == HOSTED


def request(tmp_path: Path, provider: str, **train: Any) -> dict[str, Any]:
    """Return the arguments of the create call."""
    wanted = params(tmp_path, provider, **train)
    connection: Any = SimpleNamespace(profile=PROFILES[provider])
    files: FilesRecord = {"train": {"id": "file-1", "sha256": "0" * 64}}
    return job_request(wanted, connection, job_settings(wanted, HOSTED), files, "f" * 64, 0.5)


def test_the_create_call_has_what_the_provider_takes_and_no_unset_parameter(tmp_path: Path) -> None:
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


def test_hyperparameters_that_a_project_does_not_set_are_not_in_its_fingerprint(tmp_path: Path) -> None:
    """So the jobs of projects from before they existed are still found."""
    settings = job_settings(params(tmp_path, "local"), HOSTED)["hyperparameters"]
    assert settings == dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    set_one = job_settings(params(tmp_path, "local", hyperparameters={"lora_layers": 4}), HOSTED)["hyperparameters"]
    assert set_one == {**settings, "lora_layers": 4}
