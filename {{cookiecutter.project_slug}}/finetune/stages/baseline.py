"""baseline: ask the base model the test questions, with the prompt that the tuned model gets."""

from finetune.asking.model_names import name_of_base
from finetune.asking.split_answers import ask_regression_sets, ask_split, without_seconds
from finetune.core.disk import write_json, write_jsonl
from finetune.core.params import Params
from finetune.core.paths import BASE_ALSO_ANSWERS, BASE_ANSWERS, BASE_LATENCY, FEW_SHOT_ANSWERS
from finetune.data.questions import load_questions
from finetune.provider.connect import connect
from finetune.scoring.usage import latency


def run(params: Params) -> int:
    """Write the base model's answers: to the test questions, with examples in the prompt, and to the regression sets.

    Without `evaluate.few_shot`, the file of answers with examples is empty. Returns the number of test
    rows.
    """
    questions = load_questions(params)
    model, shots = name_of_base(params), questions["few_shot"]
    with connect(params.provider) as connection:
        rows = ask_split(connection, params, questions, model)
        with_shots = ask_split(connection, params, questions, model, shots=shots) if shots else []
        regression = ask_regression_sets(connection, params, questions, model)
    write_jsonl(BASE_ANSWERS, without_seconds(rows))
    write_jsonl(FEW_SHOT_ANSWERS, without_seconds(with_shots))
    write_jsonl(BASE_ALSO_ANSWERS, regression)
    write_json(BASE_LATENCY, {"base": latency(rows), "few_shot": latency(with_shots)})
    return len(rows)
