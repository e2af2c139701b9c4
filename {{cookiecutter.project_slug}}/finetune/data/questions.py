"""Collect everything that decides what models are asked, beside the splits themselves.

`validate` writes it to data/prepared/questions.json, and the stages that ask depend on that file, not on parameters. So
a change of a gate, a margin, the order of labels or a grader that asks no model does not run these stages.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest
from pathlib import Path
from typing import Any

from finetune.core.disk import each_jsonl, read_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED, QUESTIONS
from finetune.core.read_records import read_prepare_report
from finetune.core.records.prepared import Example, PreparedExample
from finetune.core.records.settings import Questions
from finetune.core.sections.evaluate import Also
from finetune.data.examples import SYSTEM_ROLES, as_chat, declared_in, has_call, right_answer
from finetune.data.hashes import xxh3_64
from finetune.data.readers import read_rows
from finetune.data.redaction import redact

Messages = list[dict[str, Any]]

ASKS_A_MODEL = ("score_model", "label_model", "multi")  # types of graders; those in a multi may ask one


def load_questions(params: Params) -> Questions:
    """Load the questions that `validate` wrote. Raises FinetuneError if params.yaml has changed since."""
    questions: Questions = read_json(QUESTIONS, "validate", Questions)
    if questions != questions_of(params):
        raise FinetuneError(f"params.yaml or data changed after {QUESTIONS} was written.", "Run: dvc repro validate")
    return questions


def questions_of(params: Params) -> Questions:
    """Collect the questions of a project. Raises FinetuneError naming a regression set that cannot be asked."""
    prepared = read_prepare_report()
    settings, provider = params.evaluate, params.provider
    return {
        "provider": {
            "name": provider.name,
            "base_url": provider.base_url,
            "base_deployment": provider.base_deployment,
        },
        "base": params.train.base,
        "seed": params.train.seed,
        "max_tokens": settings.max_tokens,
        "temperature": settings.temperature,
        "stop": settings.stop,
        "presence_penalty": settings.presence_penalty,
        "frequency_penalty": settings.frequency_penalty,
        "top_logprobs": settings.top_logprobs if settings.task == "classify" else 0,
        "few_shot": without_tools(few_shot_examples(settings.few_shot)),
        "completion": prepared["completion"],
        "compare": settings.compare,
        "also": {
            name: {"max_tokens": one.max_tokens, "examples": redact_each(regression_examples(name, one), params)}
            for name, one in settings.also.items()
        },
        "graders": {
            name: definition
            for name, definition in settings.graders.items()
            if isinstance(definition, dict) and definition.get("type") in ASKS_A_MODEL
        },
        "judge": settings.judge.model_dump() if settings.judge else None,
    }


def few_shot_examples(count: int) -> list[Example]:
    """Choose training examples for a prompt: always the same, and one of each answer before a second of any."""
    if not count:
        return []
    examples = in_rounds(map(as_chat, each_jsonl(PREPARED / "train.jsonl", "prepare", PreparedExample)))
    return [example for *_, example in nsmallest(count, examples, key=lambda one: one[:2])]


def without_tools(shots: list[Example]) -> list[Example]:
    """Return examples for a prompt. Raises FinetuneError if one declares tools: its calls would need their results."""
    if any(map(declared_in, shots)):
        raise FinetuneError("evaluate.few_shot cannot show examples with tools.", "Set evaluate.few_shot to 0.")
    return shots


def in_rounds(examples: Iterable[Example]) -> Iterator[tuple[int, int, Example]]:
    """Yield each example with the number of earlier ones of the same answer, and its place."""
    seen: Counter[int] = Counter()  # by the hash of the answer: the texts may be larger than memory
    for place, example in enumerate(examples):
        if "messages" not in example:
            raise FinetuneError("evaluate.few_shot needs chat examples.", "Set evaluate.few_shot to 0.")
        answer = xxh3_64(right_answer(example["messages"][-1]).encode("utf-8", "surrogatepass"))
        yield seen[answer], place, example
        seen[answer] += 1


def turns_of_shots(shots: Sequence[Example]) -> Messages:
    """Return the turns of examples that are put before a question, without their system prompts."""
    return [turn for shot in shots for turn in shot["messages"] if turn["role"] not in SYSTEM_ROLES]


def prompt_of(messages: Messages, before: Messages) -> Messages:
    """Return a conversation with other turns before it, after its system message, and without training weights."""
    system = [turn for turn in messages[:1] if turn["role"] in SYSTEM_ROLES]
    turns = [*system, *before, *messages[len(system) :]]
    return [{key: value for key, value in turn.items() if key != "weight"} for turn in turns]


def regression_examples(name: str, settings: Also) -> list[Example]:
    """Read the chat examples of a regression set. Raises FinetuneError naming the row that is not one."""
    try:
        examples: list[dict[str, Any]] = list(read_rows(Path(settings.file), keep_all=True)[0])
    except FinetuneError as error:
        raise FinetuneError(
            f"evaluate.also.{name}: {error.what}", f"Correct the file, or evaluate.also.{name}.file in params.yaml."
        ) from error
    for number, example in enumerate(examples, 1):
        if not is_question_with_answer(example.get("messages")):
            raise FinetuneError(
                f"evaluate.also.{name}: {settings.file}, row {number}: no messages that end with an answer.",
                "Write one chat example per line, as a JSON object. Each message has a role, and a content or calls.",
            )
    return examples


def redact_each(examples: Sequence[Example], params: Params) -> list[Example]:
    """Return examples as the model was trained on them: without the kinds of data.redact."""
    return [redact(example, params.data.redact) for example in examples]


def is_question_with_answer(turns: Any) -> bool:
    """Return whether a value is a conversation with at least one question, and an answer at its end."""
    return (
        isinstance(turns, list)
        and len(turns) > 1
        and all(isinstance(turn, dict) and "role" in turn and ("content" in turn or has_call(turn)) for turn in turns)
        and turns[-1]["role"] == "assistant"
    )
