"""Comparisons whose truth is known: intervals contain it, p-values are not too small, verdicts claim no more."""

import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.core.flatten import flatten
from finetune.scoring.evaluation import compare_models, pairs
from finetune.scoring.extract import extraction, unreadable
from finetune.scoring.generate import generation
from finetune.scoring.mean_interval import interval
from finetune.scoring.paired_comparison import holm, paired_difference, verdict
from finetune.scoring.power_of_tests import ALPHA
from finetune.scoring.tasks import Scored, score
from finetune.scoring.text_units import UnitTokenizer, is_by_letter, words_of

DRAWS = 1000


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    """Make each warning an error: a user could do nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def coverage(draw: Callable[[], tuple[Any, Any]], truth: float, draws: int = DRAWS) -> tuple[float, float]:
    """Return how often the interval of a difference contains the truth, and how often a difference is shown.

    `draw` returns the changes of rows and their groups. Interval and p-value must never contradict each other.
    """
    covered = shown = 0
    for _ in range(draws):
        changes, groups = draw()
        found = paired_difference([0.0] * len(changes), changes.tolist(), groups)
        covered += found["low"] <= truth <= found["high"]
        shown += found["p_value"] <= ALPHA
        if abs(found["p_value"] - ALPHA) > 1e-3:
            assert (found["p_value"] <= ALPHA) == (found["low"] > 0 or found["high"] < 0)
    return covered / draws, shown / draws


@pytest.mark.parametrize("rows", [20, 40, 169])
@pytest.mark.parametrize(("wins", "losses"), [(0.02, 0.02), (0.05, 0.05), (0.15, 0.15), (0.3, 0.05), (0.9, 0.01)])
def test_intervals_of_differences_between_rights_contain_the_truth(rows: int, wins: float, losses: float) -> None:
    random = np.random.default_rng(1)
    shares = [wins, losses, 1 - wins - losses]
    covered, shown = coverage(lambda: (random.choice([1.0, -1.0, 0.0], rows, p=shares), None), wins - losses)
    assert covered >= 0.93
    if rows * (wins + losses) >= 8:  # with fewer changes, shares are too coarse for 95 %
        assert covered <= 0.975
    if wins == losses:
        assert shown <= 0.06


@pytest.mark.parametrize(("count", "size"), [(40, 5), (20, 10), (10, 20)])
@pytest.mark.parametrize("alike", [0.0, 0.3, 0.8])
def test_rows_of_one_group_do_not_count_as_independent(count: int, size: int, alike: float) -> None:
    """`alike` is the share of a row's chance that its group shares."""
    from scipy.stats import norm

    random = np.random.default_rng(2)
    groups = np.repeat(np.arange(count), size).tolist()

    def draw() -> tuple[Any, Any]:
        common, own = random.normal(size=(count, 1)), random.normal(size=(count, size))
        ease = (common * alike**0.5 + own * (1 - alike) ** 0.5).ravel()
        return np.where(ease < norm.ppf(0.15), 1.0, np.where(ease > norm.ppf(0.85), -1.0, 0.0)), groups

    covered, shown = coverage(draw, 0.0, 600)
    assert covered >= 0.93
    assert shown <= 0.06
    if alike == 0.8:  # the same rows, taken as independent, are what the groups protect from
        assert coverage(lambda: (draw()[0], None), 0.0, 300)[0] < 0.85


@pytest.mark.parametrize("rows", [20, 50, 170])
@pytest.mark.parametrize("kind", ["normal", "f1", "few"])
def test_intervals_of_differences_between_scores_contain_the_truth(rows: int, kind: str) -> None:
    random = np.random.default_rng(3)
    f1 = [0.0, 0.33, 0.5, 0.67, 0.8, 1.0]

    def draw() -> tuple[Any, Any]:
        if kind == "normal":
            return random.normal(0, 0.08, rows), None
        if kind == "f1":
            one, other = random.choice(f1, (2, rows), p=[0.1, 0.1, 0.1, 0.2, 0.2, 0.3])
            return one - other, None
        return np.where(random.random(rows) < 0.05, random.choice([0.5, -0.5, 1.0, -1.0], rows), 0.0), None

    covered, shown = coverage(draw, 0.0)
    assert covered >= 0.93
    assert shown <= 0.07


