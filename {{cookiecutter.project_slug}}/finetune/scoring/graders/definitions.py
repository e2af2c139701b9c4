"""OpenAI's grader definitions in `evaluate.graders`: their types, and how they are checked.

Source: OpenAI's guide to graders.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from finetune.core.errors import FinetuneError
from finetune.core.params import Section, explain
from finetune.scoring.graders.python_grader import started

NAMES = ("sample.output_text", "item.asked", "item.expected", "item.reference")  # what a template can name
VARIABLE = re.compile(r"\{\{([^{}]*)\}\}")

REFUSED_TYPES = {
    "multi": "Give each of its graders a name: each has a score.",
    "label_model": "Write a score_model whose prompt gives the score of each label.",
}
REFUSED_METRICS = {
    "meteor": "it needs WordNet, which would have to be downloaded",
    "cosine": "it needs an embeddings model, which would have to be asked or downloaded",
}


class StringCheck(Section):
    name: str
    type: Literal["string_check"]
    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(Section):
    name: str
    type: Literal["text_similarity"]
    input: str
    reference: str
    evaluation_metric: Literal[
        "fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
    ]


class Python(Section):
    name: str
    type: Literal["python"]
    source: str


class Message(Section):
    role: Literal["user", "assistant", "system", "developer"]
    content: str


class Sampling(Section):
    """OpenAI's names. `max_completions_tokens` is called max_completion_tokens in a chat request."""

    seed: int | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: str | None = None


class ScoreModel(Section):
    name: str
    type: Literal["score_model"]
    model: str
    input: Annotated[list[Message], Field(min_length=1)]
    range: Annotated[tuple[float, float], Field(strict=False)] = (0, 1)
    sampling_params: Sampling = Sampling()

    @field_validator("range")
    @classmethod
    def is_ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not -math.inf < value[0] < value[1] < math.inf:
            raise ValueError("give two numbers, the lower first")
        return value


Grader = StringCheck | TextSimilarity | Python | ScoreModel
KINDS: dict[str, type[Grader]] = {
    "string_check": StringCheck,
    "text_similarity": TextSimilarity,
    "python": Python,
    "score_model": ScoreModel,
}


def check_graders(definitions: Mapping[str, Any]) -> list[Grader]:
    """Return the graders of a project. Raises FinetuneError for an invalid name or definition."""
    for name in definitions:
        if not re.fullmatch(r"\w+", name):
            raise FinetuneError(
                f"evaluate.graders: {name!r} is not a valid name.", "Use only letters, digits and underscores."
            )
    return [check_grader(name, definition) for name, definition in definitions.items()]


def check_grader(name: str, definition: Any) -> Grader:
    """Return the grader of a definition. Raises FinetuneError naming the grader and the invalid key.

    The source of a python grader is run once, without a row, so that its mistakes are found before anything is asked.
    """
    where = f"evaluate.graders.{name}"
    kind = definition.get("type") if isinstance(definition, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise FinetuneError(
            f"{where}: graders of type {kind!r} are not supported.",
            REFUSED_TYPES.get(str(kind), f"Supported types: {', '.join(KINDS)}."),
        )
    metric = definition.get("evaluation_metric")
    if kind == "text_similarity" and metric in REFUSED_METRICS:
        raise FinetuneError(
            f"{where}: {metric} is not supported: {REFUSED_METRICS[metric]}.",
            "Use fuzzy_match, bleu, gleu, rouge_1 to rouge_5 or rouge_l.",
        )
    try:
        grader = KINDS[kind].model_validate({**definition, "name": name})
    except ValidationError as error:
        raise FinetuneError(f"{where}: " + "; ".join(explain(problem) for problem in error.errors())) from error
    try:
        for template in templates_of(grader):
            render(template, dict.fromkeys(NAMES, ""))
    except FinetuneError as error:
        raise FinetuneError(f"{where}: {error.what}", error.remedy) from None
    if isinstance(grader, Python):
        with started(name, grader.source):
            pass
    return grader


def templates_of(grader: Grader) -> list[str]:
    """Return the texts of a grader that may hold `{{ names }}`."""
    if isinstance(grader, ScoreModel):
        return [message.content for message in grader.input]
    return [] if isinstance(grader, Python) else [grader.input, grader.reference]


def variables(item: Mapping[str, str], answer: str) -> dict[str, str]:
    """Return the values of the names for one row; an item has `asked` and `expected`."""
    expected = item["expected"]
    return dict(zip(NAMES, (answer, item["asked"], expected, expected), strict=True))


def render(template: str, known: Mapping[str, str]) -> str:
    """Replace the `{{ names }}` of a template, once: inserted text is not searched for names.

    Raises FinetuneError for an unknown name, and for braces that are not closed.
    """
    wrong = sorted({found.strip() for found in VARIABLE.findall(template)} - set(known))
    if wrong or "{{" in VARIABLE.sub("", template):
        raise FinetuneError(
            f"a template cannot name {', '.join(wrong)}." if wrong else "a template has {{ without its }}.",
            f"It can name {', '.join(f'{{{{ {name} }}}}' for name in known)}.",
        )
    return VARIABLE.sub(lambda found: known[found[1].strip()], template)
