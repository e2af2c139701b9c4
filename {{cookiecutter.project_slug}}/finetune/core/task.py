"""The tasks of `evaluate.task`, apart from params.py, which takes long to import."""

from typing import Literal

Task = Literal["classify", "extract", "generate"]
FIRST_METRIC: dict[Task, str] = {"classify": "accuracy", "extract": "f1", "generate": "chrf"}
SIMPLEST_FLOOR: dict[Task, str] = {"classify": "majority", "extract": "nearest", "generate": "nearest"}
# With train.method dpo: the preferred answer of a test pair gains log-probability over the other one.
PREFERENCE_GATES = {"preferences.margin_low": "> 0"}


def default_gates(task: Task) -> dict[str, str]:
    """Return what a tuned model must reach: better than the base, and than the simplest answers that cost nothing."""
    better = f"lift.{FIRST_METRIC[task]}_low"
    return {better: "> 0", f"floors.{SIMPLEST_FLOOR[task]}.{better}": "> 0"}
