"""The types of estimates and bills."""

from typing import Any

from typing_extensions import TypedDict

Usd = float | str  # a number, or the text "unknown": never 0 for what is not known


class CostEstimate(TypedDict):
    """The bill of a training file before it is sent."""

    examples: int
    tokens: int  # of one epoch
    n_epochs: int
    billed_tokens: int
    train_usd: Usd
    seconds: float | str


class TrainingEstimate(TypedDict):
    """The bill for a number of epochs."""

    n_epochs: int
    billed_tokens: int
    train_usd: Usd
    seconds: float | str


class BreakEvenEstimate(TypedDict):
    """What `break_even_calls` compares: calls of the tuned model, and of the base with examples in its prompt."""

    # evaluate.few_shot, or 10. None and {} where images are of unknown size.
    examples: int | None
    prompt_tokens: dict[str, float]  # few_shot, tuned: means over the test rows
    usd_per_1000: dict[str, Usd]  # few_shot, tuned


class LedgerRow(TypedDict):
    """One line of reports/ledger.csv: what a job was estimated to take, and what it took. Cells are texts when read."""

    job: str
    provider: str
    base: str
    n_epochs: Any
    counted_tokens: Any
    billed_tokens: Any
    estimated_usd: Any
    billed_usd: Any
    estimated_seconds: Any
    seconds: Any
