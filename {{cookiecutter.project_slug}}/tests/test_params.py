"""params.yaml: the project's file is valid, and an error names the invalid key."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from finetune.core.errors import FinetuneError
from finetune.core.params import Params, load_params

ROOT = Path(__file__).parents[1]
OURS = ROOT / "params.yaml"
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


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


def optional_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted paths of all keys that may be left out, by the types of params.yaml."""
    found = []
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        if not field.is_required():
            found.append(path)
        types = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for section in (one for one in types if isinstance(one, type) and issubclass(one, BaseModel)):
            found += optional_keys(section, f"{path}.")
    return found


def lookup(values: Any, dotted: str) -> bool:
    """Return whether DVC finds a parameter in the values."""
    for name in dotted.split("."):
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


def without(values: dict[str, Any], dotted: str) -> dict[str, Any]:
    """Return the values without a key, if they have it."""
    name, _, rest = dotted.partition(".")
    if not rest:
        return {key: value for key, value in values.items() if key != name}
    return {**values, name: without(values[name], rest)} if isinstance(values.get(name), dict) else values


@pytest.mark.parametrize("key", optional_keys(Params))
def test_dvc_finds_all_parameters_without_any_optional_key(key: str) -> None:
    values = without(YAML(typ="safe").load(OURS.read_text(encoding="utf-8")), key)
    for stage, entry in STAGES.items():
        for parameter in entry.get("params", ()):
            if parameter == {"params.yaml": None}:  # the whole file
                continue
            assert lookup(values, parameter), f"{stage} depends on {parameter}, which may be left out"


def test_the_defaults_hold_without_all_optional_keys() -> None:
    assert {"data.labels", "train.budget", "evaluate.few_shot", "provider.base_url"} <= set(optional_keys(Params))
    values = YAML(typ="safe").load(OURS.read_text(encoding="utf-8"))
    kept = ("data.file", "data.prompt", "data.prompt.system", "data.split")
    for key in optional_keys(Params):
        if not key.startswith(kept):
            values = without(values, key)
    params = Params.model_validate(values)
    assert (params.data.labels, params.train.budget.usd, params.evaluate.few_shot) == ([], None, 0)
    assert (params.provider.base_url, params.evaluate.task, params.train.choose) == (None, "classify", "last")


def test_classes_are_listed_once_and_without_white_space(tmp_path: Path) -> None:
    # A class with white space would be two classes for the scores: right answers would count as wrong.
    def load(labels: list[str]) -> Params:
        supervised = {"train.method": "supervised", "train.beta": "auto"}
        return load_params(written(tmp_path, {**supervised, "data.labels": labels}))

    assert load(["yes ", "no"]).data.labels == ["yes", "no"]
    for labels, said in ((["yes", "no", "yes "], "'yes' is listed twice"), (["yes", " "], "at least 1 character")):
        with pytest.raises(FinetuneError, match=said):
            load(labels)
