"""Two series of trainings: with other seeds, and with shares of the rows; and what their scores show."""

from collections.abc import Sequence

from finetune.asking.variant_costs import Confirm
from finetune.asking.variant_trainings import HowToTrain, run_variants
from finetune.core.disk import write_csv
from finetune.core.params import Params
from finetune.core.paths import LEARNING_CURVE
from finetune.core.read_records import read_evaluated_model, read_prepare_report, read_test_groups, read_variants
from finetune.core.records.variants import LearningCurve, Trainings, VariantRecord
from finetune.scoring.learning_curve import COLUMNS, learning_curve, table_of
from finetune.scoring.trainings import has_scores, trainings_of
from finetune.terminal.progress import say


def train_with_seeds(
    params: Params, seeds: Sequence[int], how: HowToTrain, confirm: Confirm
) -> tuple[list[VariantRecord], Trainings | None]:
    """Train with each seed, and return the records and the spread between all trainings that there are."""
    _, evaluation = read_evaluated_model()  # first: without it, nothing is to be paid
    records = run_variants(params, [1.0], seeds, how, confirm)
    return records, trainings_of(params, read_prepare_report(), evaluation, say).get("trainings")


def train_with_shares(
    params: Params, shares: Sequence[float], seeds: Sequence[int], how: HowToTrain, confirm: Confirm
) -> tuple[list[VariantRecord], LearningCurve]:
    """Train with each share of the rows, write the table, and return records and curve.

    The curve goes through all trainings that differ in rows and seeds only, also those of earlier runs.
    """
    whole = run_variants(params, shares, seeds, how, confirm)[-1]
    settings, metric = whole["scores"]["settings"], whole["scores"]["metric"]
    records = [
        one
        for one in read_variants().values()
        if one["recipe"] == whole["recipe"] and has_scores(one, settings, metric)
    ]
    records.sort(key=lambda one: (one["rows"], one["seed"]))
    curve = learning_curve(records, metric, read_test_groups())
    write_csv(LEARNING_CURVE, COLUMNS, table_of(curve))
    return records, curve
