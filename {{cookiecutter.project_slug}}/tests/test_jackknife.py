"""The values of rows for metrics that are no means of rows, and models that are compared by them."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from finetune.core.errors import FinetuneError
from finetune.scoring.classify import classification
from finetune.scoring.generate import generation
from finetune.scoring.item_sets import set_scores, values_of
from finetune.scoring.jackknife import class_metric_values
from finetune.scoring.mean_interval import interval
from finetune.scoring.metric_differences import metric_rows
from finetune.scoring.paired_comparison import paired_difference
from finetune.scoring.prediction_scores import with_metric
from finetune.scoring.tasks import score

LABELS = ["a", "b", "c"]
ROWS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "(none)"])), min_size=1, max_size=30)


@settings(deadline=None)
@given(ROWS, st.integers(2, 3), st.sampled_from([None, 0.5, 2.0]))
def test_the_mean_of_the_values_is_the_metric_of_scikit_learn(rows: Any, classes: int, beta: float | None) -> None:
    labels = LABELS[:classes]
    expected = [truth if truth in labels else "a" for truth, _ in rows]
    predicted = [guess if guess in labels else "(none)" for _, guess in rows]
    values = class_metric_values(expected, predicted, labels, beta)
    metrics = classification(expected, predicted, labels, beta)
    assert {name: round(float(one.mean()), 3) for name, one in values.items()} == {
        name: pytest.approx(metrics[name], abs=1e-3) for name in values
    }


def test_a_value_is_how_much_the_metric_falls_without_the_row() -> None:
    expected, predicted = list("aaabbcc"), list("aabbbca")
    values = class_metric_values(expected, predicted, LABELS, None)["macro_f1"]
    without = [
        classification(expected[:i] + expected[i + 1 :], predicted[:i] + predicted[i + 1 :], LABELS)["macro_f1"]
        for i in range(7)
    ]
    falls = np.mean(without) - np.array(without)
    assert values == pytest.approx(values.mean() + 6 * falls, abs=2e-3)


ITEMS = st.sets(st.sampled_from("abcde"), max_size=3)
AVERAGES = ["f1", "f1_micro", "f1_macro", "precision", "recall"]


@settings(deadline=None)
@given(st.lists(st.tuples(ITEMS, ITEMS), min_size=1, max_size=12))
def test_the_mean_of_the_values_of_sets_is_the_metric_of_scikit_learn(rows: list[tuple[set[str], set[str]]]) -> None:
    truths, guesses = ([*side] for side in zip(*rows, strict=True))
    values, metrics = set_scores(truths, guesses)
    assert {name: float(np.mean(values[name])) for name in AVERAGES} == pytest.approx(metrics, abs=1e-4)


def test_values_of_sets_are_how_much_the_metric_falls_without_the_row() -> None:
    truths, guesses = [{"a", "b"}, {"a"}, {"b", "c"}, set(), {"a"}], [{"a"}, {"a", "c"}, {"b"}, set(), {"b"}]
    values, _ = set_scores(truths, guesses)
    without = [set_scores(truths[:i] + truths[i + 1 :], guesses[:i] + guesses[i + 1 :])[1] for i in range(5)]
    for name in ("f1_micro", "f1_macro", "precision", "recall"):
        falls = np.mean([one[name] for one in without]) - np.array([one[name] for one in without])
        assert values[name] == pytest.approx(np.mean(values[name]) + 4 * falls, abs=2e-3), name


@pytest.mark.parametrize("task", ["extract", "generate"])
def test_models_may_be_compared_by_every_metric_of_a_task(task: Any) -> None:
    expected = ['["a", "b"]', '["a"]', '["c"]', "[]"]
    scored = score(task, expected, ['["a"]', '["a"]', "c, d", "[]"], schema={} if task == "extract" else None)
    others = {"length_ratio", "chrf_corpus"}
    numbers = {name for name, value in scored.metrics.items() if isinstance(value, float)} - others
    assert set(scored.values) == numbers
    for name in numbers:
        compared = with_metric(scored, name)
        assert len(compared.compared) == 4
        assert np.mean(compared.compared) == pytest.approx(scored.metrics[name], abs=1e-4), name
    assert {row["metric"] for row in metric_rows({"base": scored, "tuned": scored})} == numbers


def test_values_of_bleu_are_how_much_it_falls_without_the_row() -> None:
    expected = [
        "the cat sat on the mat today",
        "a dog ran far away from here",
        "ランプは本日発送します",
        "we like it very much",
    ]
    answered = [
        "the cat sat on a mat today",
        "a dog ran far away from home",
        "ランプは発送します",
        "we like this a lot",
    ]
    values = generation(expected, answered)[0]["bleu"]
    without = [
        generation(expected[:i] + expected[i + 1 :], answered[:i] + answered[i + 1 :])[1]["bleu"] for i in range(4)
    ]
    assert values == pytest.approx(np.mean(values) + 3 * (np.mean(without) - np.array(without)), abs=1e-3)


def answers(draw: random.Random, expected: list[str], right: float) -> list[str]:
    return [truth if draw.random() < right else draw.choice(LABELS) for truth in expected]


@pytest.mark.slow
def test_intervals_of_macro_f1_cover_the_truth_and_false_differences_are_rare() -> None:
    """300 samples of 150 rows of unbalanced classes: 95 % cover, within the error of the simulation."""
    draw = random.Random(1)

    def sample(n: int) -> tuple[list[str], list[str], list[str]]:
        expected = draw.choices(LABELS, [0.7, 0.2, 0.1], k=n)
        return expected, answers(draw, expected, 0.6), answers(draw, expected, 0.6)

    truth = classification(*sample(100_000)[:2], LABELS)["macro_f1"]
    covered = different = 0
    for _ in range(300):
        expected, one, other = sample(150)
        values = [class_metric_values(expected, rows, LABELS, None)["macro_f1"] for rows in (one, other)]
        low, high = interval(values[0])
        covered += low <= truth <= high
        different += paired_difference(values[0], values[1])["p_value"] <= 0.05
    assert 0.92 <= covered / 300 <= 0.98
    assert different / 300 <= 0.08


def test_false_differences_of_macro_f1_are_rare_with_groups() -> None:
    """300 samples of 85 groups of two rows, with 16 unbalanced classes. Without groups, 10 % showed a difference."""
    draw = random.Random(5)
    names = [f"class {number}" for number in range(16)]
    shares = [1 / (1 + number) for number in range(16)]
    groups = [row // 2 for row in range(170)]

    def in_pairs(texts: list[str]) -> list[str]:
        return [text for text in texts for _ in range(2)]

    different = {"macro_f1": 0, "recall": 0, "precision": 0}
    for _ in range(300):
        truths = draw.choices(names, shares, k=85)

        def answered(truths: list[str] = truths) -> list[str]:
            return in_pairs([one if draw.random() < 0.8 else draw.choices(names, shares)[0] for one in truths])

        before, after = (class_metric_values(in_pairs(truths), answered(), names, None, groups) for _ in range(2))
        for name in different:
            different[name] += paired_difference(before[name], after[name], groups)["p_value"] <= 0.05
    assert all(count / 300 <= 0.06 for count in different.values()), different


def test_values_with_groups_are_how_much_the_metric_falls_without_the_group() -> None:
    expected, predicted = list("aabbbccc"), list("abbbacca")
    groups = [0, 0, 1, 1, 1, 2, 3, 3]
    found = class_metric_values(expected, predicted, ["a", "b", "c"], 2.0, groups)
    alone = class_metric_values(expected, predicted, ["a", "b", "c"], 2.0, range(8))
    rows = class_metric_values(expected, predicted, ["a", "b", "c"], 2.0)
    for name, values in found.items():
        assert np.mean(values) == pytest.approx(np.mean(rows[name]))
        assert alone[name] == pytest.approx(rows[name])
    without = []
    for group in range(4):
        left = [row for row in range(8) if groups[row] != group]
        truth, guess = ([side[row] for row in left] for side in (expected, predicted))
        without.append(f1_score(truth, guess, labels=["a", "b", "c"], average="macro", zero_division=0.0))
    sums = np.bincount(groups, found["macro_f1"] - np.mean(found["macro_f1"]))
    assert sums == pytest.approx(8 * 3 / 4 * (np.mean(without) - np.array(without)))


@pytest.mark.slow
def test_intervals_of_sums_over_items_cover_the_truth() -> None:
    """200 samples of 150 rows with 0 to 4 items each, of which a model finds some and adds others."""
    draw = random.Random(2)

    def sample(n: int) -> tuple[list[set[str]], list[set[str]]]:
        truths = [set(draw.sample("abcdefgh", draw.randrange(5))) for _ in range(n)]
        return truths, [
            {one for one in "abcdefgh" if draw.random() < (0.7 if one in truth else 0.1)} for truth in truths
        ]

    truth = {name: float(np.mean(values)) for name, values in values_of(*sample(50_000)).items()}
    covered = dict.fromkeys(truth, 0)
    for _ in range(200):
        for name, values in values_of(*sample(150)).items():
            low, high = interval(values)
            covered[name] += low <= truth[name] <= high
    assert all(0.91 <= count / 200 <= 0.99 for count in covered.values()), covered


def test_the_verdict_may_be_about_macro_f1() -> None:
    """A model that finds a rare class is better by macro F1, and no difference shows by accuracy."""
    expected = ["a"] * 180 + ["b"] * 20
    before = score("classify", expected, ["a"] * 200, ["a", "b"])
    after = score("classify", expected, ["a"] * 170 + ["b"] * 24 + ["a"] * 6, ["a", "b"])
    rows = {row["metric"]: row for row in metric_rows({"base": before, "tuned": after}) if row["model"] == "base"}
    assert set(rows) == {"accuracy", "macro_f1", "weighted_f1", "precision", "recall"}
    assert float(rows["accuracy"]["difference_low"]) < 0 < float(rows["macro_f1"]["difference_low"])
    assert with_metric(after, "macro_f1").metric == "macro_f1"


def test_a_metric_without_values_is_refused_by_name() -> None:
    with pytest.raises(FinetuneError, match=r"'length_ratio'[\s\S]*Give one of chrf"):
        with_metric(score("generate", ["a"], ["a"]), "length_ratio")


def test_values_of_items_with_groups_are_how_much_the_metric_falls_without_the_group() -> None:
    truths, guesses = [{"a"}, {"a", "b"}, {"b"}, {"c"}, set()], [{"a", "b"}, {"a"}, {"b"}, {"c"}, {"a"}]
    groups = [0, 0, 1, 2, 1]
    matrix = MultiLabelBinarizer(classes=["a", "b", "c"])
    values = np.asarray(set_scores(truths, guesses, groups)[0]["f1_macro"])
    without = []
    for group in range(3):
        left = [row for row in range(5) if groups[row] != group]
        truth, guess = (matrix.fit_transform([side[row] for row in left]) for side in (truths, guesses))
        without.append(f1_score(truth, guess, labels=range(3), average="macro", zero_division=0.0))
    sums = np.bincount(groups, values - np.mean(values))
    assert sums == pytest.approx(5 * 2 / 3 * (np.mean(without) - np.array(without)))
    alone, rows = (set_scores(truths, guesses, units)[0]["f1_macro"] for units in (range(5), None))
    assert alone == pytest.approx(rows)
