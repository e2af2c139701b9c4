"""OpenAI's grader definitions in `evaluate.graders`: their types, and how they are checked.

Source: OpenAI's guide to graders.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from finetune.core.errors import FinetuneError
from finetune.core.invalid_values import explain
from finetune.core.sections.section import Section
from finetune.scoring.answer_json import json_in
from finetune.scoring.graders.formula import names_in
from finetune.scoring.graders.python_grader import started

# What a template can name. The value may be followed by a path into its JSON: `item.expected.city`, `[0]`.
NAMES = (
    "sample.output_text",
    "sample.output_json",
    "sample.output_tools",
    "item.asked",
    "item.expected",
    "item.reference",
)
STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
VARIABLE = re.compile(r"\{\{([^{}]*)\}\}")

REFUSED_TYPES = {
    "endpoint": "It would send each answer to a server of yours: call that from a python grader's project instead.",
}
REFUSED_METRICS = {
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
        "fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
    ]


class Python(Section):
    name: str
    type: Literal["python"]
    source: str
    image_tag: str | None = None  # of OpenAI's machines; here the source runs with this project's packages


class Text(Section):
    type: Literal["input_text", "output_text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None  # has no counterpart in chat requests


class Image(Section):
    type: Literal["input_image"]
    image_url: str
    detail: str | None = None


class Sound(Section):
    data: str
    format: Literal["mp3", "wav"]


class Audio(Section):
    type: Literal["input_audio"]
    input_audio: Sound


Part = str | Text | Image | Audio


class Message(Section):
    role: Literal["user", "assistant", "system", "developer"]
    content: Part | list[Part]
    type: Literal["message"] | None = None

    @property
    def parts(self) -> list[Part]:
        return self.content if isinstance(self.content, list) else [self.content]


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

    @field_validator("range", mode="before")
    @classmethod
    def default_range(cls, value: Any) -> Any:
        return (0, 1) if value is None else value

    @field_validator("sampling_params", mode="before")
    @classmethod
    def default_sampling(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("range")
    @classmethod
    def is_ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not -math.inf < value[0] < value[1] < math.inf:
            raise ValueError("give two numbers, the lower first")
        return value


class LabelModel(Section):
    name: str
    type: Literal["label_model"]
    model: str
    input: Annotated[list[Message], Field(min_length=1)]
    labels: Annotated[list[str], Field(min_length=1)]
    passing_labels: Annotated[list[str], Field(min_length=1)]

    @field_validator("passing_labels")
    @classmethod
    def are_labels(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if unknown := sorted(set(value) - set(info.data.get("labels", value))):
            raise ValueError(f"{', '.join(unknown)} is not among the labels")
        return value


Single = StringCheck | TextSimilarity | Python | ScoreModel | LabelModel


@dataclass(frozen=True)
class Multi:
    """Several graders, and the formula that combines their scores."""

    name: str
    graders: dict[str, Single]
    calculate_output: str


Grader = Single | Multi
KINDS: dict[str, type[Single]] = {
    "string_check": StringCheck,
    "text_similarity": TextSimilarity,
    "python": Python,
    "score_model": ScoreModel,
    "label_model": LabelModel,
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
    if kind == "multi":
        return check_multi(name, definition)
    if not isinstance(kind, str) or kind not in KINDS:
        raise FinetuneError(
            f"{where}: graders of type {kind!r} are not supported.",
            REFUSED_TYPES.get(str(kind), f"Supported types: {', '.join(KINDS)}, multi."),
        )
    metric = definition.get("evaluation_metric")
    if kind == "text_similarity" and metric in REFUSED_METRICS:
        raise FinetuneError(
            f"{where}: {metric} is not supported: {REFUSED_METRICS[metric]}.",
            "Use fuzzy_match, bleu, gleu, meteor, rouge_1 to rouge_5 or rouge_l.",
        )
    try:
        grader = KINDS[kind].model_validate({**definition, "name": name})
    except ValidationError as error:
        raise FinetuneError(f"{where}: " + "; ".join(explain(problem) for problem in error.errors())) from error
    try:
        for template in templates_of(grader):
            check_names(template)
    except FinetuneError as error:
        raise FinetuneError(f"{where}: {error.what}", error.remedy) from None
    if isinstance(grader, Python):
        with started(name, grader.source):
            pass
    return grader


def templates_of(grader: Single) -> list[str]:
    """Return the texts of a grader that may hold `{{ names }}`."""
    if isinstance(grader, (ScoreModel, LabelModel)):
        return [text for message in grader.input for part in message.parts if (text := text_of(part))]
    return [] if isinstance(grader, Python) else [grader.input, grader.reference]


def text_of(part: Part) -> str:
    """Return the text of a part of a message that may hold `{{ names }}`."""
    return part if isinstance(part, str) else part.text if isinstance(part, Text) else getattr(part, "image_url", "")


def check_multi(name: str, definition: Mapping[str, Any]) -> Multi:
    """Return a multi grader. `graders` has definitions by name, a list of named ones, or one."""
    where = f"evaluate.graders.{name}"
    given = definition.get("graders")
    if isinstance(given, Mapping) and isinstance(given.get("type"), str):
        given = [given]
    if isinstance(given, list):
        given = {str(one.get("name")) if isinstance(one, Mapping) else "": one for one in given}
    if not isinstance(given, Mapping) or not given or not all(re.fullmatch(r"[^\W\d]\w*", str(one)) for one in given):
        raise FinetuneError(f"{where}.graders: give at least one grader, each with a name of letters and digits.")
    if unknown := sorted(set(definition) - {"type", "name", "graders", "calculate_output"}):
        raise FinetuneError(f"{where}: {', '.join(unknown)} is not a key of a multi grader.")
    graders: dict[str, Single] = {}
    for one, inner in given.items():
        found = check_grader(f"{name}.{one}", inner)
        if isinstance(found, Multi):
            raise FinetuneError(f"{where}.{one}: a multi grader cannot hold another one.")
        graders[str(one)] = found
    formula = definition.get("calculate_output")
    try:
        names = names_in(str(formula)) if isinstance(formula, str) else set()
    except ValueError as error:
        raise FinetuneError(f"{where}.calculate_output: {error}.") from None
    if not names or names - set(graders):
        wrong = f"it names {', '.join(sorted(names - set(graders)))}" if names else "name the graders in it"
        raise FinetuneError(f"{where}.calculate_output: {wrong}.", f"It can name {', '.join(graders)}.")
    return Multi(name, graders, str(formula))


def model_graders(grader: Grader) -> list[ScoreModel | LabelModel]:
    """Return the graders that ask a model: the grader itself, or those of a multi grader."""
    inner = grader.graders.values() if isinstance(grader, Multi) else [grader]
    return [one for one in inner if isinstance(one, (ScoreModel, LabelModel))]


def variables(item: Mapping[str, str], answer: str) -> dict[str, str]:
    """Return the values of the names for one row; an item has `asked` and `expected`."""
    read = json_in(answer)
    tools = read.get("tool_calls") if isinstance(read, Mapping) else None
    texts = (answer, "" if read is None else as_text(read), as_text(tools or []))
    return dict(zip(NAMES, (*texts, item["asked"], item["expected"], item["expected"]), strict=True))


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def split_path(name: str) -> tuple[str, str]:
    """Return the value that a name begins with, and the path after it; "" for an unknown one."""
    for known in NAMES:
        path = name.removeprefix(known)
        if path != name and not STEP.sub("", path):
            return known, path
    return "", ""


def check_names(template: str) -> None:
    """Raise FinetuneError for an unknown name in a template, and for braces that are not closed."""
    wrong = sorted({one for found in VARIABLE.findall(template) if not split_path(one := found.strip())[0]})
    if wrong or "{{" in VARIABLE.sub("", template):
        raise FinetuneError(
            f"a template cannot name {', '.join(wrong)}." if wrong else "a template has {{ without its }}.",
            f"It can name {', '.join(f'{{{{ {name} }}}}' for name in NAMES)}.",
        )


def render(template: str, known: Mapping[str, str]) -> str:
    """Replace the `{{ names }}` of a template, once: inserted text is not searched for names.

    Raises LookupError for a path that a row's JSON does not have.
    """
    return VARIABLE.sub(lambda found: value_of(found[1].strip(), known), template)


def value_of(name: str, known: Mapping[str, str]) -> str:
    """Return the value of a name with its path. Raises LookupError where there is none."""
    root, path = split_path(name)
    if not path and (known[root] or root != "sample.output_json"):
        return known[root]
    value = json_in(known[root])
    for key, index in STEP.findall(path) or [("", "")]:
        place = index or (key if isinstance(value, list) and key.isdecimal() else "")
        if isinstance(value, list) and place and int(place) < len(value):
            value = value[int(place)]
        elif isinstance(value, Mapping) and not index and key in value:
            value = value[key]
        else:
            raise LookupError(f"this row has no {name}")
    return as_text(value)
