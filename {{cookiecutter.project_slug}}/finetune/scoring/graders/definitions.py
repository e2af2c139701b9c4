"""The types of OpenAI's grader definitions in `evaluate.graders`. Source: OpenAI's guide to graders."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from finetune.core.sections.section import Section


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


def model_graders(grader: Grader) -> list[ScoreModel | LabelModel]:
    """Return the graders that ask a model: the grader itself, or those of a multi grader."""
    inner = grader.graders.values() if isinstance(grader, Multi) else [grader]
    return [one for one in inner if isinstance(one, (ScoreModel, LabelModel))]