@pytest.mark.slow
def test_kept_is_claimed_for_a_model_that_is_worse_by_the_margin_in_at_most_3_percent() -> None:
    """The models differ by the margin of 5 points, the least loss that is too large."""
    random = np.random.default_rng(4)
    for rows in (50, 100, 300):
        for wins in (0.01, 0.05, 0.1):
            kept = 0
            for _ in range(DRAWS):
                changes = random.choice([1.0, -1.0, 0.0], rows, p=[wins, wins + 0.05, 0.95 - 2 * wins])
                kept += paired_difference([0.0] * rows, changes.tolist())["low"] >= -0.05
            assert kept / DRAWS <= 0.03 + 2 * (0.025 * 0.975 / DRAWS) ** 0.5


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_interval_of_a_mean_contains_the_truth_in_95_percent(share: float) -> None:
    random = np.random.default_rng(5)
    found = [interval((random.random(200) < share).astype(float).tolist()) for _ in range(DRAWS)]
    assert 0.93 <= sum(low <= share <= high for low, high in found) / DRAWS <= 0.97
    found = [interval(random.beta(9 * share, 9 * (1 - share), 60).tolist()) for _ in range(DRAWS)]
    assert 0.93 <= sum(low <= share <= high for low, high in found) / DRAWS <= 0.97
    groups = np.repeat(np.arange(20), 10)
    shares = random.beta(4 * share, 4 * (1 - share), (DRAWS, 20))
    found = [interval((random.random(200) < one[groups]).astype(float).tolist(), groups.tolist()) for one in shares]
    assert 0.93 <= sum(low <= share <= high for low, high in found) / DRAWS <= 0.975


SCORES = st.sampled_from([0.0, 0.0104, 0.5, 1.0]) | st.floats(0, 1) | st.floats(-7, 7)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(SCORES, SCORES, st.integers(0, 4)), min_size=1, max_size=30), st.booleans())
def test_every_comparison_has_defined_figures(rows: list[tuple[float, float, int]], grouped: bool) -> None:
    before, after, groups = ([*column] for column in zip(*rows, strict=True))
    found = paired_difference(before, after, groups if grouped else None)
    assert found["low"] - 1e-4 <= found["lift"] <= found["high"] + 1e-4
    assert 0 <= found["p_value"] <= 1
    assert found["fresh_rows"] is None or found["fresh_rows"] >= 2
    assert "nan" not in verdict("f1", found, len(rows))
    low, high = interval(after, groups if grouped else None)
    assert low - 1e-4 <= np.mean(after) <= high + 1e-4


@pytest.mark.parametrize("rows", [1, 2, 5, 17, 50])
def test_few_rows_and_equal_changes_leave_an_interval(rows: int) -> None:
    """A model that is right in all of 20 rows may still be wrong in others: Tango's interval is 0.678 to 1."""
    for change in (0.0, 0.5, 1.0):
        found = paired_difference([0.0] * rows, [change] * rows)
        assert found["high"] - found["low"] > 1 / (rows + 2)
    found = paired_difference([0.0] * 20, [1.0] * 20)
    assert found["low"] == pytest.approx(0.678, abs=0.001)
    assert found["high"] == pytest.approx(1.0, abs=1e-4)
    found = paired_difference([0.0] * 16 + [0.0104], [1.0] * 17)  # a bootstrap has no interval here
    assert found["low"] < 0.8
    assert found["p_value"] < 0.01


@pytest.mark.slow
def test_a_million_rows_are_compared_in_seconds() -> None:
    random = np.random.default_rng(6)
    before, after = random.random((2, 1_000_000)).tolist()
    tracemalloc.start()
    found = paired_difference(before, after, list(range(1_000_000)))
    assert interval(after)[0] > 0.49
    assert tracemalloc.get_traced_memory()[1] < 300e6
    tracemalloc.stop()
    assert found["low"] < 0 < found["high"] or found["p_value"] < 0.05


