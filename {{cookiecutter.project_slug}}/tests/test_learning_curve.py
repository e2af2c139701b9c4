"""The learning curve: which rows a share has, how well the intervals of the power law cover, and what is said."""

import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.special import ndtri

from finetune.core.disk import read_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED, TRAIN_GROUPS
from finetune.core.records.variants import VariantRecord
from finetune.core.sections.data import Data
from finetune.data.subsets import chosen_rows, write_subset
from finetune.report.learning_curve_page import make_learning_curve_page
from finetune.scoring.learning_curve import learning_curve, table_of, verdict_of
from finetune.scoring.power_law import ASSUMED_SPREAD, Point, fit_power_law
from finetune.stages import prepare

SHARES = (0.125, 0.25, 0.5, 1.0)
ROWS = 1000
RUNS = 150


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# The rows of a share


def test_shares_are_nested_and_keep_groups_whole() -> None:
    groups = np.repeat(np.arange(60), np.random.default_rng(1).integers(1, 9, 60)).tolist()
    sizes, before = [], np.zeros(len(groups), bool)
    for share in SHARES:
        chosen = chosen_rows(groups, share, seed=3)
        assert not (before & ~chosen).any(), "a larger share has all rows of a smaller one"
        inside = {group for group, one in zip(groups, chosen, strict=True) if one}
        assert all(one == (group in inside) for group, one in zip(groups, chosen, strict=True))
        sizes.append(int(chosen.sum()))
        before = chosen
    assert all(abs(size - share * len(groups)) <= 4 for size, share in zip(sizes, SHARES, strict=True))
    assert (chosen_rows(groups, 0.25, 3) == chosen_rows(groups, 0.25, 3)).all()
    assert (chosen_rows(groups, 0.25, 3) != chosen_rows(groups, 0.25, 4)).any()
    assert chosen_rows([0] * 40, 0.125, 1).all()  # one group cannot be divided


def test_prepare_writes_the_group_of_each_training_row() -> None:
    rows = [
        {"q": f"{n * 7919:x} {n**3:x} what", "a": "yes" if n % 2 else "no", "who": f"c{n // 5}"} for n in range(300)
    ]
    Path("raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prompt = {"user": "{q} {who}", "assistant": "{a}"}
    split = {"train": 0.7, "valid": 0.1, "test": 0.2}
    data = Data.model_validate({"file": "raw.jsonl", "prompt": prompt, "split": split, "group": "who"})
    prepare.run(cast("Params", SimpleNamespace(data=data)))
    asked = [row["messages"][0]["content"].split()[-1] for row in read_jsonl(PREPARED / "train.jsonl", "prepare")]
    groups = [row["group"] for row in read_jsonl(TRAIN_GROUPS, "prepare")]
    assert len(set(zip(asked, groups, strict=True))) == len(set(asked)) == len(set(groups))
    assert max(Counter(groups).values()) == 5

    count = write_subset(Path("part.jsonl"), 0.25, seed=1)
    part = [row["messages"][0]["content"].split()[-1] for row in read_jsonl(Path("part.jsonl"), "")]
    assert len(part) == count
    assert set(Counter(part).values()) == {5}
    Path(TRAIN_GROUPS).write_text('{"group": 0}\n', encoding="utf-8")
    with pytest.raises(FinetuneError, match="dvc repro prepare"):
        write_subset(Path("part.jsonl"), 0.25, seed=1)


# The law


def simulated(
    draw: np.random.Generator, law: tuple[float, float, float], test_rows: int, spread: float, seeds: int
) -> list[Point]:
    """Draw trainings whose error is least + gain × share^-exponent; their answers to a test row are alike."""
    least, gain, exponent = law
    hard = draw.standard_normal(test_rows)
    points = []
    for share in SHARES:
        error = least + gain * share**-exponent
        for _ in range(seeds):
            other = np.clip(error + draw.standard_normal() * spread * math.sqrt(error * (1 - error)), 1e-3, 1 - 1e-3)
            answers = 0.7 * hard + math.sqrt(1 - 0.7**2) * draw.standard_normal(test_rows)
            points.append(Point(round(ROWS * share), (answers > ndtri(other)).astype(float).tolist()))
    return points


def any_law(draw: np.random.Generator) -> tuple[float, float, float]:
    law = (1.0, 1.0, 1.0)
    while law[0] + law[1] * 8 ** law[2] > 0.85:
        law = draw.uniform(0, 0.25), draw.uniform(0.02, 0.2), draw.uniform(0.1, 1.0)
    return law


@pytest.mark.further
@pytest.mark.parametrize("test_rows", [169, 1000])
@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (1, 0.05), (1, ASSUMED_SPREAD), (3, 0.05), (3, 0.1)])
def test_the_intervals_cover_the_truth(test_rows: int, seeds: int, spread: float) -> None:
    """Nominal 95 %; of trainings that differ more than is assumed, only repeated ones are covered."""
    draw = np.random.default_rng(5)
    gains, levels = 0, 0
    for _ in range(RUNS):
        least, gain, exponent = law = any_law(draw)
        found = fit_power_law(simulated(draw, law, test_rows, spread, seeds))
        assert found
        half = gain * (1 - 2**-exponent)
        gains += found["gain_low"] - 1e-4 <= half <= found["gain_high"] + 1e-4
        twice = 1 - least - gain * 2**-exponent
        levels += found["twice"]["low"] - 1e-4 <= twice <= found["twice"]["high"] + 1e-4
    assert gains / RUNS >= 0.93
    assert levels / RUNS >= 0.92


