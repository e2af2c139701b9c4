"""A verdict on the curves of a training run, and the number of epochs to try next."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from finetune.report.training_curves import FULL_VALID_LOSS, CurveRow, curve_of, running_mean

NOISE = 0.02  # a relative change of a loss up to which it counts as unchanged
GROWTH = 0.10  # a relative growth of the training loss from which it diverges


class CurveVerdict(NamedTuple):
    verdict: str  # improving, converged, overfitting, diverging or unknown
    words: str
    step: int | None = None  # where the validation loss was lowest, if it rose afterwards
    n_epochs: int | None = None  # to try next, if the curves show it


def curve_verdict(rows: Sequence[CurveRow], n_epochs: int | None) -> CurveVerdict:
    """Judge the curves of a training of `n_epochs` epochs.

    The rule is this project's own. diverging: the training loss is not a finite number, or ends 10 % above its start
    (means of the last and the first fifth). overfitting: the validation loss ends more than 2 % above its minimum at
    `step`. improving: the last quarter of the run reduced the validation loss by more than 2 %. converged: none of
    these. Without validation losses, the training loss decides, and overfitting cannot be seen. If the whole validation
    file was measured at least twice, only these losses count, because losses of its batches fluctuate.
    """
    train, full = curve_of(rows, "train_loss"), curve_of(rows, FULL_VALID_LOSS)
    valid = full if len(full) >= 2 else curve_of(rows, "valid_loss")
    if not train:
        return CurveVerdict("unknown", "The provider reported no curve.")
    fifth = max(1, len(train) // 5)
    first, last = (sum(loss for _, loss in part) / fifth for part in (train[:fifth], train[-fifth:]))
    if not all(math.isfinite(loss) for _, loss in train) or (len(train) >= 5 and last > first * (1 + GROWTH)):
        return CurveVerdict("diverging", "The training loss grew: try half the learning_rate_multiplier.")
    curve = running_mean(valid) if len(valid) >= 2 else running_mean(train)
    end_step, end = curve[-1]
    low_step, low = min(curve, key=lambda point: point[1])
    if len(valid) >= 2 and end > low * (1 + NOISE) and low_step < end_step:
        epochs = max(1, round(n_epochs * low_step / end_step)) if n_epochs else None
        words = f"The validation loss was least at step {low_step} and rose after it, from {low:.3f} to {end:.3f}"
        if epochs == n_epochs:
            return CurveVerdict("overfitting", f"{words}: try a smaller learning_rate_multiplier.", low_step)
        return CurveVerdict("overfitting", with_epochs(words, epochs), low_step, epochs)
    before = [loss for step, loss in curve if step <= end_step * 0.75]
    if before and before[-1] > end * (1 + NOISE):
        epochs = n_epochs + max(1, n_epochs // 2) if n_epochs else None
        which = "validation" if len(valid) >= 2 else "training"
        words = f"The {which} loss was still falling at the end"
        return CurveVerdict("improving", with_epochs(words, epochs), None, epochs)
    return CurveVerdict("converged", "The loss no longer changes much: more epochs would bring little.")


def with_epochs(words: str, epochs: int | None) -> str:
    return f"{words}: try n_epochs {epochs}." if epochs else f"{words}."