@pytest.mark.further
def test_several_comparisons_are_corrected() -> None:
    """Six models that are alike, in 60 tables: without a correction, a quarter has a pair that is called different."""
    random = np.random.default_rng(7)
    tables = 0
    for _ in range(60):
        models = {
            name: Scored("accuracy", (random.random(100) < 0.7).astype(float).tolist(), {"accuracy": 0.7}, [])
            for name in [f"compared.{n}" for n in range(5)] + ["tuned"]
        }
        tables += any(not row["verdict"].startswith("no difference") for row in pairs(models))
    assert tables / 60 <= 0.12
    assert holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    found = paired_difference([0.0] * 8 + [1.0] * 92, [1.0] * 100)
    assert verdict("accuracy", found, 100).startswith("better")
    words = verdict("accuracy", found, 100, 0.06, 12)
    assert words.startswith("no difference shown after the correction for 12 comparisons (")
    assert "p = 0.06 corrected for 12 comparisons" in words


def test_the_published_example_in_which_pairing_matters() -> None:
    """Eight of a hundred rows are won and none is lost: McNemar's test gives 0.005, a test without pairs 0.08."""
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.proportion import proportions_ztest

    base, tuned = [1.0] * 84 + [0.0] * 16, [1.0] * 92 + [0.0] * 8
    found = paired_difference(base, tuned)
    assert found["p_value"] == pytest.approx(mcnemar([[84, 8], [0, 8]], exact=False, correction=False).pvalue, rel=0.01)
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
    assert 350 <= (found["fresh_rows"] or 0) <= 450
    words = verdict("accuracy", found, 100)
    assert f"a fresh test set of about {found['fresh_rows']} rows would show such a difference in 4 of 5 cases" in words


def test_a_checkpoint_that_test_rows_choose_is_called_exploratory() -> None:
    scores = {"base": [0.0] * 50, "checkpoints.5": [0.0, 1.0] * 25, "tuned": [1.0] * 50}
    models = {name: Scored("accuracy", rows, {"accuracy": 0.0}, []) for name, rows in scores.items()}
    found = compare_models(models)
    assert "exploratory" in found["checkpoints"]["5"]["lift"]["verdict"]
    assert "exploratory" not in found["lift"]["verdict"]
    assert found["lift"]["p_holm"] >= found["lift"]["p_value"]


def test_sets_are_scored_by_their_members_and_an_answer_without_json_scores_0() -> None:
    expected = ['["salt", "egg"]', '["milk"]', "[]", '["oats", "milk"]']
    values, metrics = extraction(expected, ['["Egg", "salt", "salt"]', "milk, I think", "[]", '```json\n["milk"]\n```'])
    assert values["f1"] == [1.0, 0.0, 1.0, pytest.approx(2 / 3)]
    assert (metrics["same_items"], metrics["exact_match"]) == (0.5, 0.25)
    assert (metrics["json_found"], metrics["strict_json"]) == (0.75, 0.5)
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
    values, metrics = extraction(["Peru\nKenya", "-5"], [answer, "-5"])
    assert values["f1"] == [pytest.approx(f1), 1.0]
    assert metrics["same_items"] == (1.0 if f1 == 1 else 0.5)
    assert metrics["exact_match"] == (1.0 if answer == "Peru\nKenya" else 0.5)
    assert "json_found" not in metrics


def test_an_expected_answer_that_is_no_json_is_compared_by_lines() -> None:
    """A number and a word had no items, so any answer without a list was right."""
    expected = ['["salt"]', "none", "42"]
    assert extraction(expected, ['["salt"]', "None", "42"])[0]["f1"] == [1.0, 1.0, 1.0]
    assert extraction(expected, ["salt", "anything", "17"])[0]["f1"] == [0.0, 0.0, 0.0]
    assert extraction(["[1] Peru\n[2] Kenya", "Mali"], ["[2] Kenya", "Mali"])[0]["f1"] == [pytest.approx(2 / 3), 1.0]
    assert extraction(["Answer: [1, 2]", "```json\n[3]\n```"], ["[2, 1]", "[3]"])[0]["f1"] == [1.0, 1.0]


@pytest.mark.parametrize("answer", ["", "I cannot help with that.", "none", "null", "42"])
def test_an_answer_that_cannot_be_read_is_no_empty_list(answer: str) -> None:
    values, metrics = extraction(["[]", '["a"]', "{}"], [answer, '["a"]', answer])
    assert values["f1"] == [0.0, 1.0, 0.0]
    assert metrics["exact_match"] == pytest.approx(1 / 3, abs=1e-4)
    assert metrics["f1_micro"] < 1
    values, metrics = extraction(["[]", "[]"], [answer, "[]"])
    assert values["f1"] == [0.0, 1.0]
    assert metrics["f1"] == 0.5


