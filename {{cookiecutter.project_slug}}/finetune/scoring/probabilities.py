"""Compute class probabilities from the log-probabilities of answers, and how well they are calibrated."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypedDict

import regex

from finetune.scoring.class_reading import fold, without_marks_before
from finetune.scoring.thoughts import without_thoughts
from finetune.scoring.word_borders import is_whole_word

FLOOR = 1e-6  # for the probability of the true class, so that a single row cannot decide the log loss
BINS = 10
DRAWS = 2000  # of the interval of the calibration error

SEPARATORS = regex.compile(r"(?<=[\p{L}\p{M}\p{N}])(?:[-_\s]+(?=[\p{L}\p{M}\p{N}])|[-_ ]$)")
NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")

TokenLogprobs = Sequence[tuple[str, float | None]]  # of one token: the chosen one, then likely ones
ClassesByText = dict[bytes, tuple[int, ...]]  # a text → the places of its classes
Unseen = list[tuple[Sequence[int], float]]  # mass of tokens that are not among the alternatives, and whose it can be


class CalibrationBin(TypedDict):
    confidence: float
    accuracy: float
    rows: int


def token_text(token: str) -> str:
    """Return a token as text. `token` has one Latin-1 letter per byte: only bytes distinguish parts of a letter."""
    return token.encode("latin-1").decode("utf-8", "surrogateescape")


def as_text(tops: Sequence[TokenLogprobs]) -> list[TokenLogprobs]:
    """Return the log-probabilities with each token as text."""
    return [[(token_text(token), logprob) for token, logprob in top] for top in tops]


def class_probabilities(tops: Sequence[TokenLogprobs], labels: Sequence[str], codes: bool = False) -> list[float]:
    """Return the probability of each class from the log-probabilities of one answer, in the order of `labels`.

    `tops` has a list for each token of the answer: first the chosen token, then the likeliest ones, which may include
    the chosen one again. A token is its text (see `token_text`) and its log-probability; one that is not finite is
    ignored. Thinking and marks before the answer, case, width and the ends of words are read as in class_reading.py.

    The chosen tokens are followed one by one. At each token, the text so far is continued with every alternative. An
    alternative whose text begins exactly one class adds its mass to that class. So does the chosen token, and then
    reading stops; if its text begins several classes, the next token decides, or at the end of the answer the class
    that equals the whole text. A mass that nothing decides, such as that of an alternative that begins several classes,
    is divided equally among them. A text that begins no class is outside all classes, so the sum is at most 1. All
    are NaN if there is no log-probability.

    `codes` says that `labels` are codes of one token each. Then an alternative that is a whole code counts for that
    code alone, although it begins others: a model that is about to answer 17 does not begin with the token 1.
    """
    return class_masses(tops, labels, codes)[0]


def class_masses(
    tops: Sequence[TokenLogprobs], labels: Sequence[str], codes: bool = False
) -> tuple[list[float], Unseen]:
    """Return the `class_probabilities`, and the mass of the tokens that no alternative shows.

    APIs give at most 20 alternatives: with more classes, the right one is often not among them.
    """
    masses, unseen = [0.0] * len(labels), Unseen()
    if not any(is_finite(logprob) for top in tops for _, logprob in top):
        return [math.nan] * len(labels), unseen
    known = index_of(tuple(labels))

    def give(classes: Sequence[int], mass: float) -> None:
        for index in classes:
            masses[index] += mass / len(classes)

    text, mass = "", 1.0
    for top in after_thoughts(tops):
        shares: dict[str, float] = {}
        for token, logprob in top:
            if is_finite(logprob):
                shares.setdefault(token, math.exp(min(logprob or 0.0, 0.0)))
        unseen.append((known.begun_by(text), mass * max(0.0, 1 - sum(shares.values()))))
        chosen = top[0][0] if top else ""
        for token, share in shares.items():
            if token != chosen:
                give((known.equal_to(text + token) if codes else ()) or known.begun_by(text + token), mass * share)
        text, mass = text + chosen, mass * shares.get(chosen, 0.0)
        classes = known.begun_by(text)
        if len(classes) < 2:
            give(classes, mass)
            break
    else:
        if normalized(text):
            give(known.equal_to(text) or known.begun_by(text), mass)
    # Rounded log-probabilities may sum to slightly more than 1.
    total = max(1.0, sum(masses))
    return [mass / total for mass in masses], unseen


def after_thoughts(tops: Sequence[TokenLogprobs]) -> Sequence[TokenLogprobs]:
    """Return the tokens after what the model thinks before its answer; [] if the thinking has no end."""
    tokens = [top[0][0] if top else "" for top in tops]
    text = "".join(tokens)
    answer = without_thoughts(text)
    if len(answer) == len(text):
        return tops
    begins = accumulate(map(len, tokens), initial=0)
    return [top for top, begin in zip(tops, begins, strict=False) if begin >= len(text) - len(answer)]


def unseen_share(place: int | None, masses: Sequence[float], unseen: Unseen) -> tuple[float, float]:
    """Return the mass that a class can have without being seen, and that of all classes.

    The mass of unseen tokens is divided equally among the classes that they can begin and that have no mass. What no
    class can have is outside. `place` is that of the class in `masses`; None is a class that is not among them.
    """
    own = total = 0.0
    for classes, mass in unseen:
        without = [one for one in classes if masses[one] == 0]
        if without and mass > 0:
            total += mass
            own += mass / len(without) if place in without else 0.0
    return own, total


def is_finite(logprob: float | None) -> bool:
    return logprob is not None and math.isfinite(logprob)


def normalized(text: str) -> str:
    """Return an answer's text in the form in which classes are compared."""
    return fold(as_written(text)).lstrip()


