"""Read records in the form that earlier versions wrote."""

import copy
import re
from collections.abc import Mapping
from typing import Any, cast

from finetune.core.evaluated_models import GROUPS
from finetune.core.records.evaluation import Evaluation, Metrics

OWN_MODELS = ("base", "few_shot", "tuned")
NOT_FIELDS = ("f1_micro", "f1_macro", "f1_low", "f1_high")


def current_evaluation(found: Mapping[str, Any]) -> Evaluation:
    """Return an evaluation in today's form; one that has it already is returned unchanged.

    Earlier versions wrote checkpoints and compared models at the top (`checkpoint_76`, `lift_over_checkpoint_76`),
    graders among the metrics (`polite`, `polite_low`, …), and the F1 of each field as `f1_<field>`.
    """
    new: dict[str, Any] = copy.deepcopy(cast("dict[str, Any]", found))
    group_models(new)
    for key in [key for key in new["lift"] if key.endswith("_p_value")]:
        move_grader(new, key.removesuffix("_p_value"))
    own = [new[name] for name in OWN_MODELS if name in new]
    for model in own + [model for group in GROUPS for model in new.get(group, {}).values()]:
        move_fields(model)
    return cast(Evaluation, new)


def model_key(name: str) -> str:
    """Return a model's name in today's tables: `checkpoint_76` is `checkpoints.76`, and `v1` is `compared.v1`."""
    if name in OWN_MODELS or name.startswith(tuple(f"{group}." for group in GROUPS)):
        return name
    step = re.fullmatch(r"checkpoint_(\d+)(\.0)?", name)
    return f"checkpoints.{step[1]}" if step else f"compared.{name}"


def group_models(evaluation: dict[str, Any]) -> None:
    """Move models from the top to their group, each with the difference of tuned to it."""
    first = f"{evaluation['metric']}_low"  # what all models have
    for name in [name for name, value in evaluation.items() if isinstance(value, dict) and first in value]:
        if name not in Evaluation.__annotations__ and not name.startswith("lift_over_"):
            group, _, key = model_key(name).partition(".")
            lift = evaluation.pop(f"lift_over_{name}", {})
            evaluation.setdefault(group, {})[key] = {**evaluation.pop(name), "lift": lift}


def move_grader(evaluation: dict[str, Any], name: str) -> None:
    """Move a grader's scores from the metrics of all models to `graders`."""
    grades: dict[str, Any] = {
        key: take_grade(evaluation[key], name) for key in (*OWN_MODELS, "lift") if key in evaluation
    }
    for group in GROUPS:
        if group in evaluation:
            grades[group] = {key: take_grade(model, name) for key, model in evaluation[group].items()}
    evaluation.setdefault("graders", {})[name] = grades


def take_grade(metrics: Metrics, grader: str) -> Metrics:
    """Remove a grader's figures from metrics and return them."""
    names = {"score": grader} | {key: f"{grader}_{key}" for key in ("low", "high", "p_value", "errors")}
    return {key: metrics.pop(name) for key, name in names.items() if name in metrics}


def move_fields(model: Metrics) -> None:
    """Move the F1 of each field to `fields`."""
    names = [key for key in model if key.startswith("f1_") and key not in NOT_FIELDS]
    if names:
        model["fields"] = {name.removeprefix("f1_"): model.pop(name) for name in names}
