"""The verdict on simulated curves whose truth is known: how often it is right, and how often it is a false alarm.

Each kind of truth is drawn 200 times with fixed seeds. Losses of batches have noise of 10 % or more, as providers'
result files have; losses of the whole validation file have noise of 0.3 %. `pytest -s` prints the tables.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from finetune.report.curve_verdict import curve_verdict
from finetune.report.training_curves import CurveRow

RUNS = 200
TRUTHS = ["converged", "improving", "overfitting", "diverging", "noisy"]
VERDICTS = ["converged", "improving", "overfitting", "diverging", "cannot tell"]
Random = np.random.Generator
Way = Callable[[str, Random], tuple[list[CurveRow], int]]  # of measuring: the rows, and the number of epochs


def true_losses(truth: str, at: np.ndarray, random: Random) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and the validation loss at shares of the run, without noise."""
    start, floor = random.uniform(1.5, 3), random.uniform(0.3, 0.8)
    quick = floor + (start - floor) * np.exp(-at / random.uniform(0.03, 0.1))
    if truth == "improving":
        falling = floor / 2 + (start - floor / 2) * np.exp(-at / random.uniform(0.3, 0.6))
        return falling, falling
    if truth == "overfitting":
        turn = random.uniform(0.2, 0.7)
        return quick, quick + floor * random.uniform(0.3, 1) * np.maximum(0, at - turn) / (1 - turn)
    if truth == "diverging":
        turn = random.uniform(0.1, 0.6)
        grown = quick + start * random.uniform(0.5, 2) * np.maximum(0, at - turn) / (1 - turn)
        return grown, grown
    if truth == "noisy":
        flat = np.full_like(at, floor)
        return flat, flat
    return quick, quick


def measured(
    truth: str, random: Random, steps: int, epochs: int, every: int, noise: float, whole_file: bool = True
) -> list[CurveRow]:
    """Return the rows of a run: a training loss at each step, a validation batch at some, the whole file per epoch."""
    at = np.arange(1, steps + 1) / steps
    train, valid = true_losses(truth, at, random)
    if truth == "noisy":
        noise *= 3
    batch, whole = (1 / share**2 for share in (noise, 0.003))  # shapes of gamma distributions of mean 1
    ends = {round(steps * epoch / epochs) for epoch in range(1, epochs + 1)} if whole_file else set()
    rows: list[CurveRow] = []
    for number in range(1, steps + 1):
        row: dict[str, str | float] = {"step": number, "train_loss": train[number - 1] * random.gamma(batch) / batch}
        if number % every == 0:
            row["valid_loss"] = valid[number - 1] * random.gamma(batch) / batch
        if number in ends:
            row["full_valid_loss"] = row["valid_loss"] = valid[number - 1] * random.gamma(whole) / whole
        rows.append(row)
    return rows


def openai(truth: str, random: Random) -> tuple[list[CurveRow], int]:
    epochs = int(random.integers(3, 6))
    return measured(truth, random, int(random.integers(90, 600)), epochs, 1, 0.1), epochs


def result_file(truth: str, random: Random) -> tuple[list[CurveRow], int]:
    steps = int(random.integers(80, 400))
    return measured(truth, random, steps, 3, max(1, steps // 80), 0.1, whole_file=False), 3


def engine(truth: str, random: Random) -> tuple[list[CurveRow], int]:
    epochs, steps = int(random.integers(4, 8)), int(random.integers(60, 300))
    return measured(truth, random, steps, epochs, max(1, steps // 20), 0.6), epochs


def one_epoch(truth: str, random: Random) -> tuple[list[CurveRow], int]:
    return measured(truth, random, int(random.integers(80, 400)), 1, 1, 0.1), 1


def many_steps(truth: str, random: Random) -> tuple[list[CurveRow], int]:
    return measured(truth, random, 4000, 2, 10, 0.15), 2


def few_steps(truth: str, random: Random) -> tuple[list[CurveRow], int]:
    epochs = int(random.integers(4, 7))
    return measured(truth, random, 5 * epochs, epochs, 3, 0.1), epochs


def few_noisy_batches(truth: str, random: Random) -> tuple[list[CurveRow], int]:
    steps = int(random.integers(20, 200))
    return measured(truth, random, steps, 1, max(1, steps // 20), 0.4), 1


def confusion(ways: list[Way], truths: list[str]) -> dict[str, Counter[str]]:
    """Return how often each truth got each verdict, in turn by the ways of measuring, and print it."""
    table: dict[str, Counter[str]] = {}
    for truth in truths:
        random = np.random.default_rng(15)
        runs = [ways[number % len(ways)](truth, random) for number in range(RUNS)]
        table[truth] = Counter(curve_verdict(rows, epochs).verdict for rows, epochs in runs)
    print("\n" + " ".join(word.rjust(12) for word in ["truth", *VERDICTS]))
    for truth, found in table.items():
        print(" ".join(str(cell).rjust(12) for cell in [truth, *(found[word] for word in VERDICTS)]))
    return table


@pytest.mark.further
def test_nine_of_ten_verdicts_are_right_where_the_truth_can_be_told() -> None:
    table = confusion([openai, result_file, engine, one_epoch, many_steps, few_steps], TRUTHS)
    for truth in ("converged", "improving", "overfitting", "diverging"):
        assert table[truth][truth] >= 0.9 * RUNS, truth
        assert truth == "overfitting" or table[truth]["overfitting"] <= 0.05 * RUNS
    noisy = table["noisy"]
    assert noisy["converged"] + noisy["cannot tell"] >= 0.95 * RUNS
    assert noisy["overfitting"] <= 0.05 * RUNS


@pytest.mark.slow
def test_few_noisy_batches_give_no_false_alarms() -> None:
    table = confusion([few_noisy_batches], ["converged", "improving", "noisy"])
    for truth in table:
        assert table[truth]["overfitting"] <= 0.05 * RUNS, truth
        assert table[truth]["diverging"] <= 0.05 * RUNS, truth
    assert table["noisy"]["cannot tell"] >= 0.9 * RUNS


def test_one_validation_loss_shows_nothing() -> None:
    random = np.random.default_rng(15)
    for truth in ("converged", "improving", "overfitting", "noisy"):
        rows = measured(truth, random, 100, 1, 1000, 0.1)  # one epoch: the whole file at its end, and no batch
        found = curve_verdict(rows, 1)
        assert (found.verdict, found.n_epochs) == ("cannot tell", None)
        assert "only once" in found.words