def key(text: str) -> bytes:
    """Return a normalized text without regard to separators: UTF-8, in which the parts of a letter join."""
    return str(SEPARATORS.sub(" ", text)).encode("utf-8", "surrogateescape")


def as_written(text: str) -> str:
    """Return an answer's text without marks before it, and with its parts of letters joined."""
    if not text.isascii():
        text = NO_BYTES.sub("\ufffd", text).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return without_marks_before(text)


@dataclass(frozen=True)
class ClassIndex:
    """The classes by each text that begins them, and by their whole text."""

    begins: ClassesByText
    wholes: ClassesByText
    exact: dict[int, str]  # the text of each class that differs from another one only in case

    def begun_by(self, text: str) -> tuple[int, ...]:
        """Return the classes that a text begins; else the longest class that begins the text, at the end of a word."""
        folded = normalized(text)
        if (begun := key(folded)) in self.begins:
            return self.of_this_case(self.begins[begun], text)
        for end in range(len(folded) - 1, 0, -1):
            if (whole := key(folded[:end])) in self.wholes and is_whole_word(folded, 0, end):
                return self.of_this_case(self.wholes[whole], text)
        return ()

    def equal_to(self, text: str) -> tuple[int, ...]:
        """Return the classes that equal a text."""
        return self.of_this_case(self.wholes.get(key(normalized(text)), ()), text)

    def of_this_case(self, classes: tuple[int, ...], text: str) -> tuple[int, ...]:
        """Return the classes without those that another one of them is nearer to, because it has the text's case."""
        if not self.exact or len(classes) < 2:
            return classes
        written = as_written(text)
        names = {index: self.exact.get(index) for index in classes}
        fitting = (i for i, name in names.items() if not name or name.startswith(written) or written.startswith(name))
        return tuple(fitting) or classes


@lru_cache(maxsize=8)
def index_of(labels: tuple[str, ...]) -> ClassIndex:
    """Return the index of the classes; computed once for all answers."""
    begins, wholes = defaultdict(list), defaultdict(list)
    for index, label in enumerate(labels):
        if whole := key(normalized(label)):
            wholes[whole].append(index)
            for end in range(len(whole) + 1):
                begins[whole[:end]].append(index)
    return ClassIndex(
        {text: tuple(found) for text, found in begins.items()},
        {text: tuple(found) for text, found in wholes.items()},
        {index: as_written(labels[index]) for found in wholes.values() if len(found) > 1 for index in found},
    )


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
    import numpy as np
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
) -> dict[str, Any]:
    """Return how much each row contributes to AUROC, AUPRC, log loss and the mass outside the classes.

    The mean of the values is the metric of `probability_metrics`. {} if a row has no log-probabilities.
    """
    import numpy as np

    from finetune.scoring.ranking_values import ranking_values

    given, known = matrix(probabilities, labels)
    if not known.all():
        return {}
    shares, truth = renormalized(given, known), is_class(expected, labels)
    classes = ranked_classes(truth, shares)
    found: dict[str, Any] = ranking_values(*classes) if classes else {}
    likelihood = likelihoods(expected, probabilities, labels, unseen, shares.sum(axis=1, where=truth))
    return found | {"log_loss": -np.log(likelihood), "outside": mass_outside(given)}


def ranked_classes(truth: Any, shares: Any) -> tuple[Any, Any] | None:
    """Return which row has which class, and the probabilities, of the classes whose ranking is measured.

    Of two classes that is the second; a class that no row or every row has cannot be ranked. None if none is left.
    """
    useful = truth.any(axis=0) & ~truth.all(axis=0)
    if truth.shape[1] == 2:
        useful[0] = False
    # Not truth[:, useful]: numpy stores that by columns, with which scikit-learn is twenty times slower.
    return (truth.compress(useful, axis=1), shares.compress(useful, axis=1)) if useful.any() else None


def mass_outside(given: Any) -> Any:
    """Return the probability of each row's answers that name no class."""
    return (1 - given.sum(axis=1)).clip(0, 1)


