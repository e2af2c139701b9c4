"""Class probabilities from log-probabilities, and their calibration."""

import math
import time
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.scoring.calibration import calibration_bins, calibration_error
from finetune.scoring.class_masses import class_masses, class_probabilities, token_text, unseen_share
from finetune.scoring.class_reading import label_of
from finetune.scoring.probability_matrix import confidences
from finetune.scoring.probability_metrics import probability_metrics

Tops = list[list[tuple[str, float | None]]]


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    """Make each warning an error: a user could do nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def tops_of(*positions: dict[str, float]) -> Tops:
    """Return the alternatives of each token as a provider reports them: the chosen token, then all by probability."""
    tops: Tops = []
    for shares in positions:
        top: list[tuple[str, float | None]] = [(token, math.log(share)) for token, share in shares.items()]
        tops.append([top[0], *sorted(top, key=lambda one: -(one[1] or 0))])
    return tops


@pytest.mark.parametrize(
    ("positions", "labels", "masses"),
    [
        # One token decides; a token that begins no class is outside.
        ([{"billing": 0.7, "sales": 0.2, "The": 0.05}], ["sales", "billing"], [0.2, 0.7]),
        # Blanks, quotes, case and the rest of the answer are ignored.
        ([{' "Bill': 0.7, "SALES": 0.2}, {"board": 0.9, "ing": 0.1}], ["sales", "billing"], [0.2, 0.7]),
        # A quote decides nothing: the next token does. A quote as an alternative may begin any class.
        ([{'"': 0.6, "yes": 0.3}, {"no": 0.5, "yes": 0.25}], ["yes", "no"], [0.3 + 0.15, 0.3]),
        ([{"yes": 0.6, "**": 0.3}], ["yes", "no"], [0.75, 0.15]),
        # Two classes share their first token.
        (
            [{"return": 0.8, "billing": 0.1}, {" policy": 0.75, "s": 0.2, "ing": 0.05}],
            ["returns", "return policy", "billing"],
            [0.16, 0.6, 0.1],
        ),
        # The same in an alternative, or where the answer is cut: the mass is divided equally.
        ([{"billing": 0.6, "return": 0.3}], ["returns", "return policy", "billing"], [0.15, 0.15, 0.6]),
        ([{"return": 0.8, "billing": 0.1}], ["returns", "return policy", "billing"], [0.4, 0.4, 0.1]),
        # One class begins another: the end of the answer decides, or a character that is not a letter.
        ([{"sale": 0.9}], ["sale", "sales"], [0.9, 0.0]),
        ([{"sale": 0.9}, {".": 0.6, "s": 0.3, "ish": 0.1}], ["sale", "sales"], [0.54, 0.27]),
        ([{"sale": 0.9}, {"s": 0.6, "<|end|>": 0.3}], ["sale", "sales"], [0.27, 0.54]),
        ([{"sale": 0.5}, {" price": 0.5, "\n": 0.4, " now": 0.1}], ["sale", "sale price"], [0.25, 0.25]),
        # Codes.
        ([{"7": 0.8, "70": 0.1, "8": 0.1}], ["7", "70"], [0.8, 0.1]),
        ([{"7": 0.8, "8": 0.1}, {"0": 0.5, "1": 0.3}], ["7", "70", "8"], [0.0, 0.4, 0.1]),
        # No text, or no class.
        ([{"\n": 0.9}], ["yes", "no"], [0.0, 0.0]),
        ([{"The": 0.9, "yes": 0.1}, {" no": 0.9}], ["yes", "no"], [0.1, 0.0]),
        ([{"返品": 0.5, "配": 0.4}, {"です": 1.0}], ["返品", "配送"], [0.5, 0.4]),
    ],
)
def test_masses_computed_by_hand(positions: list[dict[str, float]], labels: list[str], masses: list[float]) -> None:
    assert class_probabilities(tops_of(*positions), labels) == pytest.approx(masses)


def test_bytes_of_a_letter_are_joined() -> None:
    """返 and 配 differ in their first byte, 返 and 買 in their second."""
    first, second, third = (text.encode().decode("latin-1") for text in ("返品", "配送", "買う"))
    tops = tops_of(
        {token_text(first[:1]): 0.6, token_text(second[:1]): 0.3},
        {token_text(first[1]): 0.9, token_text(third[1]): 0.1},
    )
    assert class_probabilities(tops, ["返品", "配送", "買う"]) == pytest.approx([0.54, 0.3, 0.06])
    assert token_text("yes") == "yes"


@pytest.mark.parametrize("absent", [math.nan, -math.inf, math.inf, None])
def test_log_probabilities_that_are_not_finite_are_ignored(absent: float | None) -> None:
    assert class_probabilities([[("yes", math.log(0.6)), ("no", absent)]], ["yes", "no"]) == pytest.approx([0.6, 0])
    assert class_probabilities([[("yes", absent), ("no", math.log(0.3))]], ["yes", "no"]) == pytest.approx([0, 0.3])
    assert all(map(math.isnan, class_probabilities([[("yes", absent)], []], ["yes", "no"])))


def test_without_tokens_masses_are_nan_and_unusual_tokens_are_accepted() -> None:
    assert all(map(math.isnan, class_probabilities([], ["yes", "no"])))
    assert class_probabilities([[("\ud83d", -0.1)], []], ["yes", "no"]) == [0, 0]
    assert class_probabilities([[("", -0.1)], [("yes", 0.0)]], ["yes", "no"]) == pytest.approx([math.exp(-0.1), 0])
    assert class_probabilities([[("Yes", 0.5), ("no", -0.1)]], ["yes", "no", ""]) == pytest.approx(
        [1 / (1 + math.exp(-0.1)), math.exp(-0.1) / (1 + math.exp(-0.1)), 0]
    )


LABELS = ["sale", "sales", "sale price", "return", "返品", "配送", "7", "70", "e-mail"]
tokens = st.text(alphabet="sale price70返品配送.-\"' \nreturnx", max_size=6)


@st.composite
def positions(draw: st.DrawFn) -> dict[str, float]:
    texts = draw(st.lists(tokens, min_size=1, max_size=8, unique=True))
    weights = [draw(st.integers(1, 100)) for _ in texts]
    return {text: weight / sum(weights) for text, weight in zip(texts, weights, strict=True)}


@settings(deadline=None)
@given(st.lists(positions(), min_size=1, max_size=5), st.permutations(LABELS))
def test_masses_sum_to_at_most_1_and_do_not_depend_on_the_order_of_classes(
    found: list[dict[str, float]], others: list[str]
) -> None:
    masses = class_probabilities(tops_of(*found), LABELS)
    assert min(masses) >= 0
    assert sum(masses) <= 1 + 1e-9
    permuted = dict(zip(others, class_probabilities(tops_of(*found), others), strict=True))
    assert [permuted[label] for label in LABELS] == pytest.approx(masses)


@pytest.mark.parametrize("label", LABELS)
@given(st.integers(0, 2**16), st.sampled_from(["", ".", "\n", '"']))
def test_a_certain_answer_has_mass_1_with_any_tokens(label: str, cuts: int, ending: str) -> None:
    """Its class is the one that `label_of` reads."""
    answer, pieces = label + ending, [""]
    for place, letter in enumerate(answer):
        pieces[-1] += letter
        if cuts >> place & 1:
            pieces.append("")
    masses = class_probabilities(tops_of(*({piece: 1.0} for piece in pieces if piece)), LABELS)
    assert dict(zip(LABELS, masses, strict=True)) == {name: float(name == label_of(answer, LABELS)) for name in LABELS}


def drawn(n: int, k: int, seed: int = 0, sharpness: float = 1.0) -> tuple[list[str], list[list[float]], list[str]]:
    """Return rows whose classes are drawn with a model's probabilities; sharpness above 1 makes it overconfident."""
    random = np.random.default_rng(seed)
    calibrated = random.dirichlet(np.ones(k), n)
    labels = [f"class {index}" for index in range(k)]
    truth = (calibrated.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)
    sharp = calibrated**sharpness
    return [labels[index] for index in truth], (sharp / sharp.sum(axis=1, keepdims=True)).tolist(), labels


