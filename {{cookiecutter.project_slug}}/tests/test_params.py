"""params.yaml: the project's file is valid, and an error names the invalid key."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from finetune.core.errors import FinetuneError
from finetune.core.params import load_params

OURS = Path(__file__).parents[1] / "params.yaml"


def written(folder: Path, change: dict[str, Any]) -> Path:
    """Write a copy of the project's params.yaml with other values of dotted keys, and return its path."""
    values = YAML(typ="safe").load(OURS.read_text(encoding="utf-8"))
    for dotted, value in change.items():
        *parents, last = dotted.split(".")
        section = values
        for name in parents:
            section = section[name]
        section[last] = value
    path = folder / "params.yaml"
    YAML().dump(values, path)
    return path


def test_the_projects_own_file_is_valid() -> None:
    assert load_params(OURS).train.seed >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.n_epoch": 3}, "unknown key 'train.n_epoch'"),
        ({"tarin": {}}, "unknown key 'tarin'"),
        ({"train.n_epochs": "three"}, "'train.n_epochs'"),
        ({"train.n_epochs": 0}, "'train.n_epochs'"),
        ({"train.n_epochs": True}, "'train.n_epochs'"),
        ({"train.seed": "x"}, "'train.seed'"),
        ({"provider.name": "opneai"}, "'provider.name'"),
        ({"data.split.test": 0.9}, "add up to 1"),
        ({"evaluate": None}, "'evaluate'"),
    ],
)
def test_an_error_names_the_invalid_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(FinetuneError) as caught:
        load_params(written(tmp_path, change))
    assert message in str(caught.value)
    assert "literal" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- data\n", "data\n"], ids=["empty", "a list", "a text"])
def test_a_file_without_keys_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FinetuneError, match="has no keys"):
        load_params(path)


def test_a_missing_key_a_broken_file_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(FinetuneError, match="There is no"):
        load_params(path)
    path.write_text("data: [")
    with pytest.raises(FinetuneError, match="not valid YAML"):
        load_params(path)
    path.write_text("data: {}\n")
    with pytest.raises(FinetuneError, match="the key 'provider' is missing"):
        load_params(path)


@pytest.mark.parametrize("value", ["auto", 3])
def test_auto_and_numbers_are_accepted(tmp_path: Path, value: object) -> None:
    assert load_params(written(tmp_path, {"train.n_epochs": value})).train.n_epochs == value


def test_a_whole_number_is_accepted_for_a_float(tmp_path: Path) -> None:
    assert load_params(written(tmp_path, {"train.learning_rate_multiplier": 2})).train.learning_rate_multiplier == 2
