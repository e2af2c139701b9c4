"""The smallest difference that a test split can show, checked by simulation."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, ttest_1samp

from finetune.core.records.checks import ValidationReport
from finetune.core.shown_difference import shown_difference
from finetune.scoring.detectable_difference import (
    ALIKE,
    CHANGED,
    SPREADS,
    assumed_effect,
    assumption_of,
    detectable_difference,
)
from finetune.scoring.paired_comparison import paired_difference


def found_for(task: Any, rows: int) -> float:
    found = detectable_difference(task, rows)
    assert found is not None
    return found


@pytest.mark.parametrize("rows", [12, 50, 169, 1000])
def test_the_score_test_shows_the_difference_in_four_of_five_simulated_sets(rows: int) -> None:
    found, draw = found_for("classify", rows), np.random.default_rng(rows)
    changed = max(CHANGED, found)
    win, loss = (changed + found) / 2, (changed - found) / 2
    sets = draw.multinomial(rows, [win, loss, 1 - win - loss], 4000)
    statistics = (sets[:, 0] - sets[:, 1]) / np.sqrt(np.maximum(1, sets[:, 0] + sets[:, 1]))
    assert np.mean(np.abs(statistics) >= norm.ppf(0.975)) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("task", ["extract", "generate"])
def test_a_paired_t_test_shows_the_difference_in_four_of_five_simulated_sets(task: Any) -> None:
    sets = np.random.default_rng(1).normal(found_for(task, 60), SPREADS[task], (4000, 60))
    assert np.mean(ttest_1samp(sets, 0, axis=1).pvalue <= 0.05) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("task", "rows"), [("classify", 60), ("extract", 8), ("extract", 60)])
def test_the_test_of_the_evaluation_shows_the_difference(task: Any, rows: int) -> None:
    found, random = found_for(task, rows), np.random.default_rng(1)
    changed = max(CHANGED, found)
    shares = [(changed + found) / 2, (changed - found) / 2, 1 - changed]

    def changes() -> list[float]:
        if task == "classify":
            return list(random.choice([1.0, -1.0, 0.0], rows, p=shares))
        return list(random.normal(found, SPREADS[task], rows))

    shown = [paired_difference([0.0] * rows, changes())["p_value"] <= 0.05 for _ in range(1500)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("task", ["classify", "extract"])
@pytest.mark.parametrize(("count", "size"), [(20, 10), (40, 5), (60, 1)])
def test_with_groups_the_test_of_the_evaluation_shows_the_difference(task: Any, count: int, size: int) -> None:
    """As many groups of rows, whose differences correlate as is assumed."""
    groups = [number // size for number in range(count * size)]
    found, random = detectable_difference(task, len(groups), groups), np.random.default_rng(1)
    assert found is not None
    changed = max(CHANGED, found)
    shares = [(changed + found) / 2, (changed - found) / 2, 1 - changed]

    def changes() -> list[float]:
        if task == "classify":  # a row has its group's outcome, or one of its own
            own, common = (random.choice([1.0, -1.0, 0.0], n, p=shares) for n in (len(groups), count))
            return list(np.where(random.random(len(groups)) < ALIKE**0.5, common[groups], own))
        own, common = (random.normal(0, SPREADS[task], n) for n in (len(groups), count))
        return list(found + (1 - ALIKE) ** 0.5 * own + ALIKE**0.5 * common[groups])

    shown = [paired_difference([0.0] * len(groups), changes(), groups)["p_value"] <= 0.05 for _ in range(1000)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.06)


def test_alike_rows_show_only_larger_differences() -> None:
    groups = [number // 10 for number in range(200)]
    assert found_for("classify", 200) == pytest.approx(0.0867, abs=0.001)
    assert detectable_difference("classify", 200, groups) == pytest.approx(0.1591, abs=0.001)
    assert detectable_difference("classify", 200, list(range(200))) == found_for("classify", 200)
    assert assumed_effect(groups) == (1 + 9 * ALIKE, 20)
    assert assumed_effect([0, 0, 0, 1, 2, 3]) == (1 + (12 / 6 - 1) * ALIKE, 4)  # of unequal size


@pytest.mark.parametrize("task", ["classify", "extract", "generate"])
def test_few_groups_show_nothing(task: Any) -> None:
    assert detectable_difference(task, 300, [number // 100 for number in range(300)]) is None


def test_the_assumption_is_that_of_the_difference() -> None:
    assert assumption_of("classify", 0.1) == "if one model is right and the other wrong in 20% of the rows"
    assert assumption_of("classify", 0.4) == "if one model is right and the other wrong in 40% of the rows"
    assert assumption_of("extract", 0.1) == "if the differences of the rows have a standard deviation of 0.3"
    assert assumption_of("generate", None) == ""
    alike = (
        "if the differences of the rows have a standard deviation of 0.2, and the differences of two rows of a group"
    )
    assert assumption_of("generate", 0.1, 200, 20) == f"{alike} correlate by 0.3"
    assert assumption_of("generate", 0.1, 200, 200) == assumption_of("generate", 0.1)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["classify", "extract", "generate"]), st.integers(0, 5000))
def test_more_rows_show_a_smaller_difference(task: Any, rows: int) -> None:
    few, more = detectable_difference(task, rows), detectable_difference(task, rows + max(5, rows // 5))
    assert few is None or (more is not None and 0 < more < few <= 1)


@pytest.mark.parametrize(("task", "rows"), [("classify", 0), ("classify", 3), ("extract", 1), ("generate", 7)])
def test_too_few_rows_show_nothing(task: Any, rows: int) -> None:
    assert detectable_difference(task, rows) is None


@pytest.mark.parametrize(
    ("rows", "found", "words"),
    [
        (169, 0.0996, "with 169 test rows, a difference of 10 points can be shown (80 % power, if so)."),
        (169, 0.1001, "warning: with 169 test rows, a difference of 11 points can be shown (80 % power, if so). For"),
        (1_000_000, 0.0013, "with 1,000,000 test rows, a difference of 1 point can be shown (80 % power, if so)."),
        (3, None, "warning: with 3 test rows, no difference can be shown. Add rows, or raise data.split.test."),
    ],
)
def test_the_sentence_rounds_up_and_warns_of_a_small_split(rows: int, found: float | None, words: str) -> None:
    report = {"examples": {"test": rows}, "detectable_difference": found, "difference_assumes": "if so"}
    sentence = shown_difference(cast("ValidationReport", report))
    assert sentence.startswith(words)
    assert sentence.startswith("warning") == (found is None or found > 0.1)


def test_the_sentence_names_groups() -> None:
    report = {"examples": {"test": 200}, "test_groups": 20, "detectable_difference": 0.19, "difference_assumes": "if"}
    sentence = shown_difference(cast("ValidationReport", report))
    assert sentence.startswith("warning: with 200 test rows in 20 groups, a difference of 19 points can be shown")
    assert "add groups" in sentence