def likeliest(probabilities: list[list[float]], labels: list[str]) -> list[str]:
    """Return the answers of a model that always gives the class that it finds likeliest."""
    return [labels[int(np.argmax(row))] for row in probabilities]


def test_two_classes_agree_with_sklearn() -> None:
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

    expected, probabilities, labels = drawn(500, 2)
    predicted = likeliest(probabilities, labels)
    found = probability_metrics(expected, predicted, (np.array(probabilities) * 0.8).tolist(), labels)
    truth, second = np.array(expected) == labels[1], np.array(probabilities)[:, 1]
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, second), abs=1e-4)
    assert found["auprc"] == pytest.approx(average_precision_score(truth, second), abs=1e-4)
    assert found["log_loss"] == pytest.approx(log_loss(truth, second), abs=1e-4)
    assert found["outside"] == 0.2
    bins = calibration_bins(expected, predicted, probabilities, labels)
    right = truth == (second > 0.5)
    shares, confidence = calibration_curve(right, np.maximum(second, 1 - second), n_bins=10)
    assert [one["accuracy"] for one in bins] == pytest.approx(shares.tolist(), abs=1e-4)
    assert [one["confidence"] for one in bins] == pytest.approx(confidence.tolist(), abs=1e-4)
    assert sum(one["rows"] for one in bins) == 500


