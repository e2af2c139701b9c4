"""A verdict on the curves of a training run, and the number of epochs to try next."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from finetune.report.comparable_losses import BATCHES, TRAINING, WHOLE_FILE, Losses, comparable_losses, losses_of
from finetune.report.curve_changes import FEWEST_LOSSES, Changes, changes_of
from finetune.report.training_curves import FULL_VALID_LOSS, Curve, CurveRow

SMALL, SMALL_LOSS = 0.02, 0.005  # changes that do not matter: a share of the loss, or this much of a small loss
LARGE, LARGE_OF_WHOLE_FILE, LARGE_LOSS = 0.2, 0.05, 0.02  # to be excluded before a loss counts as unchanged
GROWTH = 0.10  # of the training loss, as a share of its start, from which it diverges
SURE_OF_RISE, SURE_OF_FALL, EQUIVALENT = 0.99, 0.95, 0.9  # probabilities from which a change, or none, is shown
QUANTILE = 1.645  # of the normal distribution, for an interval of 90 %
ALPHA, ALPHA_WITH_VALIDATION = 0.001, 0.05  # of the test for growth; the second where the validation loss grew too
LOSSES = ("train_loss", "valid_loss", FULL_VALID_LOSS)
SLOWER = "try half the learning_rate_multiplier."


class CurveVerdict(NamedTuple):
    verdict: str  # improving, converged, overfitting, diverging, cannot tell; unknown: no curve
    words: str
    step: int | None = None  # where the validation loss was lowest, if it rose afterwards
    n_epochs: int | None = None  # to try next, if the curves show it


def curve_verdict(
    rows: Sequence[CurveRow], n_epochs: int | None, kept: Sequence[int] | None = None, examples: int | None = None
) -> CurveVerdict:
    """Judge the curves of a training of `n_epochs` epochs.

    `kept` has the steps of the checkpoints that the provider kept, `examples` is the size of the validation split; None
    if unknown. The rule is this project's own; tests/test_curve_simulation.py counts how often it is right.
    diverging: the training loss is not a finite number, or ends higher than in an earlier fifth of the run.
    overfitting: the smooth curve of the validation loss ends above its minimum. Training losses cannot show it.
    improving: the smooth curve fell in the last quarter. converged: neither, and large changes are excluded.
    cannot tell: all else, or there are too few losses of one kind.
    """
    train = losses_of(rows, "train_loss")
    if not train:
        return CurveVerdict("unknown", "The provider reported no curve.")
    if not all(math.isfinite(loss) for column in LOSSES for _, loss in losses_of(rows, column)):
        return CurveVerdict("diverging", f"A loss is not a finite number: {SLOWER}")
    if grows(train, ALPHA):
        return CurveVerdict("diverging", f"The training loss grew: {SLOWER}")
    losses = comparable_losses(rows, n_epochs, examples)
    if isinstance(losses, str):
        return CurveVerdict("cannot tell", losses)
    found = verdict_on(losses[0], n_epochs, kept)
    if found.verdict == "improving" and len(losses) > 1:
        of_batches = verdict_on(losses[1], n_epochs, kept)  # which may show a rise between the ends of two epochs
        found = of_batches if of_batches.verdict == "overfitting" else found
    if found.verdict == "overfitting" and grows(train, ALPHA_WITH_VALIDATION):
        return CurveVerdict("diverging", f"The training loss and the validation loss grew: {SLOWER}")
    return found


def grows(train: Curve, alpha: float) -> bool:
    """Return whether the mean of the last fifth is above that of the least fifth, by Welch's test at `alpha` (scipy).

    The growth counts if it is more than GROWTH of the first fifth.
    """
    import numpy as np
    from scipy.stats import ttest_ind

    if len(train) < FEWEST_LOSSES:
        return False
    fifths = np.array_split([loss for _, loss in train], 5)
    first, last, least = fifths[0], fifths[-1], min(fifths, key=np.mean)
    if last.mean() - least.mean() <= GROWTH * first.mean():
        return False
    if min(len(last), len(least)) < 2 or max(last.std(), least.std()) == 0:
        return True
    return bool(ttest_ind(last, least, equal_var=False, alternative="greater").pvalue < alpha)


def verdict_on(losses: Losses, n_epochs: int | None, kept: Sequence[int] | None) -> CurveVerdict:
    """Judge losses of one kind by the changes of their smooth curve."""
    changes = changes_of(losses.curve, losses.least_noise, losses.noise)
    unseen = " Without a validation loss, overfitting cannot be seen." if losses.name == TRAINING else ""
    if losses.name != TRAINING and (changes.rise > matters(changes.low)).mean() >= SURE_OF_RISE:
        return overfitting(losses, changes, n_epochs, kept)
    if (changes.last < -matters(changes.end)).mean() >= SURE_OF_FALL:
        epochs = n_epochs + max(1, n_epochs // 2) if n_epochs else None
        figures = f"from {changes.before:.3f} at step {changes.before_step} to {changes.end:.3f}"
        words = with_epochs(f"{losses.name} was still falling at the end, {figures}", epochs)
        return CurveVerdict("improving", words + unseen, None, epochs)
    if is_unchanged(losses, changes):
        words = f"{losses.name} {change_in_words(losses.curve, changes)}: more epochs would bring little."
        return CurveVerdict("converged", words + unseen)
    noise = f"its {len(losses.curve)} values vary by about {100 * changes.noise:.0f} % around a smooth curve"
    words = f"{losses.name} shows neither a change at the end nor that there is none: {noise}."
    steadier = " The loss of the whole file, measured after each epoch, varies less." if losses.name == BATCHES else ""
    return CurveVerdict("cannot tell", words + steadier + unseen)


def matters(loss: float) -> float:
    """Return the least change of a loss that matters, as a difference of logarithms."""
    return math.log1p(max(SMALL, SMALL_LOSS / loss))


def is_unchanged(losses: Losses, changes: Changes) -> bool:
    """Return whether large changes are excluded, by an equivalence test of 90 % (Schuirmann 1987).

    The noise must also be so small that two quarters of the run would show such a change, because the fit alone is too
    sure of a flat curve through few points.
    """
    share = LARGE_OF_WHOLE_FILE if losses.name == WHOLE_FILE else LARGE
    large = math.log1p(max(share, LARGE_LOSS / changes.end))
    inside = (abs(changes.last) < large) & (changes.rise < large)
    quarter = max(1.0, len(losses.curve) / 4)
    return bool(inside.mean() >= EQUIVALENT and QUANTILE * changes.noise * math.sqrt(2 / quarter) < large)


def change_in_words(curve: Curve, changes: Changes) -> str:
    """Say how much the smooth curve changed at the end; without a number where that would mislead.

    A share of a loss below SMALL_LOSS says nothing. And the smooth curve may rise between two steps where the losses of
    just these steps fall, because single losses vary: people see the losses in the table.
    """
    if changes.end < SMALL_LOSS:
        return f"was about {changes.end:.1g} at the end, where changes do not matter"
    percent = round(100 * math.expm1(changes.last.mean()))
    if not percent:
        return f"changed by less than 1 % after step {changes.before_step}"
    before = [loss for step, loss in curve if step <= changes.before_step]
    if (curve[-1][1] - (before or [curve[0][1]])[-1]) * percent < 0:
        return f"changed little after step {changes.before_step}"
    return f"changed by about {percent:+d} % after step {changes.before_step}"


def overfitting(losses: Losses, changes: Changes, n_epochs: int | None, kept: Sequence[int] | None) -> CurveVerdict:
    """Name the step of the least loss, whether its checkpoint was kept, and the epochs up to it."""
    step, last = changes.low_step, losses.curve[-1][0]
    at = f"step {step}" if losses.name == WHOLE_FILE else f"about step {step}"
    words = f"{losses.name} was least at {at} and rose after it, from {changes.low:.3f} to {changes.end:.3f}"
    epochs = max(1, round(n_epochs * step / last)) if n_epochs else None
    if epochs is not None and epochs == n_epochs:
        words, epochs = f"{words}: try a smaller learning_rate_multiplier.", None
    else:
        words = with_epochs(words, epochs)
    return CurveVerdict("overfitting", words + kept_words(step, kept), step, epochs)


def kept_words(step: int, kept: Sequence[int] | None) -> str:
    """Say whether a step's checkpoint was kept, and which kept one is nearest; "" if that is unknown."""
    if kept is None:
        return ""
    if not kept:
        return " The provider kept no checkpoints."
    if step in kept:
        return f" The checkpoint of step {step} was kept: train.choose can choose it."
    nearest = min(kept, key=lambda one: (abs(one - step), one))
    return f" No checkpoint of step {step} was kept; the nearest is that of step {nearest}."


def with_epochs(words: str, epochs: int | None) -> str:
    return f"{words}: try n_epochs {epochs}." if epochs else f"{words}."
