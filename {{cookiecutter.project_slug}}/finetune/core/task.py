"""The tasks of `evaluate.task`, apart from params.py, which takes long to import."""

from typing import Literal

Task = Literal["classify", "extract", "generate"]
FIRST_METRIC: dict[Task, str] = {"classify": "accuracy", "extract": "f1", "generate": "chrf"}
