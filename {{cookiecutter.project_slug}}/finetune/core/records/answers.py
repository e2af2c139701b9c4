"""The types of what models answered, and how fast."""

from typing import Any

from typing_extensions import NotRequired, TypedDict

Alternatives = list[tuple[str, float | None]]  # one token: the chosen one, then others, each with its log-probability


class Prediction(TypedDict):
    """One row of predictions/*.jsonl: what was asked, expected and answered."""

    asked: str
    expected: str
    answer: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: NotRequired[int]  # of the prompt's, where the provider had some in its cache
    seconds: NotRequired[float]  # in memory only: a file with it would differ each time
    logprobs: NotRequired[list[Alternatives]]  # by token of the answer
    cut: NotRequired[bool]  # the answer ended at evaluate.max_tokens
    refused: NotRequired[bool]  # by the model or the provider's filter; `answer` is its refusal
    error: NotRequired[str]  # why there is no answer
    margin: NotRequired[float]  # of a preference: log-probability of the preferred answer less that of the other one


class NamedPrediction(Prediction):
    """One row of predictions/compared.jsonl."""

    model: str  # `checkpoints.<step>` or `compared.<name>`
    commit: NotRequired[str]  # of `compared.<name>` when its model was asked, in 12 digits
    base: NotRequired[str]  # of `compared.<name>`, which decides its price


class RegressionPrediction(Prediction):
    """One row of predictions/base_also.jsonl and tuned_also.jsonl."""

    set: str  # the key in evaluate.also


class ExportedPrediction(Prediction):
    """One row of predictions/exported.jsonl."""

    format: str


class RecordedAnswer(TypedDict):
    """One row of data/rescued/<name>/answers*.jsonl: a question to a model before it was shut down, and its answer."""

    messages: list[dict[str, Any]]  # that end with the model's answer, unless there is an error
    place: str  # file and row of the question
    expected: NotRequired[str]  # the answer in that file
    prompt_tokens: NotRequired[int | None]
    completion_tokens: NotRequired[int | None]
    logprobs: NotRequired[list[Alternatives]]
    cut: NotRequired[bool]
    max_tokens: NotRequired[int]  # at which it was cut
    refused: NotRequired[bool]
    error: NotRequired[str]
    trained: NotRequired[bool]  # in the file of evaluate.rescued: the model was trained on this question
    is_expected: NotRequired[bool]  # in that file: this answer counts as the right one, because there is no other


class KeptAnswers(TypedDict):
    """A line of `finetune answers list`: answers that are kept for all projects of this user.

    Of answers of an earlier version, provider, name and model are "", and the times are null.
    """

    provider: str
    asked: str  # the name by which the model was asked
    model: str  # what the provider says has answered, or that the deployment had
    fingerprint: str
    answers: int
    first: int | None  # in seconds since 1970
    last: int | None


class GraderReply(TypedDict):
    """One row of predictions/grader_replies.jsonl."""

    grader: str
    model: str
    reply: str | None  # None: refused


class JudgeReply(TypedDict):
    """One row of predictions/judge_replies.jsonl: two a test row, base first and then tuned first."""

    reply: str | None


class AnsweredBy(TypedDict):
    """predictions/answered_by.json: what the answers of the tuned model belong to."""

    model: str
    fingerprint: str  # of models/model.json
    test_rows: str  # SHA-256 of data/prepared/test.jsonl


class Latency(TypedDict, total=False):
    median_ms: float
    p95_ms: float


Latencies = dict[str, Latency]  # predictions/latency.json, predictions/tuned_latency.json and reports/latency.json
