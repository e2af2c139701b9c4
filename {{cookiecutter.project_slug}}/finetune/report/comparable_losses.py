"""Choose the losses of a training run by which it is judged: of one kind, so that they can be compared."""

from collections.abc import Sequence
from typing import NamedTuple

from finetune.report.curve_changes import FEWEST_LOSSES, noise_of_neighbours
from finetune.report.training_curves import FULL_VALID_LOSS, Curve, CurveRow, curve_of

FEWEST_EXAMPLES = 10  # in a validation split: the loss of fewer says little of other examples
# The least relative noise. The loss of a whole file is of the same examples each time, and varies with training alone.
WHOLE_FILE_NOISE, BATCH_NOISE = 0.003, 0.01
TRAINING, BATCHES, WHOLE_FILE = "The training loss", "The loss of validation batches", "The validation loss"


class Losses(NamedTuple):
    """Losses of one kind."""

    name: str
    curve: Curve
    least_noise: float
    noise: float | None = None  # None: there are enough losses to estimate it


def comparable_losses(rows: Sequence[CurveRow], n_epochs: int | None, examples: int | None) -> list[Losses] | str:
    """Return the losses to judge by, the most certain first; or the reason why there are none.

    Those of the whole validation file, and those of its batches; of training batches if nothing was validated.
    `examples` is the size of the validation split, None if unknown.
    """
    train, whole_file = losses_of(rows, "train_loss"), losses_of(rows, FULL_VALID_LOSS)
    batches = losses_of([row for row in rows if row.get(FULL_VALID_LOSS) in (None, "")], "valid_loss")
    if not whole_file and n_epochs and len(batches) == n_epochs > 1:
        whole_file, batches = batches, []  # some providers measure the whole file after each epoch, and do not say so
    if examples is not None and 0 < examples < FEWEST_EXAMPLES and (whole_file or batches):
        has = f"The validation split has {examples} example{'s' * (examples > 1)}"
        return f"{has}, too few to judge the training by: at least {FEWEST_EXAMPLES} are needed."
    found = []
    if len(whole_file) >= 2:
        noise = None if len(whole_file) >= FEWEST_LOSSES else WHOLE_FILE_NOISE
        found.append(Losses(WHOLE_FILE, whole_file, WHOLE_FILE_NOISE, noise))
    if len(batches) >= FEWEST_LOSSES:
        found.append(Losses(BATCHES, batches, BATCH_NOISE))
    elif len(batches) >= 2 and (noise := noise_of_neighbours(train)) is not None:  # batches of one size
        found.append(Losses(BATCHES, batches, BATCH_NOISE, noise))
    if not found and not whole_file and not batches and len(train) >= FEWEST_LOSSES:
        found.append(Losses(TRAINING, train, BATCH_NOISE))
    return found or too_few(len(train), len(whole_file) + len(batches))


def losses_of(rows: Sequence[CurveRow], column: str) -> list[tuple[int, float]]:
    """Return a curve in the order of steps, with one loss for each. A loss below 0 means that there is none."""
    return sorted({step: loss for step, loss in curve_of(rows, column) if not loss < 0}.items())


def too_few(trained: int, validated: int) -> str:
    """Say which losses are too few."""
    if not validated:
        return f"There is no validation loss, and only {trained} training loss{'es' * (trained > 1)}."
    times = "once" if validated == 1 else f"{validated} times"
    return f"The validation loss was measured only {times}, which shows no change: try n_epochs 2 or more."
