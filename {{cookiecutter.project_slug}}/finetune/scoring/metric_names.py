"""The names that the metrics of an evaluation will have, before any model is asked."""

import re
from collections.abc import Sequence
from typing import Any

from finetune.core.evaluated_models import RESCUED, RIVALS, is_asked, is_floor, set_model
from finetune.core.flatten import flatten
from finetune.core.params import Params
from finetune.core.preferences import holds_preferences
from finetune.core.records.answers import Prediction
from finetune.core.records.evaluation import JudgeResult, Metrics, PreferenceResult, RegressionResult
from finetune.core.records.prepared import PrepareReport
from finetune.core.records.variants import Trainings
from finetune.scoring.evaluation import lifts_over
from finetune.scoring.prediction_scores import score_predictions
from finetune.scoring.usage import usage

# The steps of checkpoints and the fields of objects are not known before.
UNKNOWN_PART = re.compile(r"(?<=checkpoints\.)\d+(?=\.)|(?<=\.fields\.).+")


def metric_names(params: Params, prepared: PrepareReport, expected: Sequence[str]) -> set[str]:
    """Return the names of all figures of an evaluation, with `*` for what is not known before.

    `expected` are some right answers; they are scored as if they were each model's.
    """
    settings = params.evaluate
    rows: list[Prediction] = [
        {"asked": "", "expected": text, "answer": text, "prompt_tokens": 1, "completion_tokens": 1, "logprobs": []}
        for text in expected
    ]
    if settings.top_logprobs and settings.task == "classify":
        for row in rows:
            row["logprobs"] = [[(row["expected"].encode().decode("latin-1"), -0.1)]]  # a token is bytes
    scored = score_predictions(params, prepared, rows)
    ends = {f"{scored.metric}_{end}": 0.0 for end in ("low", "high")}
    figures: Metrics = {**scored.metrics, **ends, **usage(params, rows, tuned=True), "usd_per_1000": 0.0}
    figures |= {"cached_tokens": 0.0} | ({"usd_per_1000_batch": 0.0} if settings.batch else {})
    if settings.task == "extract":
        figures["fields"] = {"*": 0.0}
    lift: Metrics = {**lifts_over([scored], scored, None)[0], "p_holm": 1.0, "fresh_rows": 1}
    report: dict[str, Any] = {"n": 1, "groups": 1, "lift": lift, "rival": lift}
    grade: Metrics = {"score": 0.0, "low": 0.0, "high": 0.0}
    report["graders"] = {name: {"lift": {**grade, "p_value": 1.0}} for name in settings.graders}
    for model in models_of(params):
        set_model(report, model, {**figures, "lift": lift} if "." in model else figures)
        for grades in report["graders"].values() if is_asked(model) else ():
            set_model(grades, model, {**grade, "errors": 0})
    if settings.few_shot:
        report |= {"lift_over_few_shot": lift, "saved_prompt_tokens": 0.0, "saved_usd_per_1000": 0.0}
    if settings.rescued:
        report[RESCUED] = {**scored.metrics, **ends, "lift": lift, "margin": 0.0, "kept": 1, "cut": 0}
    report["also"] = {name: numbers_of(RegressionResult) for name in settings.also}
    report["trainings"] = numbers_of(Trainings)  # with `finetune repeat`
    report["judge"] = numbers_of(JudgeResult) if settings.judge else {}
    report["preferences"] = numbers_of(PreferenceResult) if holds_preferences(prepared) else {}
    return {name for name, value in flatten(report).items() if isinstance(value, (int, float))}


def models_of(params: Params) -> list[str]:
    """Return the models that will answer, with `*` as the step of a checkpoint."""
    compared = ["checkpoints.*" if name == "checkpoints" else f"compared.{name}" for name in params.evaluate.compare]
    floors = list(filter(is_floor, RIVALS))
    return ["base", *(["few_shot"] if params.evaluate.few_shot else []), *floors, *compared, "tuned"]


def numbers_of(record: Any) -> Metrics:
    """Return a 0 for each key of a record that is a number."""
    return {key: 0 for key, kind in record.__annotations__.items() if kind not in (str, "str")}


def general_name(name: str) -> str:
    """Return a metric's name with `*` for what is not known before."""
    return UNKNOWN_PART.sub("*", name)