def test_several_classes_are_averaged_one_against_the_rest() -> None:
    from sklearn.metrics import roc_auc_score

    expected, probabilities, labels = drawn(500, 4)
    predicted = likeliest(probabilities, labels)
    found = probability_metrics(expected, predicted, probabilities, labels)
    codes = [labels.index(name) for name in expected]
    assert found["auroc"] == pytest.approx(roc_auc_score(codes, probabilities, multi_class="ovr"), abs=1e-4)
    order = [2, 0, 3, 1]
    permuted = [[row[index] for index in order] for row in probabilities]
    permuted_labels = [labels[index] for index in order]
    assert probability_metrics(expected, predicted, permuted, permuted_labels) == pytest.approx(found, abs=1.1e-4)


def test_the_calibration_error_is_large_for_an_overconfident_model() -> None:
    found = []
    for sharpness in (1, 5):
        expected, probabilities, labels = drawn(5000, 3, sharpness=sharpness)
        predicted = likeliest(probabilities, labels)
        found.append(probability_metrics(expected, predicted, probabilities, labels))
    calibrated, overconfident = found
    assert calibrated["calibration_error"] < 0.025
    assert calibrated["calibration_error_low"] == 0
    assert overconfident["calibration_error_low"] > 0.15


@pytest.mark.slow
def test_the_interval_of_the_calibration_error_holds_the_true_error() -> None:
    """A calibrated model of 169 rows has an error of 0.07 by chance: its interval begins at 0. Simulated 200 times.

    Of strongly overconfident models, the interval of so few rows holds the true error in 89 % instead of 95 %.
    """
    for sharpness, true, least in ((1.0, 0.0, 0.94), (3.0, None, 0.87)):
        if true is None:
            expected, probabilities, labels = drawn(200_000, 5, 999, sharpness)
            large = calibration_bins(expected, likeliest(probabilities, labels), probabilities, labels)
            true = calibration_error(large)["calibration_error"]
        errors, covered = [], 0
        for seed in range(200):
            expected, probabilities, labels = drawn(169, 5, seed, sharpness)
            found = calibration_error(
                calibration_bins(expected, likeliest(probabilities, labels), probabilities, labels)
            )
            errors.append(found["calibration_error"])
            covered += found["calibration_error_low"] <= true <= found["calibration_error_high"]
        if not true:
            assert 0.05 < np.mean(errors) < 0.1
        assert covered / 200 >= least


def test_the_calibration_is_that_of_the_answer_and_not_of_the_likeliest_class() -> None:
    """A model that samples "b" with 0.4 is right in 0.4 of these answers: it is calibrated."""
    expected, predicted = ["b"] * 4 + ["a"] * 6, ["b"] * 10
    bins = calibration_bins(expected, predicted, [[0.6, 0.4]] * 10, ["a", "b"])
    assert bins == [{"confidence": 0.4, "accuracy": 0.4, "rows": 10}]
    # An answer that names no class has no confidence.
    assert calibration_bins(["a", "a"], ["a", "(none)"], [[0.9, 0.1]] * 2, ["a", "b"]) == [
        {"confidence": 0.9, "accuracy": 1.0, "rows": 1}
    ]


def test_with_over_20_classes_the_unseen_mass_is_shared_by_the_classes_that_no_alternative_names() -> None:
    """Of 25 classes 20 are seen with 0.9 in all: each other has at most the unseen 0.1, here a fifth of it."""
    labels = [chr(ord("a") + place) for place in range(25)]
    tops = [tops_of(dict.fromkeys(labels[:20], 0.9 / 20))] * 4
    read = [class_masses(one, labels) for one in tops]
    masses, unseen = [one for one, _ in read], [hidden for _, hidden in read]
    expected = ["a", "b", "c", "y"]
    found = probability_metrics(expected, ["a"] * 4, masses, labels, unseen)
    assert found["unseen"] == 1
    assert found["log_loss"] == pytest.approx((3 * -math.log(0.045) - math.log(0.02)) / 4, abs=1e-4)
    # Nothing is unseen: the row is at the floor, and counted.
    certain = class_masses(tops_of({"a": 1.0}), labels)
    found = probability_metrics(["y"], ["a"], [certain[0]], labels, [certain[1]])
    assert found["unseen"] == 1
    assert found["log_loss"] == pytest.approx(-math.log(1e-6), abs=1e-3)


