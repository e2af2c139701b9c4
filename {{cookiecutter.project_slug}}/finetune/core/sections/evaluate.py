"""The section `evaluate` of params.yaml: what models are asked, and how their answers are compared."""

from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from finetune.core.sections.section import Section
from finetune.core.task import Task

ANSWERING: Final = ("max_tokens", "temperature", "stop", "presence_penalty", "frequency_penalty")  # how models answer


class Also(Section):
    """A regression set: a test file of chat examples on which the tuned model may be worse by at most `margin`."""

    file: str
    task: Task
    margin: Annotated[float, Field(ge=0, le=1)]
    max_tokens: Annotated[int, Field(ge=1)] = 64


class Judge(Section):
    """A model that chooses the better of two answers."""

    model: str
    instructions: str | None = None


class Rescued(Section):
    """A model that was shut down: the file of its recorded answers, and how much worse the tuned model may be."""

    model: str
    answers: str
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05


class Evaluate(Section):
    model_config = ConfigDict(validate_by_name=True)

    task: Task = "classify"
    metric: str | None = None  # that models are compared by; None: the first of the task
    answer_schema: Annotated[str | None, Field(alias="schema")] = None
    beta: Annotated[float, Field(gt=0)] | None = None
    few_shot: Annotated[int, Field(ge=0, le=100)] = 0
    compare: list[Annotated[str, Field(min_length=1)]] = []
    also: dict[str, Also] = {}
    graders: dict[str, dict[str, Any]] = {}
    judge: Judge | None = None
    rescued: Rescued | None = None
    require: dict[str, str] = {}
    max_tokens: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0, le=2)]
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)] = []  # texts that end an answer
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 20
    concurrency: Annotated[int, Field(ge=1, le=500)]
    batch: bool = False
