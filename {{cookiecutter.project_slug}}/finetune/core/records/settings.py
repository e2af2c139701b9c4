"""The types of the files by which validate tells later stages what to upload, train, ask and export."""

from typing import Any

from typing_extensions import NotRequired, TypedDict

from finetune.core.records.prepared import CompletionMarks, Example


class ServerAddress(TypedDict):
    """What identifies the server: `provider.name` and `provider.base_url`."""

    name: str
    base_url: str | None


class CheckedSplits(TypedDict):
    """data/prepared/checked.json: the splits that have no mistakes, and where they are uploaded.

    `upload` depends on this file, and not on parameters or on the report of `validate`. So another price, a new warning
    or a budget uploads nothing.
    """

    method: str
    examples: dict[str, int]  # by split
    server: ServerAddress


class TrainingSettings(TypedDict):
    """data/prepared/training.json: everything that decides the job and the choice of its checkpoint, beside the data.

    `train` depends on this file and not on parameters.
    """

    server: ServerAddress
    base: str
    continue_from: str | None  # train.from
    method: str
    hyperparameters: dict[str, Any]  # as asked, `auto` included
    seed: int
    suffix: str | None
    training_type: str | None
    integrations: list[dict[str, Any]]
    choose: str
    metric: dict[str, Any] | None  # with choose best_metric: what decides that metric


class AnswerSettings(TypedDict):
    """What decides how a model answers a question."""

    seed: int
    max_tokens: int
    temperature: float
    stop: list[str]
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    completion: CompletionMarks | None


class ExportSettings(TypedDict):
    """data/prepared/export.json: what is exported. `export` depends on it, and not on parameters or questions.json.

    So other questions of `evaluate.also`, or to a judge, export nothing again.
    """

    formats: list[str]
    base: NotRequired[str | None]  # export.base; absent without formats, as all that follows
    margin: NotRequired[float]
    require: NotRequired[dict[str, str]]
    answers: NotRequired[AnswerSettings]


class RegressionSet(TypedDict):
    """Chat examples of one entry of evaluate.also, and how long an answer may be."""

    max_tokens: int
    examples: list[Example]


class Questions(AnswerSettings):
    """data/prepared/questions.json: everything that decides what models are asked, beside the splits.

    `baseline` and `tuned` depend on this file and not on parameters, so a change of a parameter that only scoring reads
    (a gate, a margin, the order of labels) does not run them again.
    """

    provider: dict[str, str | None]  # name, base_url, base_deployment
    base: str
    few_shot: list[Example]  # in the prompt of the third model
    compare: list[str]
    also: dict[str, RegressionSet]
    graders: dict[str, dict[str, Any]]  # those of evaluate.graders that ask a model
    judge: dict[str, str | None] | None  # model, instructions