def test_expected_answers_that_cannot_be_read_are_found() -> None:
    assert unreadable(['["a"]', "none", "[]", "42", "a, b"]) == [1, 3, 4]
    assert unreadable(["a", "b\nc"]) == []  # one item a line in all answers
    assert unreadable(['["a"]', '{"b": 1}', "Answer: []"]) == []


@pytest.mark.parametrize("answer", ['Sure:\n```json\n["milk"]\n```', '["milk"] Enjoy!', '\n["milk"]'])
def test_json_is_found_in_a_verbose_answer(answer: str) -> None:
    assert extraction(['["milk"]'], [answer])[0]["f1"] == [1.0]


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
    values, metrics = extraction(['["a"]', '{"a": 1}'], [answer, answer])
    assert all(0 <= row <= 1 for row in values["f1"])
    assert all(0 <= value <= 1 for value in flatten(metrics).values())


def test_texts_are_scored_in_any_script() -> None:
    same = ["The lamp leaves us today.", "ランプは本日発送します。", "램프는 오늘 발송됩니다."]
    values, metrics = generation(same, same)
    assert values["chrf"] == values["rouge_l"] == [1.0, 1.0, 1.0]
    assert all(metrics[name] == 1 for name in ("chrf", "bleu", "rouge_l", "exact_match", "length_ratio"))
    assert "version:" in str(metrics["signature"])
    values, metrics = generation(same, ["The lamp left.", "椅子です。", ""])
    assert values["chrf"][0] > values["chrf"][1] >= values["chrf"][2] == 0
    assert UnitTokenizer().tokenize("Lamp ランプ, 램프! क़लम करें") == ["lamp", *"ランプ램프", "क़लम", "करें"]
    assert words_of("Lamp ランプ, 램프!") == ["lamp", *"ランプ", "램프"]


ENGLISH = [f"The parcel number {n} leaves our house on day {n % 7}, as you asked us." for n in range(30)]
NEAR = [f"Parcel number {n} left the house on day {n % 7}, as they asked for." for n in range(30)]


@pytest.mark.parametrize(
    ("truth", "guess"),
    [("ランプは本日発送します。", "ランプは明日発送します。"), ("램프는 오늘 발송됩니다.", "램프가 오늘 발송됩니다.")],
)
def test_one_row_of_another_script_changes_the_figures_by_one_row(truth: str, guess: str) -> None:
    """One Japanese row switched BLEU to letters for all: 0.129 became 0.377."""
    from sacrebleu.metrics.bleu import BLEU

    alone, mixed = generation(ENGLISH, NEAR), generation([*ENGLISH, truth], [*NEAR, guess])
    assert alone[1]["bleu"] == pytest.approx(BLEU().corpus_score(NEAR, [ENGLISH]).score / 100, abs=1e-4)
    assert abs(mixed[1]["bleu"] - alone[1]["bleu"]) < 0.03
    assert mixed[0]["rouge_l"][:30] == alone[0]["rouge_l"]
    assert "tok:char" not in alone[1]["signature"]
    assert "tok:13a" in mixed[1]["signature"]
    assert "tok:char" in mixed[1]["signature"]
    only = generation([truth] * 2, [guess] * 2)[1]
    assert only["bleu"] == pytest.approx(BLEU(tokenize="char").corpus_score([guess], [[truth]]).score / 100, abs=1e-4)
    assert only["bleu"] > BLEU().corpus_score([guess], [[truth]]).score / 100 + 0.1
    assert only["rouge_l"] > 0.8
    assert "tok:13a" not in only["signature"]


@pytest.mark.parametrize(
    ("text", "by_letter"),
    [
        ("これはテストです", True), ("这是 ABC-12 的测试", True), ("김씨는 서울에 갔다 (OK)", True), ("นี่คือ", True),
        ("ｶﾀｶﾅ", True), ("We met 田中 in Tokyo last week", False), ("Привет, мир", False), ("नमस्ते दुनिया", False),
        ("مرحبا", False), ("", False), ("12 345", False), ("😀", False),
    ],
)  # fmt: skip
def test_the_script_of_the_expected_text_decides_how_a_row_is_split(text: str, by_letter: bool) -> None:
    assert is_by_letter(text) == by_letter


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
