"""tuned: ask the tuned model, the models to compare, the graders and the judge.

Answers are data: with the files that this stage writes, `evaluate` can score this commit without a model.
"""

from pathlib import Path
from typing import Any

from finetune.asking.committed_answers import committed_answers
from finetune.asking.compared_models import commit_compared, compared_models, is_compared
from finetune.asking.graders_and_judge import ask_graders, ask_judge
from finetune.asking.model_names import name_of_tuned
from finetune.asking.preference_margins import with_margins
from finetune.asking.split_answers import ask_regression_sets, ask_split, without_seconds
from finetune.core.disk import read_jsonl, sha256_of, write_json, write_jsonl
from finetune.core.params import Params
from finetune.core.paths import (
    ANSWERED_BY,
    BASE_ANSWERS,
    COMPARED_ANSWERS,
    FEW_SHOT_ANSWERS,
    GRADER_REPLIES,
    JUDGE_REPLIES,
    PREPARED,
    TUNED_ALSO_ANSWERS,
    TUNED_ANSWERS,
    TUNED_LATENCY,
)
from finetune.core.read_records import read_model_record
from finetune.core.records.answers import AnsweredBy, Prediction
from finetune.core.records.settings import Questions
from finetune.data.questions import load_questions
from finetune.project.deployment import refuse_other_answers
from finetune.project.kept_models import connect_with
from finetune.scoring.usage import latency
from finetune.terminal.progress import say

WRITTEN = (
    COMPARED_ANSWERS,
    TUNED_ALSO_ANSWERS,
    GRADER_REPLIES,
    JUDGE_REPLIES,
    TUNED_LATENCY,
    ANSWERED_BY,
    TUNED_ANSWERS,
)


def run(params: Params, fresh: bool = False) -> int:
    """Write the answers of the tuned model, of the models to compare, of the graders and of the judge.

    `fresh` asks again what was answered before. Returns the number of test rows.
    """
    questions = load_questions(params)
    if not fresh and (before := committed_answers("tuned", questions, WRITTEN)):
        say("The last commit has these answers; no model is asked.")
        return keep(before, questions)
    record = read_model_record()
    answers: dict[str, list[Prediction]] = {"base": read_jsonl(BASE_ANSWERS, "baseline", Prediction)}
    if few_shot := read_jsonl(FEW_SHOT_ANSWERS, "baseline", Prediction):
        answers["few_shot"] = few_shot
    tuned = name_of_tuned(params)
    others = compared_models(params, questions["compare"], record, say)
    with connect_with(params, tuned, *others.values(), fresh=fresh) as connection:
        for name, model in others.items():
            answers[name] = ask_split(connection, params, questions, model)
        answers["tuned"] = with_margins(connection, params, tuned, ask_split(connection, params, questions, tuned))
        refuse_other_answers(connection, tuned, record["model"])
        regression = ask_regression_sets(connection, params, questions, tuned)
        grader_replies = ask_graders(connection, params, questions, answers)
        judge_replies = ask_judge(connection, params, questions, answers["base"], answers["tuned"])
    commits = {name: commit_compared(name) for name in others}
    compared = [{"model": name, **commits[name], **row} for name in others for row in without_seconds(answers[name])]
    write_jsonl(COMPARED_ANSWERS, compared)
    write_jsonl(TUNED_ALSO_ANSWERS, regression)
    write_jsonl(GRADER_REPLIES, grader_replies)
    write_jsonl(JUDGE_REPLIES, judge_replies)
    write_json(TUNED_LATENCY, {name: latency(answers[name]) for name in [*others, "tuned"]})
    answered_by: AnsweredBy = {
        "model": record["model"],
        "fingerprint": record["fingerprint"],
        "test_rows": sha256_of(PREPARED / "test.jsonl"),
    }
    write_json(ANSWERED_BY, answered_by)
    write_jsonl(TUNED_ANSWERS, without_seconds(answers["tuned"]))
    return len(answers["tuned"])


def keep(before: dict[Path, Any], questions: Questions) -> int:
    """Write those of earlier answers that the questions still ask for. Returns the number of test rows."""
    compared = [name for name in before[TUNED_LATENCY] if is_compared(name, questions["compare"])]
    models = {"base", "tuned", *compared} | ({"few_shot"} if questions["few_shot"] else set())
    write_jsonl(COMPARED_ANSWERS, [row for row in before[COMPARED_ANSWERS] if row["model"] in compared])
    write_jsonl(TUNED_ALSO_ANSWERS, [row for row in before[TUNED_ALSO_ANSWERS] if row["set"] in questions["also"]])
    replies = [row for row in before[GRADER_REPLIES] if row["grader"].partition(".")[0] in questions["graders"]]
    write_jsonl(GRADER_REPLIES, [row for row in replies if row["model"] in models])
    write_jsonl(JUDGE_REPLIES, before[JUDGE_REPLIES] if questions["judge"] else [])
    write_json(TUNED_LATENCY, {name: before[TUNED_LATENCY][name] for name in [*compared, "tuned"]})
    write_json(ANSWERED_BY, before[ANSWERED_BY])
    write_jsonl(TUNED_ANSWERS, before[TUNED_ANSWERS])
    return len(before[TUNED_ANSWERS])
