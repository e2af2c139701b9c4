"""The rows that another test set needs, checked by simulated sets of that size."""

import numpy as np
import pytest

from finetune.scoring.paired_comparison import paired_difference

SETS = 200
LEAST = 0.8 - 2 * (0.8 * 0.2 / SETS) ** 0.5


def shown(values: list[float], shares: list[float], rows: int, size: int = 1) -> float:
    """Return how often sets of `rows` rows show a difference. The rows of a group of `size` are alike."""
    random, found = np.random.default_rng(rows), 0
    for _ in range(SETS):
        changes = random.choice(values, -(-rows // size), p=shares).repeat(size)[:rows]
        groups = None if size == 1 else [row // size for row in range(rows)]
        found += paired_difference(np.zeros(rows), changes, groups)["p_value"] <= 0.05
    return found / SETS


@pytest.mark.parametrize(
    ("rows", "wins", "losses"),
    [(169, 128, 0), (169, 120, 7), (169, 94, 2), (45, 12, 4), (9, 5, 1), (9, 3, 0), (169, 15, 27)],
)
def test_a_set_of_that_size_shows_a_difference_of_right_answers(rows: int, wins: int, losses: int) -> None:
    changes = [1.0] * wins + [-1.0] * losses + [0.0] * (rows - wins - losses)
    fresh = paired_difference([0.0] * rows, changes)["fresh_rows"]
    assert fresh is not None
    shares = [wins / rows, losses / rows, 1 - (wins + losses) / rows]
    assert shown([1.0, -1.0, 0.0], shares, fresh) >= LEAST
    # Nor is it far too large.
    assert fresh <= 10 or shown([1.0, -1.0, 0.0], shares, fresh * 7 // 10) < 0.85


@pytest.mark.parametrize("values", [[0.5, 0.5, 0.5], [0.6, -0.2, 0.3], [0.5, -0.5, 0.01], [1.0, 0.5, 0.0]])
def test_a_set_of_that_size_shows_a_difference_of_other_scores(values: list[float]) -> None:
    fresh = paired_difference([0.0] * 100, values[:1] * 50 + values[1:2] * 10 + values[2:] * 40)["fresh_rows"]
    assert fresh is not None
    assert shown(values, [0.5, 0.1, 0.4], fresh) >= LEAST


@pytest.mark.parametrize("loss", [-1.0, -0.5])
def test_a_set_of_that_size_shows_a_difference_between_groups(loss: float) -> None:
    groups = [row // 5 for row in range(500)]
    fresh = paired_difference([0.0] * 500, [1.0] * 350 + [loss] * 50 + [0.0] * 100, groups)["fresh_rows"]
    assert fresh is not None
    assert shown([1.0, loss, 0.0], [0.7, 0.1, 0.2], fresh, 5) >= LEAST


def test_a_row_that_changed_alone_needs_three_more() -> None:
    """McNemar's test needs four changes of one kind: four wins have a p-value of 0.0455."""
    assert paired_difference([0.0], [1.0])["fresh_rows"] == 4


def test_nothing_is_said_of_one_group_and_of_no_difference() -> None:
    assert paired_difference([0.0] * 9, [1.0] * 9, [1] * 9)["fresh_rows"] is None
    assert paired_difference([0.0] * 9, [1.0, -1.0] + [0.0] * 7)["fresh_rows"] is None
