"""The tasks of `evaluate.task`, apart from params.py, which takes long to import."""

from typing import Literal

Task = Literal["classify", "extract", "generate"]