def test_the_unseen_mass_of_a_later_token_is_that_of_the_classes_that_begin_so() -> None:
    masses, unseen = class_masses(tops_of({"order": 1.0}, {" 1": 0.7}), ["order 1", "order 2", "return 1"])
    assert masses == pytest.approx([0.7, 0, 0])
    assert list(unseen_share(1, masses, unseen)) == pytest.approx([0.3, 0.3])
    assert list(unseen_share(2, masses, unseen)) == pytest.approx([0, 0.3])
    assert list(unseen_share(None, masses, unseen)) == pytest.approx([0, 0.3])


def test_rows_without_probabilities_are_uniform() -> None:
    nothing = [math.nan, math.nan]
    expected, labels = ["no", "yes", "no", "yes"], ["no", "yes"]
    found = probability_metrics(expected, expected, [[0.8, 0.1], [0.1, 0.8], nothing, [0.0, 0.0]], labels)
    sure = -math.log(8 / 9) * 2
    assert found["no_logprobs"] == 1
    assert found["log_loss"] == pytest.approx((sure + 2 * math.log(2)) / 4, abs=1e-4)
    assert found["outside"] == pytest.approx((0.1 + 0.1 + 1) / 3, abs=1e-4)
    assert found["auroc"] == 0.875  # of four pairs three are right, and one is a tie
    # The row without log-probabilities has no confidence; that without mass in a class has one half.
    assert found["calibration_error"] == pytest.approx((2 / 9 + 1 / 2) / 3, abs=1e-4)
    assert probability_metrics(expected, expected, [nothing] * 4, labels) == {"no_logprobs": 4}
    assert calibration_bins(expected, expected, [nothing] * 4, labels) == []
    assert probability_metrics([], [], [], labels) == {"no_logprobs": 0}


@pytest.mark.parametrize(
    ("expected", "probabilities", "labels", "left_out"),
    [
        (["a", "a"], [[0.9, 0.1], [0.0, 0.5]], ["a", "b"], {"auroc", "auprc"}),
        (["a"], [[0.9, 0.1]], ["a", "b"], {"auroc", "auprc"}),
        (["a", "a"], [[0.9], [0.8]], ["a"], {"auroc", "auprc"}),
        (["never seen", "a"], [[1.0, 0.0], [1.0, 0.0]], ["b", "a"], set()),
        (["never seen", "nor this"], [[1.0, 0.0]] * 2, ["a", "b"], {"auroc", "auprc"}),
    ],
)
def test_small_and_unusual_data_have_finite_metrics(
    expected: list[str], probabilities: list[list[float]], labels: list[str], left_out: set[str]
) -> None:
    found = probability_metrics(expected, [labels[0]] * len(expected), probabilities, labels)
    every = {"auroc", "auprc", "log_loss", "outside", "unseen", "no_logprobs"}
    every |= {"calibration_error", "calibration_error_low", "calibration_error_high"}
    assert set(found) == every - left_out
    assert all(map(math.isfinite, found.values()))
    assert found["log_loss"] <= 13.8156


def test_the_confidence_in_the_class_that_was_answered() -> None:
    probabilities = [[0.6, 0.2], [0.1, 0.1], [math.nan, math.nan], [0.0, 0.0], [0.3, 0.6]]
    found = confidences(["a", "b", "a", "b", "(none)"], probabilities, ["a", "b"])
    assert found == [0.75, 0.5, 0.5, 0.5, 0]
    assert confidences([], [], ["a"]) == []


def a_large_task(n: int, k: int, seen: int) -> tuple[list[str], list[Tops], list[str]]:
    random = np.random.default_rng(0)
    labels = [f"{'return' if index % 2 else 'order'} {index}" for index in range(k)]
    truth = random.integers(0, seen, n)
    tops = [
        tops_of(
            {("return" if index % 2 else "order"): 0.8, **{f"other{one}": 0.01 for one in range(19)}},
            {f" {index}": 0.5, **{f" {one}": 0.02 for one in random.choice(k, 19, replace=False) if one != index}},
        )
        for index in truth
    ]
    return [labels[index] for index in truth], tops, labels


@pytest.mark.further
@pytest.mark.parametrize("seen", [500, 20])
def test_ten_thousand_rows_of_five_hundred_classes_take_seconds(seen: int) -> None:
    expected, tops, labels = a_large_task(10_000, 500, seen)
    start = time.process_time()
    read = [class_masses(top, labels) for top in tops]
    probabilities = [masses for masses, _ in read]
    found = probability_metrics(expected, expected, probabilities, labels, [unseen for _, unseen in read])
    sure = confidences(expected, probabilities, labels)
    assert time.process_time() - start < 15  # measured: 4; with an array stored by columns: 25
    assert found["auroc"] > 0.99
    assert min(sure) > 0.4
