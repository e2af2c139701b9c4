"""Ask a model a split's questions: the same prompt for every model, and one row per answer."""

from collections.abc import Sequence

from finetune.core.damage import how_to_restore
from finetune.core.disk import read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED
from finetune.core.records.answers import Prediction, RegressionPrediction
from finetune.core.records.prepared import Example, PreparedExample
from finetune.core.records.settings import AnswerSettings, Questions
from finetune.core.sections.evaluate import ANSWERING
from finetune.data.completion_format import CompletionFormat, completion_format_of, from_completion
from finetune.data.examples import as_chat, declared_in, right_answer, text_of
from finetune.data.questions import prompt_of, turns_of_shots
from finetune.provider.answer_parser import Answer, was_cut
from finetune.provider.completions import answer_all
from finetune.provider.connect import Connection
from finetune.terminal.progress import progress_bar, say


def ask_split(
    connection: Connection,
    params: Params,
    questions: Questions,
    model: str,
    split: str = "test",
    shots: Sequence[Example] = (),
) -> list[Prediction]:
    """Ask a model the questions of a split, and return a row for each, in their order.

    The turns of `shots` are put before each question, after the system message. Raises FinetuneError if the split is
    empty.
    """
    path = PREPARED / f"{split}.jsonl"
    examples = [as_chat(example) for example in read_jsonl(path, "prepare", PreparedExample)]
    if not examples:
        remedy = f"Give {split} a larger share in data.split. If it had rows: {how_to_restore(path, 'prepare')}"
        raise FinetuneError(f"{path} is empty.", remedy)
    return ask_examples(connection, params, questions, model, examples, shots)


def ask_examples(
    connection: Connection,
    params: Params,
    questions: AnswerSettings,
    model: str,
    examples: Sequence[Example],
    shots: Sequence[Example] = (),
) -> list[Prediction]:
    """Ask a model the questions of examples. A row has an `error` in place of an answer that the provider refused."""
    marks = completion_format_of(questions["completion"])
    before = turns_of_shots(shots)
    prompts = [example["prompt"] if marks else prompt_of(example["messages"][:-1], before) for example in examples]
    declared = [{} if marks else declared_in(example) for example in examples]
    settings = params.evaluate.model_copy(update={key: questions[key] for key in ANSWERING})
    seed, stop, top_logprobs = questions["seed"], marks.stop if marks else None, questions["top_logprobs"]
    with progress_bar(f"ask {model}") as progress:
        answers = answer_all(connection, model, prompts, settings, seed, progress, say, stop, top_logprobs, declared)
    return rows_of_answers(questions, examples, answers)


def rows_of_answers(
    questions: AnswerSettings, examples: Sequence[Example], answers: Sequence[Answer]
) -> list[Prediction]:
    """Return a row for each example with its answer."""
    marks = completion_format_of(questions["completion"])
    pairs = [from_completion(example, marks) if marks else last_turn(example) for example in examples]
    keeps_white_space = any(expected != expected.strip() for _, expected in pairs)
    rows: list[Prediction] = []
    for (asked, expected), answer in zip(pairs, answers, strict=True):
        row: Prediction = {
            "asked": asked,
            "expected": expected,
            "answer": text_without_lead(answer.text, marks) if keeps_white_space else answer.text.strip(),
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
        }
        if answer.cached_tokens:
            row["cached_tokens"] = answer.cached_tokens
        if answer.seconds:
            row["seconds"] = answer.seconds
        if answer.logprobs:
            row["logprobs"] = answer.logprobs
        if was_cut(answer, questions["max_tokens"]):
            row["cut"] = True
        if answer.refused:
            row["refused"] = True
        if answer.error:
            row["error"] = answer.error
        rows.append(row)
    return rows


def text_without_lead(text: str, marks: CompletionFormat | None) -> str:
    """Return an answer with its white space, but without the mark before a completion."""
    return text.removeprefix(marks.lead) if marks else text


def ask_regression_sets(
    connection: Connection, params: Params, questions: Questions, model: str
) -> list[RegressionPrediction]:
    """Ask a model all regression sets of `evaluate.also`, and return a row for each question, with its set.

    `evaluate.stop` is left out: what ends an answer of the project's task may be a part of other answers.
    """
    rows: list[RegressionPrediction] = []
    for name, one in questions["also"].items():
        asked: Questions = {**questions, "max_tokens": one["max_tokens"]}
        asked |= {"stop": [], "top_logprobs": 0, "completion": None}
        answers = ask_examples(connection, params, asked, model, one["examples"])
        rows += [{"set": name, **row} for row in without_seconds(answers)]
    return rows


def without_seconds(rows: Sequence[Prediction]) -> list[Prediction]:
    """Return the rows as they are written: how long an answer took differs each time."""
    found = [row.copy() for row in rows]
    for row in found:
        row.pop("seconds", None)
    return found


def last_turn(example: Example) -> tuple[str, str]:
    """Return the last question of a conversation and its answer."""
    asked, answer = example["messages"][-2:]
    return text_of(asked.get("content")), right_answer(answer)
