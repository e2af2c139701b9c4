"""The types of the evaluation: the scores of each model, and how they differ."""

from typing import Any

from typing_extensions import NotRequired, TypedDict

from finetune.core.records.answers import AnsweredBy
from finetune.core.records.variants import Trainings

Metrics = dict[str, Any]  # a model's figures by name: `accuracy`, `accuracy_low`, …; `fields` maps names to F1


class PairedDifference(TypedDict):
    """The mean difference of one set of answers to another on the same rows."""

    lift: float
    low: float
    high: float
    p_value: float
    test: str
    wins: int
    losses: int
    groups: int  # of rows, that are independent of each other; the number of rows where each is
    fresh_rows: int | None  # another test set of this size would show the difference in 4 of 5 cases


class LiftOnAnswered(TypedDict):
    """`lift_on_answered` of the evaluation: the difference to the base on the rows that both answered."""

    n: int  # rows that both answered
    base_unanswered: int
    tuned_unanswered: int
    lift: NotRequired[float]  # absent without such rows, with the figures after it
    low: NotRequired[float]
    high: NotRequired[float]
    p_value: NotRequired[float]
    verdict: str


class RegressionResult(TypedDict):
    """`also.<name>` of the evaluation."""

    task: str
    metric: str
    n: int
    base: float
    tuned: float
    lift: float
    low: float
    high: float
    margin: float
    kept: int  # 1: shown to be worse by no more than the margin
    base_unanswered: NotRequired[int]  # rows that are left out; not in evaluations of earlier versions
    tuned_unanswered: NotRequired[int]  # rows that count as wrong
    verdict: str
    groups: NotRequired[int]  # of rows, that are independent of each other; absent where each row is


class JudgeResult(TypedDict):
    """`judge` of the evaluation: how often the tuned model's answer is preferred."""

    n: int
    wins: int
    losses: int
    ties: int
    flipped: int  # ties because the choice changed with the order
    unreadable: int
    p_value: float
    first_share: float | None  # of all choices, how many fell on the answer shown first
    verdict: str


class PreferenceResult(TypedDict):
    """`preferences` of the evaluation, for train.method dpo: how probable the preferred answers of the test pairs are.

    The numbers after the first two are missing if no pair was measured.
    """

    pairs: int  # test pairs that both models scored
    not_measured: int  # further test pairs
    base: NotRequired[float]  # share of the pairs in which the preferred answer is the more probable one
    tuned: NotRequired[float]
    lift: NotRequired[float]  # of that share, with its 95 % interval
    lift_low: NotRequired[float]
    lift_high: NotRequired[float]
    p_value: NotRequired[float]
    base_margin: NotRequired[float]  # mean difference of the two answers' log-probabilities
    tuned_margin: NotRequired[float]
    margin_lift: NotRequired[float]  # of that mean, with its 95 % interval
    margin_low: NotRequired[float]
    margin_high: NotRequired[float]
    margin_p_value: NotRequired[float]
    verdict: str


class Evaluation(TypedDict):
    """reports/evaluation.json. Names that users choose are keys of `compared`, `also` and `graders` only."""

    task: str
    evaluated: NotRequired[AnsweredBy]  # not in evaluations of earlier versions
    metric: str  # the name of the metric that models are compared by
    n: int  # test rows
    groups: NotRequired[int]  # of test rows, that are independent of each other; absent where each row is
    base: Metrics
    few_shot: NotRequired[Metrics]
    tuned: Metrics
    checkpoints: NotRequired[dict[str, Metrics]]  # by step; each with its own `lift`
    rescued: NotRequired[Metrics]  # a model that was shut down, with `lift`, `margin`, `kept`, `verdict` and `model`
    compared: NotRequired[dict[str, Metrics]]  # by the name in evaluate.compare; each with its own `lift`
    floors: NotRequired[dict[str, Metrics]]  # what costs nothing, by name; each with its own `lift`
    lift: Metrics  # of tuned over base
    lift_on_answered: NotRequired[LiftOnAnswered]  # where one of them did not answer some rows
    rival: NotRequired[Metrics]  # of tuned over the strongest other model, whose name is `name`
    lift_over_few_shot: NotRequired[Metrics]
    trainings: NotRequired[Trainings]  # with `finetune repeat`
    graders: NotRequired[dict[str, dict[str, Any]]]  # by name: base, few_shot, tuned, lift, checkpoints, compared
    judge: NotRequired[JudgeResult]
    preferences: NotRequired[PreferenceResult]  # with train.method dpo
    also: dict[str, RegressionResult]
    saved_prompt_tokens: NotRequired[float]  # of a call, against few_shot
    saved_usd_per_1000: NotRequired[float]  # of 1,000 calls, against few_shot
    gates_met: NotRequired[int]  # with evaluate.require
    gates_failed: NotRequired[list[str]]


class CommitComparison(TypedDict):
    """The output of `finetune compare --json`."""

    n: int  # rows that both answered
    metric: str
    left_out: int  # rows that only one of them answered
    before: Metrics  # with `revision`
    after: Metrics
    lift: PairedDifference
    verdict: str
    differences: dict[str, list[Any]]  # of their records: before and after
