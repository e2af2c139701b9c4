"""Comparisons whose truth is known: intervals contain it, p-values are not too small, verdicts claim no more."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from finetune.core.errors import FinetuneError
from finetune.core.flatten import flatten
from finetune.scoring.evaluation import compare_models
from finetune.scoring.extract import extraction
from finetune.scoring.gates import unmet
from finetune.scoring.generate import WordTokenizer, generation
from finetune.scoring.paired_comparison import interval, paired_difference, verdict
from finetune.scoring.tasks import score

DRAWS = 1000


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    """Make each warning an error: a user could do nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_the_interval_of_a_difference_contains_the_truth_in_95_percent() -> None:
    """1,000 draws of 150 rows: base is right in 60 %, tuned in 75 %, and many rows are right in both."""
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(DRAWS):
        ease = random.random(150)
        base = (ease < 0.6).astype(float)
        tuned = np.where(random.random(150) < 0.2, random.random(150) < 0.75, ease < 0.75).astype(float)
        found = paired_difference(base.tolist(), tuned.tolist())
        covered += found["low"] <= 0.15 <= found["high"]
    assert 0.93 <= covered / DRAWS <= 0.97


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_interval_of_a_mean_contains_the_truth_in_95_percent(share: float) -> None:
    random = np.random.default_rng(2)
    found = [interval((random.random(200) < share).astype(float).tolist()) for _ in range(DRAWS)]
    assert 0.93 <= sum(low <= share <= high for low, high in found) / DRAWS <= 0.97


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    """The paired permutation test, on ten rows, whose 1,024 permutations are all tried."""
    from scipy.stats import kstest

    random = np.random.default_rng(3)
    before = random.normal(size=(300, 10))
    after = before + random.normal(size=(300, 10))
    p_values = [
        paired_difference(one, other)["p_value"] for one, other in zip(before.tolist(), after.tolist(), strict=True)
    ]
    assert kstest(p_values, "uniform").pvalue > 0.05


@pytest.mark.parametrize("common", [0.0, 0.8])
def test_exact_p_values_are_conservative(common: float) -> None:
    """McNemar's discrete p-values: at most 5 % are 0.05 or less, and so on. `common` is the share of equal rows."""
    random = np.random.default_rng(4)
    p_values = []
    for _ in range(500):
        before, other, alike = random.random((3, 100))
        after = np.where(alike < common, before, other)
        p_values.append(
            paired_difference((before < 0.7).astype(float).tolist(), (after < 0.7).astype(float).tolist())["p_value"]
        )
    for level in (0.01, 0.05, 0.1, 0.25, 0.5):
        error = 2.6 * (level * (1 - level) / len(p_values)) ** 0.5
        assert np.mean(np.array(p_values) <= level) <= level + error
    assert np.mean(np.array(p_values) <= 0.1) >= 0.02  # conservative, but not useless


def test_the_published_example_in_which_pairing_matters() -> None:
    """Eight of a hundred rows are won and none is lost: McNemar's test gives 0.008, a test without pairs 0.08."""
    from statsmodels.stats.proportion import proportions_ztest

    base, tuned = [1.0] * 84 + [0.0] * 16, [1.0] * 92 + [0.0] * 8
    found = paired_difference(base, tuned)
    assert found["p_value"] == pytest.approx(0.008, abs=0.0005)
    assert (found["wins"], found["losses"]) == (8, 0)
    assert proportions_ztest([84, 92], [100, 100])[1] == pytest.approx(0.08, abs=0.005)


@pytest.mark.parametrize(
    ("base", "tuned", "begins"),
    [
        ([0.0] * 50 + [1.0] * 50, [1.0] * 100, "better by 50.0 points"),
        ([1.0] * 100, [0.0] * 50 + [1.0] * 50, "worse by 50.0 points"),
        ([0.0, 1.0] * 50, [1.0, 0.0] * 50, "no difference shown"),
        ([1.0] * 40, [1.0] * 40, "no difference shown"),
        ([0.0], [1.0], "no difference shown"),
        ([0.0, 0.0], [1.0, 1.0], "no difference shown"),
    ],
)
def test_the_verdict_claims_only_what_is_shown(base: list[float], tuned: list[float], begins: str) -> None:
    assert verdict("accuracy", paired_difference(base, tuned), len(base)).startswith(begins)


def test_the_verdict_on_a_small_difference_names_the_rows_that_would_settle_it() -> None:
    found = paired_difference([1.0] * 50 + [0.0] * 50, [1.0] * 48 + [0.0] * 46 + [1.0] * 6)
    assert found["lift"] == 0.04
    assert 250 <= (found["more_rows"] or 0) <= 400
    assert f"about {found['more_rows']} more rows" in verdict("accuracy", found, 100)


def test_sets_are_scored_by_their_members_and_an_answer_without_json_scores_0() -> None:
    expected = ['["salt", "egg"]', '["milk"]', "[]", '["oats", "milk"]']
    rows, metrics = extraction(expected, ['["Egg", "salt", "salt"]', "milk, I think", "[]", '```json\n["milk"]\n```'])
    assert rows == [1.0, 0.0, 1.0, pytest.approx(2 / 3)]
    assert metrics["exact_match"] == 0.5
    assert metrics["valid_json"] == 0.75
    assert metrics["precision"] == 1.0
    assert metrics["recall"] == 0.6


