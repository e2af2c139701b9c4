"""Read records in the form that earlier versions wrote."""

import copy
import re
from collections.abc import Mapping
from typing import Any, cast

from finetune.core.records import Evaluation, Metrics

MICRO_MACRO_AND_INTERVAL = ("f1_micro", "f1_macro", "f1_low", "f1_high")


def current_evaluation(found: Mapping[str, Any]) -> Evaluation:
    """Return an evaluation in today's form; one that has it already is returned unchanged.

    Earlier versions wrote checkpoints and compared models at the top (`checkpoint_76`, `lift_over_checkpoint_76`),
    graders among the metrics (`helpful`, `helpful_low`, …), and the F1 of each field as `f1_<field>`.
    """
    new = copy.deepcopy(dict(found))
    first = f"{new['metric']}_low"
    ours = Evaluation.__annotations__
    for name in [
        name for name, value in new.items() if isinstance(value, dict) and first in value and name not in ours
    ]:
        if name.startswith("lift_over_"):
            continue
        kind, _, key = model_key(name).partition(".")
        new.setdefault(kind, {})[key] = {**new[name], "lift": new.get(f"lift_over_{name}", {})}
        del new[name]
        new.pop(f"lift_over_{name}", None)
    groups = [new[name] for name in ("checkpoints", "compared") if name in new]
    models = [new[name] for name in ("base", "few_shot", "tuned") if name in new]
    models += [model for group in groups for model in group.values()]
    for grader in [key.removesuffix("_p_value") for key in new["lift"] if key.endswith("_p_value")]:
        new.setdefault("graders", {})[grader] = {
            **{name: take_grade(new[name], grader) for name in ("base", "few_shot", "tuned", "lift") if name in new},
            **{
                kind: {key: take_grade(model, grader) for key, model in new[kind].items()}
                for kind in ("checkpoints", "compared")
                if kind in new
            },
        }
    if new["task"] == "extract":
        for model in models:
            names = [key for key in model if key.startswith("f1_") and key not in MICRO_MACRO_AND_INTERVAL]
            if names:
                model["fields"] = {name.removeprefix("f1_"): model.pop(name) for name in names}
    return cast(Evaluation, new)


def model_key(name: str) -> str:
    """Return the name of a model in today's tables: `checkpoint_76` is `checkpoints.76`, and `v1` is `compared.v1`."""
    if name in ("base", "few_shot", "tuned") or name.startswith(("checkpoints.", "compared.")):
        return name
    step = re.fullmatch(r"checkpoint_(\d+)", name)
    return f"checkpoints.{step[1]}" if step else f"compared.{name}"


def take_grade(metrics: Metrics, grader: str) -> dict[str, Any]:
    """Move a grader's figures out of a model's metrics."""
    names = {"score": grader} | {key: f"{grader}_{key}" for key in ("low", "high", "p_value", "errors")}
    return {key: metrics.pop(name) for key, name in names.items() if name in metrics}
