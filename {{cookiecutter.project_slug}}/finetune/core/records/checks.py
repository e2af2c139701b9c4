"""The types of what is found in the data before they are sent: by validate, and by commands that check them."""

from typing import Literal

from typing_extensions import NotRequired, TypedDict

from finetune.core.records.costs import BreakEvenEstimate, TrainingEstimate, Usd


class ReplayAccount(TypedDict):
    """Where every example of train.replay.file has gone.

    examples = rows + duplicate + same_question + near_duplicate + not_needed.
    """

    file: str
    examples: int
    rows: int  # mixed into the training rows
    wanted: int  # by train.replay.share; more than `rows` if the file has too few
    share: float  # of `rows` in the uploaded file
    duplicate: int
    same_question: int  # as a row of a split or of evaluate.also
    near_duplicate: int  # of a row of valid, test or evaluate.also
    not_needed: int


class ValidationReport(TypedDict):
    """reports/validation.json: what was checked, and what it will cost."""

    examples: dict[str, int]  # by split
    replay: NotRequired[ReplayAccount]
    errors: int
    warnings: dict[str, int]  # by code
    longest_example_tokens: int
    train_tokens_per_epoch: int  # with those of train.replay
    train_usd_per_epoch: Usd
    # False: the base's tokenizer is not known here, and another one counts; or tokens_at_least; or examples declare or
    # call functions, which a server counts in its own way
    tokens_exact: bool
    tokens_at_least: bool  # True: the training data have more, in images whose size or price is not known
    auto: TrainingEstimate  # for the epochs that `auto` gives
    planned: TrainingEstimate  # for train.n_epochs
    evaluate_usd_at_most: dict[str, Usd]  # base, tuned, and few_shot with evaluate.few_shot
    break_even_calls: int | str | None  # calls after which the planned training has paid for itself; None: never
    break_even: NotRequired[BreakEvenEstimate]  # not in reports of earlier versions
    # The smallest difference of the mean scores that the test split shows (two-sided test at 0.05, power 0.8). Assumed:
    # a fifth of the answers change; for extract and generate, a standard deviation of the differences of 0.3 and 0.2;
    # and a correlation of 0.3 within groups of rows. None: too few rows or groups for any.
    detectable_difference: float | None
    difference_assumes: str  # in words
    test_groups: NotRequired[int]  # of test rows, that are independent of each other; absent where each row is


class FindingRecord(TypedDict):
    """One finding of `finetune check --format json`."""

    code: str
    severity: Literal["error", "warning"]
    file: str
    line: int  # from 1; 0 is the whole file
    message: str
    fix: str


class CheckReport(TypedDict):
    """The output of `finetune check --format json`."""

    examples: int
    errors: int
    warnings: int
    findings: list[FindingRecord]


class DoubtfulRow(TypedDict):
    """One row of reports/doubtful.csv: a row whose answer is probably wrong."""

    file: str
    line: int  # from 1
    answer: str
    suggested: str  # the class that the other rows predict; "" where answers are no classes
    score: float  # classes: the probability of the answer by the other rows; else how well it fits its question, or
    # with a model, the share of the answer's loss that the question takes away
    question: str


class LengthCount(TypedDict):
    """One row of reports/tokens.csv: examples of a split whose length is up to `tokens`."""

    split: str
    tokens: int
    examples: int


# One row of reports/labels.csv: examples of a split that have a class.
ClassCount = TypedDict("ClassCount", {"class": str, "split": str, "examples": int})