@pytest.mark.parametrize(
    ("answer", "f1"),
    [
        ("Peru\nKenya", 1.0),
        ("kenya \n\n Peru\n", 1.0),
        ("- Peru\n- Kenya", 1.0),
        ("1. Peru\n2) Kenya", 1.0),
        ('["Peru", "Kenya"]', 1.0),
        ("```\nPeru\nKenya\n```", 1.0),
        ("Peru", 2 / 3),
        ("Peru\nKenya\nMali\nOman", 2 / 3),
        ("Japan", 0.0),
        ("", 0.0),
    ],
)
def test_lists_of_one_item_a_line_are_scored_as_sets(answer: str, f1: float) -> None:
    rows, metrics = extraction(["Peru\nKenya", "-5"], [answer, "-5"])
    assert rows == [pytest.approx(f1), 1.0]
    assert metrics["exact_match"] == (1.0 if f1 == 1 else 0.5)
    assert "valid_json" not in metrics


def test_an_expected_answer_that_is_no_json_is_compared_by_lines() -> None:
    """A number and a word had no items, so any answer without a list was right."""
    expected = ['["salt"]', "none", "42"]
    assert extraction(expected, ['["salt"]', "None", "42"])[0] == [1.0, 1.0, 1.0]
    assert extraction(expected, ["salt", "anything", "17"])[0] == [0.0, 0.0, 0.0]
    assert extraction(["[1] Peru\n[2] Kenya", "Mali"], ["[2] Kenya", "Mali"])[0] == [pytest.approx(2 / 3), 1.0]
    assert extraction(["Answer: [1, 2]", "```json\n[3]\n```"], ["[2, 1]", "[3]"])[0] == [1.0, 1.0]


@pytest.mark.parametrize("answer", ['Sure:\n```json\n["milk"]\n```', '["milk"] Enjoy!', '\n["milk"]'])
def test_json_is_found_in_a_verbose_answer(answer: str) -> None:
    assert extraction(['["milk"]'], [answer])[0] == [1.0]


def test_objects_are_scored_field_by_field() -> None:
    expected = ['{"city": "Oslo", "days": 2}', '{"city": "Rome", "days": 5}']
    _, metrics = extraction(expected, ['{"city": "oslo", "days": 3}', '{"city": "Rome"}'])
    assert metrics["fields"]["city"] == 1.0
    assert metrics["fields"]["days"] == 0.0
    assert metrics["right_shape"] == 0.5


@pytest.mark.parametrize(
    "answer", ["", "null", "[[[", "{}", "1e999", '["a"', '{"a": [1, {"b": null}]}', "\x00", "[" * 9999]
)
def test_any_answer_can_be_scored_as_an_extraction(answer: str) -> None:
    rows, metrics = extraction(['["a"]', '{"a": 1}'], [answer, answer])
    assert all(0 <= row <= 1 for row in rows)
    assert all(0 <= value <= 1 for value in flatten(metrics).values())


def test_texts_are_scored_in_any_script() -> None:
    same = ["The lamp leaves us today.", "ランプは本日発送します。", "램프는 오늘 발송됩니다."]
    rows, metrics = generation(same, same)
    assert rows == [1.0, 1.0, 1.0]
    assert (metrics["chrf"], metrics["rouge_l"], metrics["exact_match"], metrics["length_ratio"]) == (1, 1, 1, 1)
    assert "version:" in str(metrics["signature"])
    rows, metrics = generation(same, ["The lamp left.", "椅子です。", ""])
    assert rows[0] > rows[1] >= rows[2] == 0
    assert WordTokenizer().tokenize("Lamp ランプ, 램프!") == ["lamp", "ラ", "ン", "プ", "램프"]


def test_a_report_is_flat_and_names_each_comparison() -> None:
    expected = ["a", "b"] * 40
    models = {
        "base": score("classify", expected, ["a"] * 80, ["a", "b"]),
        "few_shot": score("classify", expected, ["a", "b"] * 30 + ["a"] * 20, ["a", "b"]),
        "tuned": score("classify", expected, expected, ["a", "b"]),
    }
    found = compare_models(models)
    assert found["tuned"]["accuracy"] == 1.0
    assert found["base"]["accuracy_low"] < 0.5 < found["base"]["accuracy_high"]
    assert found["lift"]["accuracy"] == 0.5
    assert found["lift"]["p_value"] < 1e-6
    assert found["lift_over_few_shot"]["accuracy"] == 0.125
    assert all(
        not isinstance(value, (list, dict))
        for part in found.values()
        if isinstance(part, dict)
        for value in part.values()
    )


@pytest.mark.parametrize("expected", [["a"], ["a"] * 5, ["a", "never seen"]])
def test_few_rows_and_one_class_have_defined_figures(expected: list[str]) -> None:
    models = {name: score("classify", expected, ["?"] * len(expected), ["a", "b"]) for name in ("base", "tuned")}
    found = compare_models(models)
    assert found["tuned"]["accuracy"] == 0.0
    assert found["lift"]["accuracy"] == 0.0
    assert found["lift"]["p_value"] == 1.0


METRICS: dict[str, Any] = {"tuned": {"accuracy": 0.8}, "lift": {"p_value": 1e-9, "test": "x"}, "n": 50}


def test_unmet_gates_are_named() -> None:
    assert unmet({"tuned.accuracy": ">= 0.8", "lift.p_value": "<= 0.05", "n": "> 49"}, METRICS) == []
    assert unmet({"tuned.accuracy": "> 0.8", "lift.p_value": "<= 1e-12"}, METRICS) == [
        "tuned.accuracy is 0.8, not > 0.8",
        "lift.p_value is 1e-09, not <= 1e-12",
    ]
    with pytest.raises(FinetuneError, match=r"no metric 'tuned\.acuracy'[\s\S]*tuned\.accuracy"):
        unmet({"tuned.acuracy": ">= 0.8"}, METRICS)
    with pytest.raises(FinetuneError, match="not a valid condition"):
        unmet({"tuned.accuracy": "at least 0.8"}, METRICS)
