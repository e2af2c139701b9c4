"""What each row contributes to the metrics of probabilities, and how their intervals hold."""

import math
import random
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from finetune.scoring.mean_interval import interval, ranking_interval
from finetune.scoring.metric_differences import metric_rows
from finetune.scoring.paired_comparison import paired_difference
from finetune.scoring.ranking_values import ranking_values
from finetune.scoring.tasks import Scored, score

FUNCTIONS = {"auroc": roc_auc_score, "auprc": average_precision_score}


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("decimals", [1, 6])  # with one decimal, many scores are equal
def test_values_are_how_much_the_metric_falls_without_the_row(classes: int, decimals: int) -> None:
    draw = np.random.default_rng(classes)
    truth = draw.random((40, classes)) < 0.4
    scores = (truth * 0.3 + draw.random((40, classes))).round(decimals)
    values = ranking_values(truth, scores)
    for name, function in FUNCTIONS.items():
        without = np.array([function(np.delete(truth, row, 0), np.delete(scores, row, 0)) for row in range(40)])
        assert np.mean(values[name]) == pytest.approx(function(truth, scores)), name
        assert values[name] == pytest.approx(np.mean(values[name]) + 39 * (without.mean() - without)), name


@pytest.mark.parametrize("right", [1, 2])
def test_a_class_of_one_row_has_values(right: int) -> None:
    truth = np.array([[True]] * right + [[False]] * 3)
    for scores in ([0.9, 0.8, 0.3, 0.2, 0.1], [0.5] * 5, [0.1, 0.2, 0.3, 0.8, 0.9]):
        values = ranking_values(truth, np.array(scores[: right + 3])[:, None])
        for one in values.values():
            low, high = ranking_interval(one)
            assert np.isfinite(one).all()
            assert 0 <= low < high <= 1


def with_probabilities(draw: random.Random, n: int, sure: float) -> tuple[list[str], list[Any]]:
    """Return classes, and the log-probabilities of a model that is more or less sure of the right one."""
    expected = draw.choices(["no", "yes"], [0.7, 0.3], k=n)
    logprobs = []
    for right in expected:
        odds = draw.gauss(sure if right == "yes" else -sure, 1)
        yes = 1 / (1 + math.exp(-odds))
        pair = sorted((("yes", math.log(yes)), ("no", math.log(1 - yes))), key=lambda one: -one[1])
        logprobs.append([[pair[0], *pair]])
    return expected, logprobs


def scored(expected: list[str], logprobs: list[Any]) -> Scored:
    return score("classify", expected, [one[0][0][0] for one in logprobs], ["no", "yes"], logprobs=logprobs)


def test_every_metric_of_probabilities_has_an_interval_and_a_difference() -> None:
    draw = random.Random(3)
    expected, before = with_probabilities(draw, 120, 0.4)
    sure = [[[(token, logprob), *tops] for (token, logprob), *tops in one] for one in before]
    models = {"base": scored(expected, before), "tuned": scored(expected, sure)}
    rows = {row["metric"]: row for row in metric_rows(models) if row["model"] == "base"}
    assert {"auroc", "auprc", "log_loss", "outside"} <= rows.keys()
    for name in ("auroc", "auprc", "log_loss", "outside"):
        assert rows[name]["low"] <= rows[name]["value"] <= rows[name]["high"], name
        assert rows[name]["value"] == pytest.approx(np.mean(models["base"].probability_values[name]), abs=1e-4)
        assert rows[name]["difference"] == 0
    assert models["base"].metrics.keys() >= {"auroc", "auprc", "log_loss", "outside"}


def test_a_log_loss_above_one_is_not_cut() -> None:
    expected = ["yes"] * 30 + ["no"] * 30
    wrong = [[[("no", -0.001), ("no", -0.001), ("yes", -8.0)]]] * 60
    right = [[[(one, -0.001), (one, -0.001)]] for one in expected]
    models = {"base": scored(expected, wrong), "tuned": scored(expected, right)}
    row = next(row for row in metric_rows(models) if (row["metric"], row["model"]) == ("log_loss", "base"))
    assert row["value"] > 3
    assert row["high"] > row["value"] > row["low"] > 1
    assert float(row["difference"]) == pytest.approx(models["tuned"].metrics["log_loss"] - row["value"], abs=1e-3)
    assert float(row["difference_low"]) < -3


@pytest.mark.parametrize(("count", "group", "is_told"), [(1, 1, False), (9, 1, False), (10, 1, True), (40, 10, False)])
def test_a_ranking_of_few_rows_of_a_class_has_no_interval(count: int, group: int, is_told: bool) -> None:
    """One row of 200 that is ranked first gave an AUROC of 1 (0.981 to 1), and p = 0 against another model."""
    expected = ["yes"] * count + ["no"] * (200 - count)
    logprobs = [[[(one, -0.1), (one, -0.1)]] for one in expected]
    models = {"base": scored(expected, logprobs), "tuned": scored(expected, logprobs)}
    groups = [row // group for row in range(200)]
    assert models["base"].metrics["auroc"] == 1
    found = {row["metric"] for row in metric_rows(models, groups, expected)}
    assert ("auroc" in found, "auprc" in found) == (is_told, is_told)
    assert {"log_loss", "outside", "accuracy", "macro_f1"} <= found


def test_without_log_probabilities_there_are_no_values() -> None:
    some = score("classify", ["a", "b"], ["a", "b"], ["a", "b"], logprobs=[[[("a", -0.1)]], []])
    assert some.probability_values == {}
    assert score("classify", ["a", "b"], ["a", "b"], ["a", "b"]).probability_values == {}


@pytest.mark.further
def test_intervals_cover_the_truth_and_false_differences_are_rare() -> None:
    """250 samples of 150 rows, of which 30 % have the class: 95 % cover, within the error of the simulation."""
    draw = random.Random(4)
    names = ("auroc", "auprc", "log_loss")
    truth = scored(*with_probabilities(draw, 60_000, 0.6)).metrics
    covered, different = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for _ in range(250):
        expected, one = with_probabilities(draw, 150, 0.6)
        # Another model of the same quality, on the same rows.
        found: list[Any] = []
        pool: dict[str, list[Any]] = {"no": [], "yes": []}
        while len(found) < len(expected):
            right = expected[len(found)]
            if not pool[right]:
                for kind, other in zip(*with_probabilities(draw, 40, 0.6), strict=True):
                    pool[kind].append(other)
                continue
            found.append(pool[right].pop())
        values = [scored(expected, rows).probability_values for rows in (one, found)]
        for name in names:
            low, high = (interval if name == "log_loss" else ranking_interval)(values[0][name])
            covered[name] += low <= truth[name] <= high
            different[name] += paired_difference(values[0][name], values[1][name])["p_value"] <= 0.05
    assert all(0.91 <= count / 250 <= 0.985 for count in covered.values()), covered
    assert all(count / 250 <= 0.08 for count in different.values()), different


def test_a_log_loss_of_one_group_has_no_interval() -> None:
    draw = random.Random(5)
    one = scored(*with_probabilities(draw, 40, 0.4))
    models = {"base": one, "tuned": one}
    assert "log_loss" not in {row["metric"] for row in metric_rows(models, [0] * 40)}
    assert "log_loss" in {row["metric"] for row in metric_rows(models, [0, 1] * 20)}
