"""Measure class probabilities: how they rank, and how much of them the right class has."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune.scoring.calibration import calibration_bins, calibration_error
from finetune.scoring.class_masses import Unseen, unseen_share
from finetune.scoring.jackknife import Numbers
from finetune.scoring.mean_interval import rounded
from finetune.scoring.probability_matrix import is_class, matrix, renormalized
from finetune.scoring.ranking_values import Truth, ranking_values

FLOOR = 1e-6  # for the probability of the true class, so that a single row cannot decide the log loss


def probability_metrics(
    expected: Sequence[str],
    predicted: Sequence[str],
    probabilities: Sequence[Sequence[float]],
    labels: Sequence[str],
    unseen: Sequence[Unseen] = (),
) -> dict[str, float]:
    """Compute AUROC, AUPRC, log loss, calibration error, mass outside the classes, and rows without probabilities.

    `probabilities` and `unseen` have the `class_masses` of each answer, `predicted` the class that it names. All
    metrics but `outside` use the probabilities renormalized; a row without log-probabilities counts as uniform, and is
    left out of the calibration. `auroc` and `auprc` are those of the second label if there are two, else the macro
    average of one class against the rest. Classes that no row or every row has are left out; without any class left,
    both keys are missing. `unseen` is the number of rows whose right class no alternative names: its probability in
    `log_loss` is its part of the unseen mass (see `unseen_share`), at least 1e-6. `calibration_error` is the expected
    calibration error over ten bins of the confidence in the answered class, with its interval. If no row has
    log-probabilities, `no_logprobs` is the only key. Source: scikit-learn.
    """
    from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

    given, known = matrix(probabilities, labels)
    metrics: dict[str, float] = {"no_logprobs": int((~known).sum())}
    if not known.any():
        return metrics
    shares, truth = renormalized(given, known), is_class(expected, labels)
    if classes := ranked_classes(truth, shares):
        metrics["auroc"] = rounded(roc_auc_score(*classes))
        metrics["auprc"] = rounded(average_precision_score(*classes))
    likelihood = likelihoods(expected, probabilities, labels, unseen, shares.sum(axis=1, where=truth))
    metrics["log_loss"] = rounded(
        log_loss(np.ones(len(truth)), np.column_stack([1 - likelihood, likelihood]), labels=[0, 1])
    )
    metrics["unseen"] = int((given[known].sum(axis=1, where=truth[known]) == 0).sum())
    metrics |= calibration_error(calibration_bins(expected, predicted, probabilities, labels))
    metrics["outside"] = rounded(mass_outside(given[known]).mean())
    return metrics


def probability_values(
    expected: Sequence[str], probabilities: Sequence[Sequence[float]], labels: Sequence[str], unseen: Sequence[Unseen]
) -> dict[str, Numbers]:
    """Return how much each row contributes to AUROC, AUPRC, log loss and the mass outside the classes.

    The mean of the values is the metric of `probability_metrics`. {} if a row has no log-probabilities.
    """
    given, known = matrix(probabilities, labels)
    if not known.all():
        return {}
    shares, truth = renormalized(given, known), is_class(expected, labels)
    classes = ranked_classes(truth, shares)
    found = ranking_values(*classes) if classes else {}
    likelihood = likelihoods(expected, probabilities, labels, unseen, shares.sum(axis=1, where=truth))
    return found | {"log_loss": -np.log(likelihood), "outside": mass_outside(given)}


def ranked_classes(truth: Truth, shares: Numbers) -> tuple[Truth, Numbers] | None:
    """Return which row has which class, and the probabilities, of the classes whose ranking is measured.

    Of two classes that is the second; a class that no row or every row has cannot be ranked. None if none is left.
    """
    useful: Any = truth.any(axis=0) & ~truth.all(axis=0)
    if truth.shape[1] == 2:
        useful[0] = False
    # Not truth[:, useful]: numpy stores that by columns, with which scikit-learn is twenty times slower.
    return (truth.compress(useful, axis=1), shares.compress(useful, axis=1)) if useful.any() else None


def mass_outside(given: Numbers) -> Numbers:
    """Return the probability of each row's answers that name no class."""
    outside: Numbers = (1 - given.sum(axis=1)).clip(0, 1)
    return outside


def likelihoods(
    expected: Sequence[str],
    probabilities: Sequence[Sequence[float]],
    labels: Sequence[str],
    unseen: Sequence[Unseen],
    seen: Numbers,
) -> Numbers:
    """Return the probability of each right class, with its part of the unseen mass; `seen` is it without that.

    It is at least 1e-6, also for a class that is not among the labels.
    """
    places = {label: place for place, label in enumerate(labels)}
    found = np.array(seen, float)
    for row, (right, masses, hidden) in enumerate(zip(expected, probabilities, unseen, strict=False)):
        own, total = unseen_share(places.get(right), masses, hidden)
        if total:
            place = places.get(right)
            found[row] = (own + (0.0 if place is None else masses[place])) / (sum(masses) + total)
    return found.clip(FLOOR, 1)
