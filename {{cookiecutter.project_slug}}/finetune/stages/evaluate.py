"""evaluate: score the answers on disk. Files in, files out: no model, no key, no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.core.callbacks import Say, say_nothing
from finetune.core.disk import read_json, read_jsonl, write_json
from finetune.core.errors import FinetuneError
from finetune.core.evaluated_models import RESCUED, get_model
from finetune.core.params import Params
from finetune.core.paths import (
    ANSWERED_BY,
    BASE_ALSO_ANSWERS,
    BASE_ANSWERS,
    BASE_LATENCY,
    COMPARED_ANSWERS,
    EVALUATION,
    FEW_SHOT_ANSWERS,
    GRADER_REPLIES,
    JUDGE_REPLIES,
    LATENCY,
    PREPARED,
    TEST_ROWS,
    TUNED_ALSO_ANSWERS,
    TUNED_ANSWERS,
    TUNED_LATENCY,
)
from finetune.core.preferences import holds_preferences
from finetune.core.read_records import read_prepare_report
from finetune.core.records.answers import (
    AnsweredBy,
    GraderReply,
    JudgeReply,
    Latencies,
    NamedPrediction,
    Prediction,
    RecordedAnswer,
    RegressionPrediction,
)
from finetune.core.records.evaluation import Evaluation
from finetune.core.records.prepared import PrepareReport, TestRow
from finetune.data.answered_questions import AnsweredQuestion, answered_questions
from finetune.data.completion_format import completion_format_of
from finetune.data.questions import regression_examples
from finetune.data.recorded_answers import recorded_answers, recorded_predictions
from finetune.data.regression_groups import groups_of_examples
from finetune.scoring.both_answered import lift_on_answered
from finetune.scoring.evaluation import compare_models
from finetune.scoring.floors import MOST_SEARCHED, TrainingTexts, floor_answers
from finetune.scoring.gates import results_of
from finetune.scoring.graders.isolation import trust_warning
from finetune.scoring.graders.summary import grades_of_all
from finetune.scoring.judge import judge_result, unreadable_warning
from finetune.scoring.plot_tables import write_tables
from finetune.scoring.prediction_scores import class_of_code, expected_of, limited_to_classes, score_predictions
from finetune.scoring.preferences import preference_result
from finetune.scoring.regression_sets import score_regression_sets
from finetune.scoring.rescued import add_verdict
from finetune.scoring.trainings import trainings_of
from finetune.scoring.usage import cut_warning, saved_by_tuning, usage


def run(params: Params, say: Say = say_nothing) -> Evaluation:
    """Write the metrics of all models, and the tables for the plots and the report."""
    prepared = read_prepare_report()
    compared: list[NamedPrediction] = read_jsonl(COMPARED_ANSWERS, "tuned", NamedPrediction)
    answers = read_answers(compared)
    rows_of_test: list[TestRow] = read_jsonl(TEST_ROWS, "prepare", TestRow)
    rescued = params.evaluate.rescued
    recorded = recorded_answers(rescued, rows_of_test) if rescued else []
    if len(rows_of_test) != len(answers["tuned"]):
        raise different_rows("tuned", "the test split")
    groups = [row["group"] for row in rows_of_test]
    everyone = with_recorded_and_floors(params, prepared, answers, recorded)
    scored = {model: score_predictions(params, prepared, rows, groups) for model, rows in everyone.items()}
    metrics: dict[str, Any] = {"task": params.evaluate.task, "evaluated": read_json(ANSWERED_BY, "tuned", AnsweredBy)}
    metrics |= compare_models(scored, groups)
    if rescued:
        add_verdict(metrics[RESCUED], metrics["metric"], rescued, recorded, everyone[RESCUED])
    metrics |= trainings_of(params, prepared, metrics, say)
    if on_answered := lift_on_answered(params, prepared, answers["base"], answers["tuned"], groups):
        metrics["lift_on_answered"] = on_answered
    bases = {row["model"]: row.get("base") for row in compared}
    for model, rows in answers.items():
        get_model(metrics, model).update(usage(params, rows, model not in ("base", "few_shot"), bases.get(model)))
    for row in compared:
        if "commit" in row:
            get_model(metrics, row["model"])["commit"] = row["commit"]
    if params.evaluate.graders:
        if warning := trust_warning(params.evaluate.graders):
            say(f"warning: {warning}")
        replies = read_jsonl(GRADER_REPLIES, "tuned", GraderReply)
        metrics["graders"] = grades_of_all(params.evaluate.graders, answers, replies, groups)
    judge_replies: list[JudgeReply] = read_jsonl(JUDGE_REPLIES, "tuned", JudgeReply)
    if params.evaluate.judge and judge_replies:
        if len(judge_replies) != 2 * len(answers["tuned"]):
            raise different_rows("the judge", "the tuned model")
        metrics["judge"] = judge_result([row["reply"] for row in judge_replies])
    if holds_preferences(prepared):
        metrics["preferences"] = preference_result(answers["base"], answers["tuned"], groups)
    metrics["also"] = score_regression_sets(
        params.evaluate.also,
        read_jsonl(BASE_ALSO_ANSWERS, "baseline", RegressionPrediction),
        read_jsonl(TUNED_ALSO_ANSWERS, "tuned", RegressionPrediction),
        {name: groups_of_set(name, params) for name in params.evaluate.also},
    )
    metrics |= saved_by_tuning(metrics)
    _, failed = results_of(params.evaluate.require, metrics)
    if params.evaluate.require:
        metrics |= {"gates_met": int(not failed), "gates_failed": failed}
    expected = expected_of(answers["tuned"], class_of_code(prepared), params.evaluate.task)
    cells = [row["by"] for row in rows_of_test if "by" in row]
    write_tables(answers["tuned"], expected, scored, groups, cells)
    write_json(LATENCY, read_json(BASE_LATENCY, "baseline", Latencies) | read_json(TUNED_LATENCY, "tuned", Latencies))
    write_json(EVALUATION, metrics)
    if warning := cut_warning(answers["tuned"], params.evaluate.max_tokens):
        say(f"warning: {warning}")
    if "judge" in metrics and (warning := unreadable_warning(metrics["judge"])):
        say(f"warning: {warning}")
    evaluation: Evaluation = metrics  # type: ignore[assignment]
    return evaluation


def groups_of_set(name: str, params: Params) -> list[int]:
    """Return the group of each row of a regression set, by the column of data.group or by the key `group`."""
    examples = regression_examples(name, params.evaluate.also[name])
    return groups_of_examples(examples, params.data.group or "group")


def read_answers(compared: Sequence[NamedPrediction]) -> dict[str, list[Prediction]]:
    """Read the answers of all models: base first, tuned last. Raises FinetuneError if their rows differ."""
    answers: dict[str, list[Prediction]] = {"base": read_jsonl(BASE_ANSWERS, "baseline", Prediction)}
    if few_shot := read_jsonl(FEW_SHOT_ANSWERS, "baseline", Prediction):
        answers["few_shot"] = few_shot
    for row in compared:
        answers.setdefault(row["model"], []).append(row)
    answers["tuned"] = read_jsonl(TUNED_ANSWERS, "tuned", Prediction)
    refuse_different_rows(answers)
    return answers


def with_recorded_and_floors(
    params: Params,
    prepared: PrepareReport,
    answers: Mapping[str, list[Prediction]],
    recorded: Sequence[RecordedAnswer],
) -> dict[str, list[Prediction]]:
    """Return the answers of all models, the recorded ones of a rescued model and the floors; the tuned model last."""
    found = dict(answers)
    tuned = found.pop("tuned")
    marks = completion_format_of(prepared["completion"])
    task = params.evaluate.task
    if task == "classify" and (limited := limited_to_classes(params, prepared, found["base"])):
        found["floors.limited"] = limited
    asked = answered_questions(PREPARED / "test.jsonl", marks)
    if len(asked) != len(tuned):
        raise different_rows("tuned", "the test split")
    if recorded:
        found[RESCUED] = recorded_predictions(recorded, asked)
    train = answered_questions(PREPARED / "train.jsonl", marks, MOST_SEARCHED)
    if not train:
        raise FinetuneError(f"{PREPARED / 'train.jsonl'} has no rows.", "Create it again with: dvc repro -f -s prepare")
    for name, texts in floor_answers(task, *texts_of(train, asked)).items():
        found[f"floors.{name}"] = [{**row, "answer": text} for row, text in zip(tuned, texts, strict=True)]
        for row in found[f"floors.{name}"]:
            row.pop("logprobs", None)
            row.pop("refused", None)  # by the tuned model
    return {**found, "tuned": tuned}


def texts_of(train: Sequence[AnsweredQuestion], test: Sequence[AnsweredQuestion]) -> tuple[TrainingTexts, list[str]]:
    """Return the texts to learn from and those to answer: without the context where all rows have the same."""
    same = len({row.context for row in [*train, *test]}) == 1
    texts, questions = ([row.asked if same else row.text() for row in rows] for rows in (train, test))
    return TrainingTexts(texts, [row.answer for row in train]), questions


def refuse_different_rows(answers: Mapping[str, Sequence[Prediction]]) -> None:
    """Raise FinetuneError if a model answered other questions than the tuned model."""
    asked = [row["asked"] for row in answers["tuned"]]
    for model, rows in answers.items():
        if [row["asked"] for row in rows] != asked:
            raise different_rows(model, "of tuned")


def different_rows(model: str, other: str) -> FinetuneError:
    return FinetuneError(
        f"The predictions of {model} and {other} are for different test rows.",
        "Ask again with: dvc repro baseline tuned",
    )
