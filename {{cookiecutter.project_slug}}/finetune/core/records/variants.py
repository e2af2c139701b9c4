"""The types of trainings with other seeds or fewer rows, and of what their scores show."""

from typing import Any

from typing_extensions import NotRequired, TypedDict

from finetune.core.records.costs import Usd
from finetune.core.records.training import FilesRecord


class VariantScores(TypedDict):
    """What a variant's model answered to the test rows."""

    settings: str  # SHA-256 of the test rows and of all settings that decide answers and scores
    metric: str
    score: float
    low: float  # 95 % interval over the test rows
    high: float
    failed: int  # rows without an answer
    rows: str  # the score of each test row, separated by spaces


class VariantRecord(TypedDict):
    """models/variants/<name>.json: a training with another seed or fewer rows than that of models/model.json, or that.

    It has no model before the job has ended, and no scores before the test rows are answered.
    """

    provider: str
    base: str
    recipe: str  # SHA-256 of the whole data and of all settings but the seed, which variants have in common
    seed: int
    share: float  # of the training rows
    rows: int
    fingerprint: str  # of the job, as in models/model.json
    files: FilesRecord
    job: str
    model: NotRequired[str]
    checkpoints: NotRequired[list[str]]  # all models of the job
    step: NotRequired[int | None]  # of the chosen checkpoint
    choice: NotRequired[str]  # what has chosen it (`choice_of` in scoring/trainings.py)
    n_epochs: NotRequired[int | str | None]
    trained_tokens: NotRequired[int | None]
    usd: NotRequired[Usd]
    scores: NotRequired[VariantScores]


class Trainings(TypedDict):
    """`trainings` of the evaluation: how much the score differs between trainings with different seeds.

    The other figures of the evaluation are of one of them; their intervals are over the test rows.
    """

    n: int
    seeds: list[int]
    mean: float
    least: float
    most: float
    sd: float  # standard deviation between trainings
    sd_low: float  # its 95 % interval
    sd_high: float | None  # None: the scores are all the same, which does not show how much more trainings differ
    rank: int  # of the evaluated model among the trainings; 1 is the best
    share_of_lift: float | None  # sd, as a share of the lift over base; None where that is 0
    share_of_rival_lift: NotRequired[float | None]  # the same for the strongest other model
    above_rival: NotRequired[int]  # trainings that score above it
    verdict: str


class CurveLevel(TypedDict):
    """The fitted score for a number of training rows, with its 95 % interval."""

    rows: int
    score: float
    low: float
    high: float


class CurveFit(TypedDict):
    """A power law through the scores by training rows, and what twice the rows would bring."""

    best_score: float  # with rows without end
    exponent: float
    spread_between_trainings: float  # standard deviation of the score at the largest number of rows
    spread_from_trainings: int  # repeated trainings that it comes from; 0: it is assumed
    fits: bool  # False: the scores do not follow such a law
    gain: float  # of twice the rows, over the fitted score at the largest number of rows
    gain_low: float
    gain_high: float
    now: CurveLevel  # at the largest number of rows, by the law, not as measured
    twice: CurveLevel
    line: list[CurveLevel]  # from the smallest number of rows to twice the largest


class CurveRow(TypedDict):
    """One row of reports/learning_curve.csv: a training, or a point of the fitted law."""

    kind: str  # trained or fitted
    rows: int
    seed: int | str  # "" for fitted
    n_epochs: Any
    score: float
    low: float  # 95 % interval: of a training over the test rows, of the law for another training and other test rows
    high: float
    usd: Any
    model: str


class LearningCurve(TypedDict):
    """The output of `finetune learning-curve --json`."""

    metric: str
    test_rows: int
    points: list[CurveRow]
    fit: CurveFit | None  # None: fewer than three numbers of rows
    verdict: str
    notes: list[str]
