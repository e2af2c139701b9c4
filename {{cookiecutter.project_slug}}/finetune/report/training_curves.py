"""The curves of a training run, read from a provider's result file or from a job's events."""

import base64
import binascii
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from finetune.core.damage import warn_once
from finetune.core.disk import parse_csv
from finetune.report.number_formats import Figure

FULL_VALID_LOSS = "full_valid_loss"
COLUMNS = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", FULL_VALID_LOSS]
# Of OpenAI's former API: not every provider has them.
FURTHER_COLUMNS = ["elapsed_tokens", "elapsed_examples", "train_sequence_accuracy", "valid_sequence_accuracy"]
# Of the method dpo, from the engine.
FURTHER_COLUMNS += ["train_rewards_accuracy", "valid_rewards_accuracy", "train_rewards_margin", "valid_rewards_margin"]
# Other names of our columns. Those of `full_valid` are of the whole validation file, and replace those of its batches.
ALIASES = {
    "train_mean_token_accuracy": "train_accuracy",
    "valid_mean_token_accuracy": "valid_accuracy",
    "validation_mean_token_accuracy": "valid_accuracy",
    "full_valid_loss": "valid_loss",
    "full_valid_mean_token_accuracy": "valid_accuracy",
    "full_valid_sequence_accuracy": "valid_sequence_accuracy",
    "full_valid_rewards_accuracy": "valid_rewards_accuracy",
    "full_valid_rewards_margin": "valid_rewards_margin",
}

CurveRow = Mapping[str, Figure]  # the metrics of one step, by column
Curve = Sequence[tuple[int, float]]  # steps and values


class Event(Protocol):
    """An event of a job, as the SDK returns it."""

    @property
    def data(self) -> object: ...


def parse_result_file(content: bytes) -> list[CurveRow]:
    """Return the rows of a result file, plain or in Base64 (as OpenAI serves it); none if it is no table of steps."""
    if not content.lstrip(b"\xef\xbb\xbf \n").startswith(b"step"):
        try:
            content = base64.b64decode(content, validate=False)
        except (binascii.Error, ValueError):
            return []
    table = parse_csv(content.decode("utf-8-sig", "replace"))
    return [with_our_columns(row) for row in table if (row.get("step") or "").strip()]


def parse_events(events: Iterable[Event]) -> list[CurveRow]:
    """Return the same rows from a job's events, in the order of steps. An event whose step is no number is left out."""
    found = [with_our_columns(event.data) for event in events if isinstance(event.data, dict) and "step" in event.data]
    return sorted((row for row in found if row.get("step") not in (None, "")), key=step_of)


def with_our_columns(row: Mapping[str, Figure]) -> CurveRow:
    """Return a row under our column names. An empty cell never replaces a value.

    The loss of the whole validation file also keeps its own name. A cell that is no number is left out.
    """
    known: dict[str, Figure] = {}
    names = [name for name in row if name and is_figure(name, row[name])]  # csv puts cells beyond the header under None
    for name in sorted(names, key=lambda name: name.startswith("full_")):
        column = ALIASES.get(name, name)
        if row[name] not in (None, "") or column not in known:
            known[column] = row[name]
        if name == FULL_VALID_LOSS:
            known[FULL_VALID_LOSS] = row[name]
    return known


def is_figure(column: str, cell: object) -> bool:
    """Return whether a cell is empty or a number, as all cells of our columns should be; a warning says if not.

    A loss may be infinite or no number (NaN), where the training has diverged; a step may not.
    """
    if cell in (None, "") or column not in {*COLUMNS, *FURTHER_COLUMNS, *ALIASES}:
        return True
    try:
        number = math.nan if isinstance(cell, bool) else float(cell)  # type: ignore[arg-type]
        is_right = math.isfinite(number) if column == "step" else not isinstance(cell, bool)
    except (TypeError, ValueError, OverflowError):
        is_right = False
    if not is_right:
        warn_once(f"The provider's curves have a {column} that is no number; it is left out.")
    return is_right


def with_whole_file_losses(rows: Sequence[CurveRow], events: Sequence[CurveRow]) -> list[CurveRow]:
    """Return the rows of a result file with the losses of the whole validation file, which only events may have."""
    known = {step_of(row): row for row in events if row.get(FULL_VALID_LOSS) not in (None, "")}
    return [{**row, **found} if (found := known.get(step_of(row))) else row for row in rows]


def columns_of(rows: Sequence[CurveRow]) -> list[str]:
    """Return the columns of a table of curves: ours, and the further ones that the provider has."""
    return COLUMNS + [name for name in FURTHER_COLUMNS if any(row.get(name) not in (None, "") for row in rows)]


def step_of(row: CurveRow) -> int:
    return int(float(row["step"] or 0))


def curve_of(rows: Iterable[CurveRow], column: str) -> list[tuple[int, float]]:
    """Return the steps and values of a column; empty cells are left out."""
    return [(step_of(row), float(cell)) for row in rows if (cell := row.get(column)) is not None and cell != ""]


def running_mean(curve: Curve) -> list[tuple[int, float]]:
    """Return the mean over a window of a twentieth of the points, each at its last step."""
    width = max(1, len(curve) // 20)
    return [
        (curve[end - 1][0], sum(loss for _, loss in curve[end - width : end]) / width)
        for end in range(width, len(curve) + 1)
    ]