@pytest.mark.slow
def test_a_flat_curve_is_not_said_to_rise() -> None:
    draw = np.random.default_rng(6)
    said_to_rise = 0
    for _ in range(RUNS):
        found = fit_power_law(simulated(draw, (draw.uniform(0.1, 0.5), 0.0, 1.0), 169, 0.05, 1))
        assert found
        said_to_rise += found["gain_low"] > 0
    assert said_to_rise / RUNS <= 0.05


def test_groups_of_test_rows_widen_the_interval() -> None:
    draw = np.random.default_rng(7)
    points = simulated(draw, (0.05, 0.15, 0.4), 30, 0.0, 1)
    repeated = [Point(rows, np.repeat(scores, 10).tolist()) for rows, scores in points]
    alone, together = fit_power_law(repeated), fit_power_law(repeated, np.repeat(np.arange(30), 10).tolist())
    assert alone
    assert together
    assert together["twice"]["high"] - together["twice"]["low"] > alone["twice"]["high"] - alone["twice"]["low"]


def test_a_law_without_noise_is_found() -> None:
    least, gain, exponent = 0.05, 0.1, 0.5
    scores = [1 - least - gain * share**-exponent for share in SHARES]
    points = [Point(round(8000 * share), [score] * 50) for share, score in zip(SHARES, scores, strict=True)]
    found = fit_power_law(points)
    assert found
    assert found["exponent"] == pytest.approx(exponent, abs=0.05)
    assert found["gain"] == pytest.approx(gain * (1 - 2**-exponent), abs=0.003)
    assert found["twice"]["rows"] == 16_000


def test_extreme_scores_have_a_defined_result() -> None:
    for value in (0.0, 1.0):
        found = fit_power_law([Point(rows, [value] * 20) for rows in (10, 20, 40, 80)])
        assert found
        assert all(0 <= one["low"] <= one["score"] <= one["high"] <= 1 for one in found["line"])
        assert 0 <= found["gain_low"] <= found["gain"] <= found["gain_high"] <= 1
    falling = fit_power_law(
        [Point(rows, [score] * 200) for rows, score in ((100, 0.9), (200, 0.7), (400, 0.9), (800, 0.4))]
    )
    assert falling
    assert not falling["fits"]
    assert "It is not known" in verdict_of(falling, "accuracy", 4)
    assert fit_power_law([Point(10, [0.5] * 9), Point(20, [0.6] * 9)]) is None


# What is said


def records(points: list[Point]) -> list[VariantRecord]:
    found = []
    for number, (rows, scores) in enumerate(points):
        mean = float(np.mean(scores))
        one = {"score": mean, "low": mean - 0.05, "high": mean + 0.05, "rows": " ".join(f"{one:g}" for one in scores)}
        record = {
            "rows": rows,
            "seed": 42 + number % 1,
            "n_epochs": 2,
            "usd": 0.5,
            "model": f"m{number}",
            "scores": one,
        }
        found.append(cast("VariantRecord", record))
    return found


@pytest.mark.parametrize(
    ("law", "test_rows", "words"),
    [
        ((0.02, 0.15, 0.5), 2000, "Twice the rows (2,000) would bring about"),
        ((0.1, 0.0, 0.5), 60, "It is not known what twice the rows (2,000) would bring: anything from nothing to"),
        ((0.005, 0.0, 0.5), 2000, "more rows of this kind hardly help"),
    ],
)
def test_the_verdict_says_no_more_than_the_trainings_show(law: Any, test_rows: int, words: str) -> None:
    points = simulated(np.random.default_rng(1), law, test_rows, 0.0, 1)
    curve = learning_curve(records(points), "accuracy", range(test_rows))
    assert words in curve["verdict"]
    assert any("was not measured" in note for note in curve["notes"])
    table = table_of(curve)
    assert [row["kind"] for row in table[:5]] == ["trained"] * 4 + ["fitted"]
    page = make_learning_curve_page(curve)
    assert curve["verdict"].partition(". ")[0].removesuffix(".") in page
    assert "twice the rows" in page
    assert 'class="band tuned"' in page


def test_two_sizes_make_a_page_without_a_law() -> None:
    points = simulated(np.random.default_rng(1), (0.1, 0.1, 0.5), 50, 0.0, 1)[:2]
    curve = learning_curve(records(points), "f1", range(50))
    assert curve["fit"] is None
    assert "needs three different numbers of rows" in make_learning_curve_page(curve)
