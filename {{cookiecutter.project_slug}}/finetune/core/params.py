"""Load `params.yaml` as typed values."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from finetune.core.damage import read_bytes
from finetune.core.errors import FinetuneError
from finetune.core.invalid_values import explain, relevant
from finetune.core.param_conflicts import conflict_of
from finetune.core.paths import PARAMS
from finetune.core.sections.data import Data
from finetune.core.sections.evaluate import Evaluate
from finetune.core.sections.export import Export
from finetune.core.sections.provider import Provider
from finetune.core.sections.section import Section
from finetune.core.sections.train import Train


class Params(Section):
    data: Data
    provider: Provider
    train: Train
    evaluate: Evaluate
    export: Export = Export()
    notify: list[Annotated[str, Field(min_length=1)]] = []  # addresses of apprise


def load_params(path: Path = PARAMS) -> Params:
    """Load the parameters of the project in the current folder. Raises FinetuneError naming the invalid key."""
    return checked(read_values(path), path)


def read_values(path: Path = PARAMS) -> dict[str, Any]:
    """Return the values of a params.yaml as they are. Raises FinetuneError if it has none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        values = YAML(typ="safe").load(read_bytes(path).decode("utf-8"))
    except FileNotFoundError:
        raise FinetuneError(f"There is no {path} in {Path.cwd()}.", "Run this in the project's folder.") from None
    except (YAMLError, ValueError, AttributeError, IndexError, TypeError, RecursionError) as error:  # all of ruamel's
        raise FinetuneError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}",
            f"Correct that line, or restore the file with: git checkout {path}",
        ) from error
    if not isinstance(values, dict):
        raise FinetuneError(f"{path} has no keys.", "Restore it with: git checkout params.yaml")
    return values


def checked(values: dict[str, Any], path: Path = PARAMS) -> Params:
    """Return values as parameters. Raises FinetuneError naming the invalid key, and the file that they are for."""
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        raise invalid(relevant(error), path) from error
    if conflict := conflict_of(params.data, params.train, params.evaluate):
        raise FinetuneError(f"{path}: {conflict[0]}.", conflict[1])
    return params


def checked_data(values: dict[str, Any], path: Path = PARAMS) -> Data:
    """Return values as the section `data`. Raises FinetuneError naming the invalid key."""
    try:
        return Data.model_validate(values)
    except ValidationError as error:
        raise invalid([{**problem, "loc": ("data", *problem["loc"])} for problem in relevant(error)], path) from error


def invalid(problems: list[Any], path: Path) -> FinetuneError:
    problems_in_words = "; ".join(map(explain, problems))
    return FinetuneError(f"{path}: {problems_in_words}.", "Correct it. docs/params.md lists the keys.")
