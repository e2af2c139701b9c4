"""tuned: ask the tuned model, the models to compare, the graders and the judge.

Answers are data: with the files that this stage writes, `evaluate` can score this commit without a model.
"""

from finetune.asking.compared_models import compared_models
from finetune.asking.graders_and_judge import ask_graders, ask_judge
from finetune.asking.model_names import name_of_tuned
from finetune.asking.split_answers import ask_regression_sets, ask_split, without_seconds
from finetune.core.disk import read_jsonl, write_json, write_jsonl
from finetune.core.params import Params
from finetune.core.paths import (
    BASE_ANSWERS,
    COMPARED_ANSWERS,
    FEW_SHOT_ANSWERS,
    GRADER_REPLIES,
    JUDGE_REPLIES,
    TUNED_ALSO_ANSWERS,
    TUNED_ANSWERS,
    TUNED_LATENCY,
)
from finetune.core.read_records import read_model_record
from finetune.core.records import NamedPrediction, Prediction
from finetune.data.questions import load_questions
from finetune.provider.connect import connect
from finetune.scoring.usage import latency


def run(params: Params) -> int:
    """Write the answers of the tuned model, of the models to compare, of the graders and of the judge.

    Returns the number of test rows.
    """
    questions = load_questions(params)
    record = read_model_record()
    answers: dict[str, list[Prediction]] = {"base": read_jsonl(BASE_ANSWERS, "baseline")}
    if few_shot := read_jsonl(FEW_SHOT_ANSWERS, "baseline"):
        answers["few_shot"] = few_shot
    tuned = name_of_tuned(params)
    others = compared_models(params, questions["compare"], record)
    with connect(params.provider) as connection:
        for name, model in others.items():
            answers[name] = ask_split(connection, params, questions, model)
        answers["tuned"] = ask_split(connection, params, questions, tuned)
        regression = ask_regression_sets(connection, params, questions, tuned)
        grader_replies = ask_graders(connection, params, questions, answers)
        judge_replies = ask_judge(connection, params, questions, answers["base"], answers["tuned"])
    compared: list[NamedPrediction] = [
        {"model": name, **row} for name in others for row in without_seconds(answers[name])
    ]
    write_jsonl(COMPARED_ANSWERS, compared)
    write_jsonl(TUNED_ALSO_ANSWERS, regression)
    write_jsonl(GRADER_REPLIES, grader_replies)
    write_jsonl(JUDGE_REPLIES, judge_replies)
    write_json(TUNED_LATENCY, {name: latency(answers[name]) for name in [*others, "tuned"]})
    write_jsonl(TUNED_ANSWERS, without_seconds(answers["tuned"]))
    return len(answers["tuned"])