def likelihoods(
    expected: Sequence[str],
    probabilities: Sequence[Sequence[float]],
    labels: Sequence[str],
    unseen: Sequence[Unseen],
    seen: Any,
) -> Any:
    """Return the probability of each right class, with its part of the unseen mass; `seen` is it without that.

    It is at least 1e-6, also for a class that is not among the labels.
    """
    import numpy as np

    places = {label: place for place, label in enumerate(labels)}
    found = np.array(seen, float)
    for row, (right, masses, hidden) in enumerate(zip(expected, probabilities, unseen, strict=False)):
        own, total = unseen_share(places.get(right), masses, hidden)
        if total:
            place = places.get(right)
            found[row] = (own + (0.0 if place is None else masses[place])) / (sum(masses) + total)
    return np.clip(found, FLOOR, 1)


def calibration_bins(
    expected: Sequence[str], predicted: Sequence[str], probabilities: Sequence[Sequence[float]], labels: Sequence[str]
) -> list[CalibrationBin]:
    """Return mean confidence in the answered class, accuracy and number of rows, for each of ten bins with rows.

    The answered class is not always the likeliest: an answer is what users get, so its confidence is compared with how
    often it is right. Rows without log-probabilities, and answers that name no class, are left out: they have no
    confidence. Source: scipy's binned_statistic.
    """
    import numpy as np
    from scipy.stats import binned_statistic

    _, known = matrix(probabilities, labels)
    known = known & is_class(predicted, labels).any(axis=1)
    if not known.any():
        return []
    confidence = np.clip(np.array(confidences(predicted, probabilities, labels)), 0, 1)[known]
    right = np.array([float(a == b) for a, b in zip(expected, predicted, strict=True)])[known]
    binned = binned_statistic(confidence, [confidence, right], "mean", bins=BINS, range=(0, 1))
    counts = np.bincount(binned.binnumber, minlength=BINS + 1)[1:]
    return [
        {"confidence": rounded(sure), "accuracy": rounded(accuracy), "rows": int(rows)}
        for sure, accuracy, rows in zip(*binned.statistic, counts, strict=True)
        if rows
    ]


def calibration_error(bins: Sequence[CalibrationBin]) -> dict[str, float]:
    """Return the expected calibration error of bins with its 95 % interval; {} without bins.

    The error of a perfectly calibrated model is above 0 by chance: 0.07 with 169 rows. So the interval begins at 0
    unless the error is larger than that of 97.5 % of the samples that are drawn with the confidences as the true
    accuracies (consistency resampling: Broecker and Smith 2007, Weather and Forecasting 22). Its other ends are those
    of the basic bootstrap, which also corrects the bias (Efron and Tibshirani 1993), with Jeffreys' estimate of the
    accuracies, so that a bin whose answers are all right has a width.
    """
    import numpy as np

    if not bins:
        return {}
    sure, right = (np.array([one[key] for one in bins], float) for key in ("confidence", "accuracy"))
    rows = np.array([one["rows"] for one in bins])
    weights = rows / rows.sum()
    error = float(weights @ abs(sure - right))
    random = np.random.default_rng(0)
    by_chance = abs(random.binomial(rows, sure, (DRAWS, len(rows))) / rows - sure) @ weights
    smoothed = (right * rows + 0.5) / (rows + 1)
    counts = random.multinomial(rows.sum(), weights, DRAWS)
    drawn = abs(random.binomial(counts, smoothed) - counts * sure).sum(axis=1) / rows.sum()
    low, high = np.quantile(drawn, [0.025, 0.975])
    least = 2 * error - high if error > np.quantile(by_chance, 0.975) else 0.0
    most = max(error, 2 * error - low, high if least <= 0 else 0.0)
    return {
        "calibration_error": rounded(error),
        "calibration_error_low": rounded(min(max(0.0, least), error)),
        "calibration_error_high": rounded(min(1.0, most)),
    }


def confidences(
    predicted: Sequence[str], probabilities: Sequence[Sequence[float]], labels: Sequence[str]
) -> list[float]:
    """Return the renormalized probability of the class that each answer names; 0 if it names none."""
    shares = renormalized(*matrix(probabilities, labels))
    return [rounded(value) for value in shares.sum(axis=1, where=is_class(predicted, labels))]


def matrix(probabilities: Sequence[Sequence[float]], labels: Sequence[str]) -> tuple[Any, Any]:
    """Return the probabilities (rows, classes), and which rows have log-probabilities (rows,)."""
    import numpy as np

    given = np.asarray(probabilities, float).reshape(len(probabilities), len(labels))
    return given, np.isfinite(given).all(axis=1)


def renormalized(given: Any, known: Any) -> Any:
    """Scale the probabilities (rows, classes) to a sum of 1; uniform for rows without any."""
    import numpy as np

    shares = np.where(known[:, None], given, 0.0)
    total = shares.sum(axis=1, keepdims=True)
    return np.divide(shares, total, out=np.full_like(shares, 1 / shares.shape[1]), where=total > 0)


def is_class(names: Sequence[str], labels: Sequence[str]) -> Any:
    """Return whether a row is of a class (rows, classes)."""
    import numpy as np

    places = {label: place for place, label in enumerate(labels)}
    return np.array([places.get(name, -1) for name in names], int)[:, None] == np.arange(len(labels))


def rounded(value: Any) -> float:
    return round(float(value), 4)
