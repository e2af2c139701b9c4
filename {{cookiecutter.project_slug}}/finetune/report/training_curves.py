"""The curves of a training run, from whatever the provider calls them, and what they say."""

import base64
import binascii
import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COLUMNS = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy"]
# The later names are those of the whole validation file, and count before those of a batch of it.
ALIASES = {
    "train_mean_token_accuracy": "train_accuracy",
    "valid_mean_token_accuracy": "valid_accuracy",
    "validation_mean_token_accuracy": "valid_accuracy",
    "full_valid_loss": "valid_loss",
    "full_valid_mean_token_accuracy": "valid_accuracy",
}
WHOLE = "full_valid_loss"
STEADY = 0.02  # a relative change of a loss that is no more than noise
WORSE = 0.10  # and one that is not


def parse_result(content: bytes) -> list[dict[str, Any]]:
    """The rows of a result file under our column names; OpenAI serves it in Base64, others as it is."""
    if not content.lstrip(b"\xef\xbb\xbf \n").startswith(b"step"):
        try:
            content = base64.b64decode(content, validate=False)
        except (binascii.Error, ValueError):
            return []
    table = csv.DictReader(io.StringIO(content.decode("utf-8-sig", "replace")))
    return [renamed(row) for row in table if (row.get("step") or "").strip()]


def of_events(events: Iterable[Any]) -> list[dict[str, Any]]:
    """The same rows from a job's events, for providers that leave no result file."""
    rows = [event.data for event in events if isinstance(event.data, dict) and "step" in event.data]
    return sorted((renamed(row) for row in rows), key=lambda row: int(row["step"]))


def renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row under our column names; an empty cell does not cover a filled one.

    The loss of the whole validation file keeps its own name too.
    """
    known: dict[str, Any] = {}
    for name, value in sorted(row.items(), key=lambda item: (item[0] or "").startswith("full_")):
        column = ALIASES.get(name, name)
        if value not in (None, "") or column not in known:
            known[column] = value
        if name == WHOLE:
            known[WHOLE] = value
    return known


def points(rows: Sequence[Mapping[str, Any]], column: str) -> list[tuple[int, float]]:
    """Step and value wherever a column has one."""
    return [(int(float(row["step"])), float(row[column])) for row in rows if row.get(column) not in (None, "")]


def verdict(rows: Sequence[Mapping[str, Any]], n_epochs: int | None) -> dict[str, Any]:
    """What the curves say of a training, in one word, in words, and with the epochs to try next where they tell.

    The rule is this project's own. diverging: the training loss is no number, or ends 10 % over where it began (means
    of the first and the last fifth). overfitting: the validation loss ends more than 2 % over its least, which came at
    `step`. improving: its last quarter of the run still brought it down by more than 2 %. converged: otherwise. Without
    validation losses, the training loss tells the first, third and fourth. Where the whole validation file was measured
    twice or more, those losses count alone: batches of it jump.
    """
    train, whole = points(rows, "train_loss"), points(rows, WHOLE)
    valid = whole if len(whole) >= 2 else points(rows, "valid_loss")
    if not train:
        return said("unknown", "The provider reported no curve.")
    fifth = max(1, len(train) // 5)
    first, last = (sum(loss for _, loss in part) / fifth for part in (train[:fifth], train[-fifth:]))
    if not all(math.isfinite(loss) for _, loss in train) or (len(train) >= 5 and last > first * (1 + WORSE)):
        return said("diverging", "The training loss grew: try half the learning_rate_multiplier.")
    curve = smooth(valid) if len(valid) >= 2 else smooth(train)
    end_step, end = curve[-1]
    low_step, low = min(curve, key=lambda point: point[1])
    if len(valid) >= 2 and end > low * (1 + STEADY) and low_step < end_step:
        epochs = max(1, round(n_epochs * low_step / end_step)) if n_epochs else None
        words = f"The validation loss was least at step {low_step} and rose after it, from {low:.3f} to {end:.3f}"
        if epochs == n_epochs:
            return said("overfitting", f"{words}: try a smaller learning_rate_multiplier.", low_step)
        return said("overfitting", f"{words}: try n_epochs {epochs}." if epochs else f"{words}.", low_step, epochs)
    before = [loss for step, loss in curve if step <= end_step * 0.75]
    if before and before[-1] > end * (1 + STEADY):
        epochs = n_epochs + max(1, n_epochs // 2) if n_epochs else None
        which = "validation" if len(valid) >= 2 else "training"
        words = f"The {which} loss was still falling at the end"
        return said("improving", f"{words}: try n_epochs {epochs}." if epochs else f"{words}.", None, epochs)
    return said("converged", "The loss no longer changes much: more epochs would bring little.")


def said(word: str, words: str, step: int | None = None, n_epochs: int | None = None) -> dict[str, Any]:
    return {"verdict": word, "words": words, "step": step, "n_epochs": n_epochs}


def smooth(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """A running mean over a twentieth of the points, at their steps: losses of single batches jump."""
    width = max(1, len(curve) // 20)
    return [
        (curve[end - 1][0], sum(loss for _, loss in curve[end - width : end]) / width)
        for end in range(width, len(curve) + 1)
    ]
