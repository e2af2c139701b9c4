"""The types of what ships, and of what was measured with it."""

from typing_extensions import NotRequired, TypedDict

from finetune.core.records.answers import AnsweredBy, Latency


class ExportedFile(TypedDict):
    sha256: str
    bytes: int


class ExportScores(TypedDict):
    """How a format's answers to the test rows compare with those of the tuned model that was measured."""

    agreement: float  # share of equal answers
    metric: str
    score: float
    low: float  # 95 % interval
    high: float
    difference: float  # to the measured model
    difference_low: float
    difference_high: float
    p_value: float
    test: str
    margin: float
    kept: int  # 1: shown to be worse by no more than the margin
    logprob_difference: NotRequired[float]  # mean absolute difference of a token's log-probability, in equal answers
    failed: int  # rows without an answer
    bytes: int  # of all files
    verdict: str


class ExportManifest(TypedDict):
    """exports/<format>/manifest.json: where the files come from, and what was measured with them."""

    format: str
    files: dict[str, ExportedFile]  # by name; all of the folder but this one
    model: str
    job: str
    fingerprint: str  # of models/model.json
    base: str
    base_weights: str  # SHA-256 of the digests of the base's weights
    commit: str  # of the project, when it was exported; "" outside of Git
    data: str | None  # SHA-256 of the training file
    scores: ExportScores


class ExportReport(TypedDict):
    """reports/export.json. Without formats, `export` is empty and only that is there."""

    export: dict[str, ExportScores]  # by format
    n: NotRequired[int]  # test rows
    evaluated: NotRequired[AnsweredBy]  # what the formats are compared with
    tuned: NotRequired[float]  # score of the measured model
    gates_met: NotRequired[int]  # with export.require
    gates_failed: NotRequired[list[str]]


class ExportSpeed(Latency, total=False):
    """One format in reports/export_speed.json. It differs from run to run, so report.md is without it."""

    tokens_per_second: float  # of answers
