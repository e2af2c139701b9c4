"""baseline: ask the base model the test questions, with the prompt that the tuned model gets."""

from pathlib import Path
from typing import Any

from finetune.asking.committed_answers import committed_answers
from finetune.asking.model_names import name_of_base
from finetune.asking.preference_margins import with_margins
from finetune.asking.split_answers import ask_regression_sets, ask_split, without_seconds
from finetune.core.disk import write_json, write_jsonl
from finetune.core.params import Params
from finetune.core.paths import BASE_ALSO_ANSWERS, BASE_ANSWERS, BASE_LATENCY, FEW_SHOT_ANSWERS
from finetune.core.records.settings import Questions
from finetune.data.questions import load_questions
from finetune.provider.connect import connect
from finetune.scoring.usage import latency
from finetune.terminal.progress import say

WRITTEN = (BASE_ANSWERS, FEW_SHOT_ANSWERS, BASE_ALSO_ANSWERS, BASE_LATENCY)


def run(params: Params, fresh: bool = False) -> int:
    """Write the base model's answers: to the test questions, with examples in the prompt, and to the regression sets.

    Without `evaluate.few_shot`, the file of answers with examples is empty. `fresh` asks again
    what was answered before. Returns the number of test rows.
    """
    questions = load_questions(params)
    if not fresh and (before := committed_answers("baseline", questions, WRITTEN)):
        say("The last commit has these answers; no model is asked.")
        return keep(before, questions)
    model, shots = name_of_base(params), questions["few_shot"]
    with connect(params.provider, fresh) as connection:
        rows = with_margins(connection, params, model, ask_split(connection, params, questions, model))
        with_shots = ask_split(connection, params, questions, model, shots=shots) if shots else []
        regression = ask_regression_sets(connection, params, questions, model)
    write_jsonl(BASE_ANSWERS, without_seconds(rows))
    write_jsonl(FEW_SHOT_ANSWERS, without_seconds(with_shots))
    write_jsonl(BASE_ALSO_ANSWERS, regression)
    write_json(BASE_LATENCY, {"base": latency(rows), "few_shot": latency(with_shots)})
    return len(rows)


def keep(before: dict[Path, Any], questions: Questions) -> int:
    """Write those of earlier answers that the questions still ask for. Returns the number of test rows."""
    asks_with_examples = bool(questions["few_shot"])
    write_jsonl(BASE_ANSWERS, before[BASE_ANSWERS])
    write_jsonl(FEW_SHOT_ANSWERS, before[FEW_SHOT_ANSWERS] if asks_with_examples else [])
    write_jsonl(BASE_ALSO_ANSWERS, [row for row in before[BASE_ALSO_ANSWERS] if row["set"] in questions["also"]])
    write_json(BASE_LATENCY, before[BASE_LATENCY] | ({} if asks_with_examples else {"few_shot": {}}))
    return len(before[BASE_ANSWERS])
