"""What is sent to trackers, and the errors without their libraries. The template's tests use the libraries."""

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from finetune.core.errors import FinetuneError
from finetune.project import trackers

RECORD = {
    "base": "tiny",
    "fingerprint": "f" * 64,
    "hyperparameters": {"n_epochs": 2},
    "job": "ftjob-1",
    "method": "supervised",
    "model": "ft:tiny:local::1",
    "provider": "local",
    "seed": 42,
    "suffix": None,
    "trained_tokens": 120,
    "usd": "unknown",
}


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """Write a record and curves into the current folder; return their paths and that of an evaluation."""
    monkeypatch.chdir(tmp_path)
    files = Path("model.json"), Path("training.csv"), Path("evaluation.json")
    files[0].write_text(json.dumps(RECORD), encoding="utf-8")
    files[1].write_text("step,train_loss,valid_loss\n1,2.5,\n2,1.5,1.75\n", encoding="utf-8")
    return files


def test_empty_cells_lists_and_unknown_figures_are_not_sent(records: tuple[Path, Path, Path]) -> None:
    tuned = trackers.read(*records)
    assert tuned.steps == [(1, {"train_loss": 2.5}), (2, {"train_loss": 1.5, "valid_loss": 1.75})]
    assert tuned.scores == {"trained_tokens": 120}
    assert tuned.files == [*records[:2]]
    assert "suffix" not in tuned.parameters
    records[2].write_text('{"tuned": {"accuracy": 0.5, "classes": [{"f1": 1}]}, "n": 4}', encoding="utf-8")
    assert trackers.read(*records).scores == {"tuned.accuracy": 0.5, "n": 4, "trained_tokens": 120}


def test_two_jobs_are_two_runs_and_one_job_is_one(records: tuple[Path, Path, Path]) -> None:
    key = trackers.read(*records).key
    records[0].write_text(json.dumps(RECORD | {"model": "ft:tiny:local::2"}), encoding="utf-8")
    assert trackers.read(*records).key == key
    records[0].write_text(json.dumps(RECORD | {"job": "ftjob-2"}), encoding="utf-8")
    assert trackers.read(*records).key != key


@pytest.mark.parametrize("tracker", ["wandb", "mlflow", "dvclive"])
def test_the_error_for_a_missing_library_names_its_extra(
    records: tuple[Path, Path, Path], tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == tracker:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FinetuneError) as caught:
        trackers.send(tracker, None, *records)
    assert f"pip install -e '.[{tracker}]' -c constraints.txt" in caught.value.remedy


def test_keys_are_removed_from_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    text = trackers.without_keys("key 0123456789abcdef refused by https://me:secret@host:5000/api")
    assert text == "key *** refused by https://***@host:5000/api"
